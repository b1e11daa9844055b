"""Reading TOML files, so that every mistake in one is an error that names the file."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from math import inf
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from dcomc.diagnostics import DcomError, did_you_mean

T = TypeVar("T")

_CONFIGS = Path(__file__).parent / "configs"
_NAME = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_KEY = re.compile(rf"\s*(\[*)\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*[=\]]")
"""What begins a line that is a heading, such as `[layers.14.sites.o]`, or that sets a key."""
_KINDS = {int: "a positive integer", float: "a positive number", str: "a string"}


@dataclass(frozen=True)
class Description:
    """A machine, a GPU or a technology. Every field comes from its TOML file; there are no defaults."""

    name: str

    @property
    def hash(self) -> str:
        """SHA-256 of every value but the name, 16 hexadecimal digits: equal descriptions have equal hashes."""
        values = asdict(self)
        del values["name"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def read_toml(path: str | Path, hint: str) -> dict[str, object]:
    """The table of a TOML file.

    Raises:
        DcomError: no such file, or not TOML, with `hint` as what to give instead.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise DcomError("not TOML: it is no UTF-8 text", hint=hint, place=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        if found := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error)):
            raise DcomError(f"not TOML: {found[1]}", hint=hint, place=f"{path}:{found[2]}:{found[3]}") from error
        raise DcomError(f"not TOML: {error}", hint=hint, place=str(path)) from error
    except RecursionError as error:
        raise DcomError("not TOML: it is nested too deeply", hint=hint, place=str(path)) from error


def place_in(path: str | Path, *keys: str) -> str:
    """The file, with the line from 1 that first sets what stands under these keys, or something within it.

    A table that stands inline, or a list of tables, has the line that it begins on.
    """
    heading: list[str] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        if match := _KEY.match(line):
            names = [name.strip("\"'") for name in re.findall(_NAME, match[2])]
            heading, found = (names, names) if match[1] else (heading, heading + names)
            inline = not match[1] and found == [*keys[: len(found)]]
            if inline or found[: len(keys)] == [*keys]:
                return f"{path}:{number}"
    return str(path)


def as_written(value: object) -> str:
    """A value of a TOML file for an error: a number or a word as the file has it, of others what they are."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return repr(value)
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)


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
