"""python -m npshapenet: the command npshapenet."""

import sys

from npshapenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
