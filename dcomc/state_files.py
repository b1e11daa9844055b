"""Files in which interrupted work keeps how far it is, beside its output, until that is whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcomc.diagnostics import DcomError


def state_path(output: Path) -> Path:
    """Where the state of work is kept until its output is written."""
    return output.with_name(output.name + ".state")


def damaged(path: Path, work: str) -> DcomError:
    """The error of a file that is no state of such work, or a damaged one."""
    return DcomError(f"{path} is no state of {work}, or damaged", hint="give --restart to begin anew")


def check_identity(path: Path, work: str, found: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise `DcomError` where a state is of other work than this.

    Args:
        identity: what this work is of and how it is done; its keys are words that follow "other" in the error.
    """
    for key, value in identity.items():
        if found.get(key) != value:
            raise DcomError(
                f"{path} is the state of {work} with other {key}",
                hint="give what it was begun with, or --restart",
            )
