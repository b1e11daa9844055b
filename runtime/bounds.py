"""Values that are known between bounds, as tables of hardware give them."""

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
class Bounds:
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


def bounds_of(table: "DataclassInstance", prefix: str = "") -> Iterator[tuple[str, Bounds]]:
    """The bounds in a description, a dataclass of dataclasses, with their dotted names."""
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Bounds):
            yield prefix + field.name, value
        elif is_dataclass(value) and not isinstance(value, type):
            yield from bounds_of(value, f"{prefix}{field.name}.")


def check_bounds(table: "DataclassInstance", place: str) -> None:
    """Raise `DcomError` for bounds in a description that are upside down."""
    for name, found in bounds_of(table):
        if found.low > found.high:
            raise DcomError(f"'{name}' goes down from {found.low:g} to {found.high:g}", place=place)


def spread(table: T, of: Callable[[T], float]) -> tuple[float, float, float]:
    """A quantity at the middle of all bounds, and its least and largest over all combinations of their ends."""
    found = dict(bounds_of(table))
    corners = (dict(zip(found, ends, strict=True)) for ends in product(*((r.low, r.high) for r in found.values())))
    values = [of(_pinned(table, corner)) for corner in corners]
    return of(table), min(values), max(values)


def _pinned(table: T, values: Mapping[str, float], prefix: str = "") -> T:
    """A description with each of its bounds at one value."""
    changed: dict[str, Any] = {}
    for field in fields(table):
        value, name = getattr(table, field.name), prefix + field.name
        if isinstance(value, Bounds):
            changed[field.name] = Bounds(values[name], values[name])
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = _pinned(value, values, f"{name}.")
    return replace(table, **changed)
