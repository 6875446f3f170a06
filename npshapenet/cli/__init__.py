"""The command npshapenet: its subcommands, and how it ends."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Final

import npshapenet
from npshapenet.cli import demo, info, predict, video
from npshapenet.cli.arguments import Parser, examples
from npshapenet.cli.errors import INTERRUPTED, USAGE, CommandError

#: What a shell reports of a command that a pipe closed by its reader has ended.
PIPE_CLOSED: Final = 128 + 13

_EXAMPLES: Final = (
    "npshapenet demo                                  on a photo that comes with it",
    "npshapenet predict portrait.jpg --box 175 76 266 167",
    "npshapenet predict face-crops/*.png --whole --out landmarks.csv --draw overlays",
    "npshapenet video talk.mp4 --out talk-landmarks.mp4",
    "npshapenet info                                  what the bundled weights are",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A photo's name may be no Unicode, and a terminal may know little of it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_in_one_line
            status = _run(arguments)
        sys.stdout.flush()
    except CommandError as error:
        print(f"npshapenet: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("npshapenet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python would try to flush once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as end:  # --help, --version, a wrong command line
        return int(end.code or 0)
    if parsed.run is None:
        parser.print_help(sys.stderr)
        return USAGE
    status: int = parsed.run(parsed)
    return status


def _show_in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(message, file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(
        prog="npshapenet",
        description="Face landmarks by ShapeNet: a small network gives the parameters of a shape "
        "model.",
        epilog=f"{examples(_EXAMPLES)}\n\nnpshapenet COMMAND --help tells more of each.",
    )
    parser.add_argument(
        "--version", action="version", version=f"npshapenet {npshapenet.__version__}"
    )
    parser.set_defaults(run=None)
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for subcommand in (predict, video, demo, info):
        subcommand.add_to(subcommands)
    return parser
