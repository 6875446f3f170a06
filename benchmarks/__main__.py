"""python -m benchmarks: see command.py.

Before anything is imported: the installed npshapenet is what is measured, not the folder beside
this one, and libraries read their number of threads from the environment when they are loaded.
"""

from __future__ import annotations

import importlib.util
import sys

import reference  # noqa: F401 (found while the checkout is searched; imports nothing)
from benchmarks import one_core

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working folder, which -m puts first.
        del sys.path[0]
    if importlib.util.find_spec("npshapenet") is None:
        sys.exit('npshapenet is not installed: pip install ".[bench]"')
    one_core.limit_threads()
    one_core.pin()

    from benchmarks.command import main

    sys.exit(main())
