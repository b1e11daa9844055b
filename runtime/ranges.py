"""Values that are known as a range, as tables of hardware give them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeVar

from dcomc.diagnostics import DcomError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class Range:
    """What measurements of a value span."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value at a share of the way from low (0) to high (1)."""
        return self.low + share * (self.high - self.low)

    @property
    def middle(self) -> float:
        """The geometric mean of the ends, for what is known up to a factor."""
        return sqrt(self.low * self.high)


def ranges(table: "DataclassInstance", prefix: str = "") -> Iterator[tuple[str, Range]]:
    """The ranges of a description, a dataclass of dataclasses, with their dotted names."""
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Range):
            yield prefix + field.name, value
        elif is_dataclass(value) and not isinstance(value, type):
            yield from ranges(value, f"{prefix}{field.name}.")


def check_ranges(table: "DataclassInstance", place: str) -> None:
    """Raise `DcomError` for a range of a description that is upside down."""
    for name, found in ranges(table):
        if found.low > found.high:
            raise DcomError(f"'{name}' goes down from {found.low:g} to {found.high:g}", place=place)


def spread(table: T, of: Callable[[T], float]) -> tuple[float, float, float]:
    """A quantity at the middle of all ranges, and its least and largest over all combinations of their ends."""
    found = dict(ranges(table))
    corners = (dict(zip(found, ends, strict=True)) for ends in product(*((r.low, r.high) for r in found.values())))
    values = [of(_pinned(table, corner)) for corner in corners]
    return of(table), min(values), max(values)


def _pinned(table: T, values: Mapping[str, float], prefix: str = "") -> T:
    """A description with each range at one value."""
    changed: dict[str, Any] = {}
    for field in fields(table):
        value, name = getattr(table, field.name), prefix + field.name
        if isinstance(value, Range):
            changed[field.name] = Range(values[name], values[name])
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = _pinned(value, values, f"{name}.")
    return replace(table, **changed)
