"""Two programs, or two files of results, value by value."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from dcomc.container import read_container
from dcomc.diagnostics import DcomError
from dcomc.elf import MAGIC
from dcomc.json_files import json_object, read_bytes
from dcomc.places import Place, sites_by_layers, spans

Values = dict[tuple[Place | None, str], Any]
"""By place, None for what belongs to no layer, and name."""
PRESENT = "present"
"""The name of the one value of a place that one file alone has."""

_WORDS = {
    "array_busy": "arrays busy",
    "bank_busy": "banks busy",
    "causes": "cycles",
    "clock_hz": "hertz",
    "gpu": "GPU",
    "gram_schmidt": "Gram-Schmidt",
    "kv_cache": "KV cache",
    "optimal_error": "least error at the rank",
    "options": "option",
    "relative_error": "error",
    "seconds": "time",
    "seq_len": "tokens a prompt",
    "sha256": "SHA-256",
    "total_cycles": "cycles of all",
    "variants": "times",
}
"""Names that are not their own words."""
_HINT = "give two programs, or two JSON files that dcomc wrote"


@dataclass(frozen=True)
class Difference:
    """A value of two files; None where one lacks it."""

    name: str
    where: str
    """The sites and layers that have it alike, such as `qkv, o of 1-3`; empty for what belongs to no layer."""
    first: Any
    second: Any
    only_in: Literal["A", "B"] | None = None
    """The file that alone has it."""

    @property
    def equal(self) -> bool:
        """Both have it, and alike."""
        return self.only_in is None and self.first == self.second

    @property
    def ratio(self) -> float | None:
        """The second over the first, of numbers."""
        numbers = (int, float)
        if isinstance(self.first, bool) or isinstance(self.second, bool) or not self.first:
            return None
        return (
            self.second / self.first if isinstance(self.first, numbers) and isinstance(self.second, numbers) else None
        )


def compare_files(first: Path, second: Path) -> list[Difference]:
    """All values of both files, those of the first in their order, then those that the second alone has.

    Raises:
        DcomError: a file that cannot be read, or two that have nothing in common.
    """
    values = [dict(_flatten(read_values(path))) for path in (first, second)]
    if not values[0].keys() & values[1].keys():
        raise DcomError(f"{first} and {second} have nothing in common", hint=_HINT)
    values = [_without_alone(*pair) for pair in (values, values[::-1])]
    alike: dict[tuple[str, str, str], list[Place | None]] = {}
    for key in dict.fromkeys([*values[0], *values[1]]):
        place, name = key
        pair = json.dumps([each.get(key) for each in values])
        found_in = "".join(file for file, each in zip("AB", values, strict=True) if key in each)
        alike.setdefault((name, pair, found_in), []).append(place)
    alone: dict[str, Literal["A", "B"]] = {"A": "A", "B": "B"}
    return [
        Difference(name, _describe(places), *cast(list[Any], json.loads(pair)), only_in=alone.get(found_in))
        for (name, pair, found_in), places in alike.items()
    ]


def _without_alone(values: Values, other: Values) -> Values:
    """The values; a layer and site of which the other has none is one value, that it is there."""
    places = {None, *(place for place, _ in other)}
    kept = {key: value for key, value in values.items() if key[0] in places}
    return kept | {(place, PRESENT): True for place, _ in values if place not in places}


def in_words(name: str) -> str:
    """The name of a value as other commands have it: `options.exact_rows` is `option: exact rows`."""
    parts = name.removeprefix("variants.").split(".")
    if name.startswith(("memory.", "variants.")):
        from dcomc.estimate import IN_WORDS

        parts = [IN_WORDS.get(part, part) for part in parts]
    return ": ".join(_WORDS.get(part, part.replace("_", " ")) for part in parts)


def summary(alone: Sequence[Difference]) -> str:
    """What one file alone has: the first part of each name, once, and where; of cycles their cause, too, as both have
    some."""
    names: dict[str, dict[str, None]] = {}
    for each in alone:
        first, *_ = each.name.split(".")
        names.setdefault(each.where, {})[in_words(each.name if first == "causes" else first)] = None
    places: dict[str, list[str]] = {}
    for where, found in names.items():
        places.setdefault(", ".join(found), []).append(where)
    return "; ".join(text + (f" ({', '.join(where)})" if any(where) else "") for text, where in places.items())


def read_values(path: Path) -> Mapping[str, Any]:
    """What a file says: a program's options, machine and cycles, or a JSON object."""
    data = read_bytes(path, _HINT)
    return _program_values(path, data) if data.startswith(MAGIC) else json_object(data, path, _HINT)


def _program_values(path: Path, data: bytes) -> Mapping[str, Any]:
    program = read_container(path).program
    timed = program.simulate(timing_only=True).to_json()
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "options": dict(program.options),
        "machine": {**asdict(program.machine), "hash": program.machine.hash},
        "kernels": [{"name": kernel.name, "instructions": len(kernel.words)} for kernel in program.kernels],
        "decompositions": [
            {key: value for key, value in each.items() if value is not None and key not in ("steps", "input")}
            for each in timed["decompositions"]
        ],
        "total_cycles": timed["total_cycles"],
    }


def _flatten(
    value: Any, path: tuple[str, ...] = (), place: Place | None = None
) -> Iterator[tuple[tuple[Place | None, str], Any]]:
    """The single values of nested ones, by place and name.

    Entries of a list go by layer and site, or by their name; other lists are values. Streams, of which one file may
    have another number than the other, are counted: what they do on average stands beside them.
    """
    if isinstance(value, dict):
        for key, inner in cast(dict[str, Any], value).items():
            inner = len(cast(list[Any], inner)) if key == "streams" and isinstance(inner, list) else inner
            yield from _flatten(inner, (*path, key), place)
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in cast(list[Any], value)):
        for number, entry in enumerate(cast(list[dict[str, Any]], value)):
            rest = {key: inner for key, inner in entry.items() if key not in ("layer", "site", "name")}
            if isinstance(entry.get("layer"), int):
                yield from _flatten(rest, (), (entry["layer"], str(entry.get("site", ""))))
            else:
                yield from _flatten(rest, (*path, str(entry.get("name", number))), place)
    else:
        yield (place, ".".join(path)), value


def _describe(places: Sequence[Place | None]) -> str:
    found = sites_by_layers(place for place in places if place is not None)
    return "; ".join(f"{', '.join(filter(None, sites))} of {spans(layers)}" for sites, layers in found)
