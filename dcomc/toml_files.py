"""Reading TOML files, so that every mistake in one is an error that names the file."""

import tomllib
from pathlib import Path

from dcomc.diagnostics import DcomError


def read_toml(path: str | Path, hint: str) -> dict[str, object]:
    """The table of a TOML file.

    Raises:
        DcomError: no such file, with `hint` as what to do about it; or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise DcomError("not TOML: it is no UTF-8 text", place=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise DcomError(f"not TOML: {error}", place=str(path)) from error
    except RecursionError as error:
        raise DcomError("not TOML: it is nested too deeply", place=str(path)) from error
