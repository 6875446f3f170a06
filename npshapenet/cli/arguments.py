"""What the subcommands' arguments share: the form of their help and errors, and the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from npshapenet.cli.errors import FAILED, USAGE, CommandError, reason
from npshapenet.model import DEFAULT_MODEL, BackendName, Model, bundled_models, load
from npshapenet.weights import WeightsError


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose help keeps its line breaks and whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings
        )

    def error(self, message: str) -> NoReturn:
        """Exit with the status for a wrong command line."""
        self.exit(USAGE, f"{self.prog}: {message} ({self.prog} --help explains)\n")


def add_model_arguments(parser: argparse.ArgumentParser, backend: bool = True) -> None:
    """Add --model, and --backend where there is a choice."""
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        default=DEFAULT_MODEL,
        help=f"a bundled model ({', '.join(bundled_models())}) or the path of a weights file, "
        "which has a folder or ends in .npz; default: %(default)s",
    )
    if backend:
        parser.add_argument(
            "--backend",
            choices=get_args(BackendName),
            help="what computes; default: numba, which compiles once, where it is installed",
        )


def open_model(name_or_path: str, backend: BackendName | None = None) -> Model:
    """The model that --model and --backend ask for; CommandError if there is none."""
    try:
        return load(name_or_path, backend)
    except WeightsError as error:
        raise CommandError(reason(error), FAILED) from error
    except OSError as error:
        raise CommandError(f"{name_or_path}: {reason(error)}", USAGE) from error
    except (ImportError, ValueError) as error:
        raise CommandError(reason(error), USAGE) from error


def examples(lines: Sequence[str]) -> str:
    """The end of a help text: commands to try."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])
