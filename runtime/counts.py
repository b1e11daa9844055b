"""What a stream did, counted for each of its instructions; the counts of turns and of runs add up."""

from collections import Counter
from collections.abc import Container, Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from runtime.instructions import Unit

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=tuple[Any, ...])


class Direction(StrEnum):
    """Which way the bytes of a bank go."""

    READ = "read"
    WRITTEN = "written"


class Use(StrEnum):
    """What a multiplication is for."""

    USEFUL = "useful"
    REPLICATED = "replicated"
    """The same product is made in another cluster, where it is counted as useful; or one of the same element of a
    vector, by another partial sum of an expanded reduction."""
    PADDING = "padding"
    """With a zero that fills up a tile, the slice of a cluster, or a group of clusters."""
    OTHER = "other"
    """The use of numbers that are not of the launch's activation, or whose way is not followed, such as through the
    global memory."""


@dataclass(frozen=True)
class Counts:
    """Counters, each with a key that begins with the instruction's place in its kernel."""

    issues: Counter[int] = field(default_factory=Counter[int])
    """How often it issued."""
    waits: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    """Cycles of its issues, and cycles that the stream waited to issue it, by cause."""
    busy: Counter[tuple[int, Unit]] = field(default_factory=Counter[tuple[int, Unit]])
    """Cycles that it kept its unit busy; those of the bank ports, of which each column has one, added up."""
    streams: Counter[tuple[int, Direction, int]] = field(default_factory=Counter[tuple[int, Direction, int]])
    """By direction and number of columns: bytes that it moved in the bank of each of the first so many columns."""
    operands: Counter[int] = field(default_factory=Counter[int])
    """Bytes of the buffers that its operands took and its results gave, each once, of all clusters together."""
    products: Counter[tuple[int, Use]] = field(default_factory=Counter[tuple[int, Use]])
    """Multiplications by their use, those of all clusters added up."""

    def plus(self, other: "Counts", times: int = 1) -> "Counts":
        """These counts and `times` those of another part of the stream; -1 times takes that part away."""
        total = Counts(
            self.issues.copy(),
            self.waits.copy(),
            self.busy.copy(),
            self.streams.copy(),
            self.operands.copy(),
            self.products.copy(),
        )
        total.add(other, times)
        return total

    def add(self, other: "Counts", times: int) -> None:
        """Add `times` those of another part of the stream."""
        _add(self.issues, other.issues, times)
        _add(self.waits, other.waits, times)
        _add(self.busy, other.busy, times)
        _add(self.streams, other.streams, times)
        _add(self.operands, other.operands, times)
        _add(self.products, other.products, times)

    def part(self, indices: Container[int]) -> "Counts":
        """The counts of some instructions."""
        return Counts(
            Counter({index: n for index, n in self.issues.items() if index in indices}),
            _pick(self.waits, indices),
            _pick(self.busy, indices),
            _pick(self.streams, indices),
            Counter({index: n for index, n in self.operands.items() if index in indices}),
            _pick(self.products, indices),
        )

    @property
    def instructions(self) -> int:
        """Instructions that issued."""
        return self.issues.total()

    @property
    def cycles(self) -> int:
        """All issues and waits: of a whole stream, from its first cycle to its last."""
        return self.waits.total()

    @property
    def causes(self) -> dict[str, int]:
        """Cycles by cause, in the order of their names."""
        causes: Counter[str] = Counter()
        for (_, cause), cycles in sorted(self.waits.items(), key=lambda item: item[0][1]):
            causes[cause] += cycles
        return dict(causes)

    @property
    def units(self) -> dict[Unit, int]:
        """Busy cycles by unit."""
        return {unit: sum(n for (_, one), n in self.busy.items() if one is unit) for unit in Unit}

    @property
    def uses(self) -> dict[Use, int]:
        """Multiplications by use."""
        return {use: sum(n for (_, one), n in self.products.items() if one is use) for use in Use}

    @property
    def all_bank_bytes(self) -> int:
        """Bytes that the banks sent and took."""
        return sum(self.bank_bytes(direction) for direction in Direction)

    def bank_bytes(self, direction: Direction, bank: int | None = None) -> int:
        """Bytes in one direction, of the bank of a column or of all."""
        served = ((columns, n) for (_, way, columns), n in self.streams.items() if way is direction)
        return sum(n * columns if bank is None else n * (bank < columns) for columns, n in served)


def _add(total: Counter[K], other: Counter[K], times: int) -> None:
    for key, count in other.items():
        total[key] += times * count


def _pick(counter: Counter[T], indices: Container[int]) -> Counter[T]:
    return Counter({key: n for key, n in counter.items() if key[0] in indices})
