"""Reading TOML files, so that every mistake in one is an error that names the file."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from math import inf
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from dcomc.diagnostics import DcomError, did_you_mean

T = TypeVar("T")

_CONFIGS = Path(__file__).parent / "configs"
_HEADING = re.compile(r"\s*\[([^\[\]]+)\]")
"""Of a table, such as `[layers.14.sites.o]`."""
_KINDS = {int: "a positive integer", float: "a positive number", str: "a string"}


def read_toml(path: str | Path, hint: str) -> dict[str, object]:
    """The table of a TOML file.

    Raises:
        DcomError: no such file, with `hint` as what to do about it; or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise DcomError("not TOML: it is no UTF-8 text", place=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise DcomError(f"not TOML: {error}", place=str(path)) from error
    except RecursionError as error:
        raise DcomError("not TOML: it is nested too deeply", place=str(path)) from error


def line_of(path: str | Path, table: Sequence[str], key: str | None = None) -> int | None:
    """The line, from 1, on which a file sets a key under the heading of a table; None where it says so otherwise.

    Without a key, the line of the heading of the table, or of one within it.
    """
    inside: list[str] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        if heading := _HEADING.match(line):
            inside = [name.strip(" \t\"'") for name in heading[1].split(".")]
            if key is None and inside[: len(table)] == [*table]:
                return number
        elif key and inside == [*table] and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return None


def from_table(kind: type[T], values: Mapping[str, Any], place: str, example: str, prefix: str = "") -> T:
    """A dataclass of positive integers, positive numbers, strings and dataclasses of these, from a table.

    Args:
        kind: every field is needed, and there are no others.
        place: the file, for errors.
        example: a file that shows all keys.

    Raises:
        DcomError: a key is unknown or missing, or a value has the wrong type or is not positive.
    """
    types = get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise DcomError(f"unknown key '{prefix}{unknown[0]}'", hint=did_you_mean(unknown[0], types), place=place)
    missing = sorted(set(types) - set(values))
    if missing:
        raise DcomError(f"missing key '{prefix}{missing[0]}'", hint=f"{example} shows all keys", place=place)
    typed: dict[str, Any] = {}
    for key, wanted in types.items():
        value = values[key]
        if is_dataclass(wanted):
            if not isinstance(value, dict):
                raise DcomError(f"'{prefix}{key}' must be a table", place=place)
            table = cast(dict[str, Any], value)
            typed[key] = from_table(cast(type[Any], wanted), table, place, example, f"{prefix}{key}.")
            continue
        typed[key] = float(value) if wanted is float and type(value) is int else value
        if type(typed[key]) is not wanted or (wanted is not str and not 0 < typed[key] < inf):
            raise DcomError(f"'{prefix}{key}' must be {_KINDS[wanted]}, not {value!r}", place=place)
    return kind(**typed)


def shipped_file(folder: str, name_or_file: str) -> tuple[str | Path, str]:
    """The TOML file of a configuration by its name, or itself where a file is named; and a hint of what there is.

    Args:
        folder: of `dcomc/configs`, such as `machines`.

    Raises:
        DcomError: neither a known name nor like a file.
    """
    shipped = {file.stem: file for file in (_CONFIGS / folder).glob("*.toml")}
    if name_or_file not in shipped and not Path(name_or_file).suffix and not Path(name_or_file).exists():
        kind = folder[:-3] + "y" if folder.endswith("ies") else folder.removesuffix("s")
        raise DcomError(f"unknown {kind} '{name_or_file}'", hint=did_you_mean(name_or_file, shipped))
    hint = f"give a TOML file or one of: {', '.join(sorted(shipped))}"
    return shipped.get(name_or_file, name_or_file), hint
