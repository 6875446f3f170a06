"""Hooks for PyInstaller, which finds them by the entry point ``pyinstaller40`` on its own.

They put into a program what PyInstaller doesn't see by the imports: the weights, the photos of
the demo and the machine code that a wheel may carry; and the sources of the compiled engine, whose
digest is the key of the code that is kept, and of the versions of what compiles it. Each file is
named after the module that it is for, and run by PyInstaller where a program has that module.
"""

from __future__ import annotations

import os


def hook_folders() -> list[str]:
    """Where the hooks are."""
    return [os.path.dirname(__file__)]
