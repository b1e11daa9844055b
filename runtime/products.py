"""The multiplications of a stream by their use: which are of numbers of the activation, and which are made only once.

A cluster holds a slice of the activation's rows and one of its columns; of vectors along a side of the activation it
has the slice of that side, as have the clusters of its group that hold the same rows or columns, or a share of it.
Which bytes of the buffer these are is followed from the streams that load tiles, through the matvecs that read them, to
what works on the matvecs' results where they lie: parts and gathers of them, the vectors that they are rounded to, and
both on their way through the banks; not on other ways.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np

from runtime import costs
from runtime.counts import Use
from runtime.groups import Groups
from runtime.instructions import INSTRUCTIONS, Access
from runtime.machine import Machine
from runtime.operands import Values
from runtime.program import KernelLayout
from runtime.sequencer import Issue

_FOLLOWED = {
    row.mnemonic
    for row in INSTRUCTIONS
    if row.products is not costs.none or any(used.access is Access.WRITE for used in row.ranges)
} | {"st"}
"""Instructions that multiply or overwrite; what a reduction or broadcast leaves in a cluster is of the same place."""
_SINGLE, _HALF = 4, 2
"""Bytes of an element of a vector that is computed with, and of one of a basis."""


class _Kind(Enum):
    TILES = "tiles of the activation"
    ROWS = "elements of a vector along its rows"
    COLS = "elements of a vector along its columns"


@dataclass(frozen=True)
class _Share:
    """Which elements of its slice a cluster holds: the (place mod `span` div `alike`)th `length` of them."""

    line: str
    """`row` or `col`: the place is that in its row or column."""
    length: int
    alike: int
    span: int


@dataclass(frozen=True)
class _Piece:
    """Bytes of the buffer from `start` to before `end`."""

    start: int
    end: int
    kind: _Kind
    origin: int
    """The address at which the cluster's whole slice of it, or share of that, would begin."""
    element: int = _HALF
    """Bytes of one."""
    share: _Share | None = None
    """None where it is all of the slice."""

    def at(self, start: int) -> "_Piece":
        """The same bytes elsewhere."""
        moved = start - self.start
        return replace(self, start=start, end=self.end + moved, origin=self.origin + moved)

    def part(self, start: int, end: int) -> "_Piece":
        """Some of its bytes."""
        return replace(self, start=start, end=end)

    def outside(self, start: int, end: int) -> Iterator["_Piece"]:
        """What of it lies before and behind some bytes."""
        if self.start < start:
            yield self.part(self.start, min(self.end, start))
        if end < self.end:
            yield self.part(max(self.start, end), self.end)


_Rectangle = tuple[int, int, int, int, int]
"""What a stream moves: the bank address, from the base of a turn on; bytes, stride, rows and columns of clusters."""


class _Places(NamedTuple):
    """Where the activation is, and what comes of it."""

    pieces: tuple[_Piece, ...]
    """In the buffers."""
    banks: tuple[tuple[_Rectangle, _Piece], ...]


class ProductReader:
    """Reads the issues of one stream in order.

    Args:
        layout: of the kernel; without it nothing is known to be of an activation.
    """

    def __init__(self, machine: Machine, layout: KernelLayout | None) -> None:
        self._machine = machine
        self._clusters = machine.grid.rows * machine.grid.cols
        self._activation = None if layout is None else _Activation(machine, layout)

    def read(self, issue: Issue) -> Mapping[Use, int]:
        """The multiplications of an instruction, those of all clusters together."""
        instruction = issue.word.instruction
        if instruction.mnemonic not in _FOLLOWED:
            return {}
        known = self._activation.follow(issue) if self._activation else None
        total = instruction.products(issue.values, self._machine) * self._clusters
        if known is None:
            return {Use.OTHER: total} if total else {}
        once, made = known
        return {Use.USEFUL: once, Use.REPLICATED: made - once, Use.PADDING: total - made}

    def state(self) -> Hashable:
        """What the uses of further multiplications depend on."""
        return self._activation.places if self._activation else None

    def resume(self, state: Hashable) -> None:
        """Be in a state that `state` gave."""
        if self._activation and isinstance(state, _Places):
            self._activation.places = state


class _Activation:
    """Where in the buffers and banks the activation is, and what comes of it."""

    def __init__(self, machine: Machine, layout: KernelLayout) -> None:
        self._machine, self._layout = machine, layout
        self._groups = groups = Groups.of(layout, machine.grid)
        self._tiles_across = layout.slice_cols // machine.cluster.mac_cols
        self._pieces: list[_Piece] = []
        self._banks: dict[_Rectangle, _Piece] = {}
        self._real: dict[tuple[_Kind, _Share | None, int, int], tuple[int, int]] = {}
        self._row, self._col = np.indices((machine.grid.rows, machine.grid.cols)).reshape(2, -1)
        self._group = self._row // groups.rows * groups.across + self._col // groups.cols
        row, col = self._row % groups.rows, self._col % groups.cols
        self._slices = (0 * row, row * groups.cols + col) if groups.folded else (row, col)

    def follow(self, issue: Issue) -> tuple[int, int] | None:
        """How many different elements of the activation, or of vectors along it, an instruction multiplies, and how
        many products it makes of them in all clusters.

        None where it makes none, or not of these.
        """
        values, known, made = issue.values, None, None
        match issue.mnemonic:
            case "mv.row" | "mv.col":
                return self._matvec(issue)
            case "dots" | "subtract" | "norm2" | "scale":
                vector, count = self._vector(values, "x", _SINGLE), int(values.get("count", 1))
                known = self._elementwise(vector, count, count)
                if vector and issue.mnemonic == "scale":
                    made = self._rounded(vector, int(values["d"]))
            case "madd":
                known = self._elementwise(self._vector(values, "v", _HALF), 1, int(values["count"]))
                self._drop(int(values["d"]), int(values["d"]) + _SINGLE * int(values["length"]))
            case "part.row" | "part.col":
                made = self._part(values, issue.mnemonic.removeprefix("part."))
            case "gather.row" | "gather.col":
                made = self._gather(values, issue.mnemonic.removeprefix("gather."))
            case "ld":
                made = self._load(values)
            case "st":
                self._store(values)
            case _:
                pass
        if made is not None:
            self._hold(made)
            return known
        for used in issue.word.instruction.ranges:
            if used.access is Access.WRITE and not used.shared:
                start = int(values[used.operand])
                self._drop(start, start + used.size(values, self._machine))
        return known

    @property
    def places(self) -> _Places:
        """Where it is now."""
        return _Places(tuple(self._pieces), tuple(self._banks.items()))

    @places.setter
    def places(self, places: _Places) -> None:
        self._pieces, self._banks = list(places.pieces), dict(places.banks)

    def _load(self, values: Values) -> _Piece | None:
        """The bank address tells what a stream loads, in every turn the same."""
        layout, start, size = self._layout, int(values["buffer"]), int(values["bytes"])
        offset = (int(values["bank"]) - layout.a_offset) % layout.bank_bytes
        if offset + size <= 2 * layout.slice_rows * layout.slice_cols:
            return _Piece(start, start + size, _Kind.TILES, start - offset)
        moved = self._moved(values)
        if moved[:2] == (layout.start_offset, _HALF * layout.slice_rows):
            return _Piece(start, start + size, _Kind.ROWS, start)
        return self._banks[moved].at(start) if moved in self._banks else None

    def _store(self, values: Values) -> None:
        """What the bank held where this goes is overwritten."""
        moved, start = self._moved(values), int(values["buffer"])
        bank, size, stride, rows, _ = moved
        for other in list(self._banks):
            if other[0] < bank + (rows - 1) * stride + size and bank < other[0] + (other[3] - 1) * other[2] + other[1]:
                del self._banks[other]
        piece = self._find(start, start + size)
        if piece is not None:
            self._banks[moved] = piece.part(start, start + size)

    def _moved(self, values: Values) -> _Rectangle:
        rows, cols = costs.transfer_extent(values, self._machine)
        bank = int(values["bank"]) % self._layout.bank_bytes
        return bank, int(values["bytes"]), int(values["stride"]), rows, cols

    def _part(self, values: Values, line: str) -> _Piece | None:
        """Shares of what a cluster holds all of."""
        x, d, size, total = (int(values[name]) for name in ("x", "d", "bytes", "total"))
        whole = self._find(x, x + total)
        if whole is None or whole.share or x != whole.origin or total != whole.element * self._slice(whole.kind)[1]:
            return None
        side = self._machine.grid.cols if line == "row" else self._machine.grid.rows
        share = _Share(line, size // whole.element, int(values["share"]) or side, int(values["span"]) or side)
        return _Piece(d, d + size, whole.kind, d, whole.element, share)

    def _gather(self, values: Values, line: str) -> _Piece | None:
        """The shares of neighbours, as a longer share, or as all of what a cluster holds."""
        x, d, size, total = (int(values[name]) for name in ("x", "d", "bytes", "total"))
        piece = self._find(d, d + size)
        side = self._machine.grid.cols if line == "row" else self._machine.grid.rows
        span = costs.span(values, side)
        if piece is None or piece.origin != d or piece.share != _Share(line, size // piece.element, 1, side):
            return None
        if span == side and total == piece.element * self._slice(piece.kind)[1]:
            return _Piece(x, x + total, piece.kind, x, piece.element)
        if side % span or total != span * size:
            return None
        return _Piece(x, x + total, piece.kind, x, piece.element, _Share(line, total // piece.element, span, side))

    def _matvec(self, issue: Issue) -> tuple[int, int] | None:
        machine, cluster = self._machine, self._machine.cluster
        rows, cols, a, y = (int(issue.values[name]) for name in ("rows", "cols", "a", "y"))
        height, width = rows * cluster.mac_rows, cols * cluster.mac_cols
        kind, outputs = (_Kind.ROWS, height) if issue.mnemonic == "mv.row" else (_Kind.COLS, width)
        tiles = self._find(a, a + rows * cols * machine.tile_bytes)
        tile, aside = divmod(a - tiles.origin, machine.tile_bytes) if tiles else (0, 0)
        down, right = divmod(tile, self._tiles_across)
        whole = not right and cols == self._tiles_across
        known = tiles is not None and tiles.kind is _Kind.TILES
        if not known or aside or right + cols > self._tiles_across or (rows > 1 and not whole):
            self._drop(y, y + _SINGLE * outputs)
            return None
        top, left = down * cluster.mac_rows, right * cluster.mac_cols
        first = _SINGLE * (top if kind is _Kind.ROWS else left)
        self._hold(_Piece(y, y + _SINGLE * outputs, kind, y - first, _SINGLE))
        along_rows, _ = self._elements(_Kind.ROWS, None, top, height)
        along_cols, _ = self._elements(_Kind.COLS, None, left, width)
        once = along_rows * along_cols // self._groups.count if self._groups.count else 0
        return once, once

    def _elementwise(self, vector: _Piece | None, once: int, times: int) -> tuple[int, int] | None:
        """Products of a vector's elements: so many different ones of each, and so many in each cluster that has it."""
        if vector is None:
            return None
        first, count = ((vector.start - vector.origin), (vector.end - vector.start))
        different, held = self._elements(vector.kind, vector.share, first // vector.element, count // vector.element)
        return once * different, times * held

    def _rounded(self, vector: _Piece, start: int) -> _Piece:
        """A vector in half the bytes."""
        first, count = (vector.start - vector.origin) // 2, (vector.end - vector.start) // 2
        return replace(vector, start=start, end=start + count, origin=start - first, element=_HALF)

    def _vector(self, values: Values, operand: str, element: int) -> _Piece | None:
        """What an operand of `length` elements is, if it is known to be of a vector."""
        start = int(values[operand])
        end = start + element * int(values["length"])
        piece = self._find(start, end)
        if piece is None or piece.kind is _Kind.TILES or piece.element != element:
            return None
        return piece.part(start, end)

    def _find(self, start: int, end: int) -> _Piece | None:
        """What holds all of these bytes."""
        for piece in self._pieces:
            if piece.start <= start and end <= piece.end:
                return piece
        return None

    def _hold(self, piece: _Piece) -> None:
        """From now on, its bytes are this."""
        start, end = piece.start, piece.end
        kept: list[_Piece] = []
        for other in self._pieces:
            same = piece.part(other.start, other.end) == other
            if same and other.start <= start and end <= other.end:
                return
            if same and other.start <= end and start <= other.end:
                start, end = min(start, other.start), max(end, other.end)
            else:
                kept += other.outside(start, end)
        self._pieces = [*kept, piece.part(start, end)]

    def _drop(self, start: int, end: int) -> None:
        """What these bytes held is overwritten."""
        if any(piece.start < end and start < piece.end for piece in self._pieces):
            self._pieces = [part for piece in self._pieces for part in piece.outside(start, end)]

    def _slice(self, side: _Kind) -> tuple[int, int]:
        """Elements of a whole vector along a side, and those of a cluster's slice."""
        layout = self._layout
        return (layout.rows, layout.slice_rows) if side is _Kind.ROWS else (layout.cols, layout.slice_cols)

    def _elements(self, side: _Kind, share: _Share | None, first: int, count: int) -> tuple[int, int]:
        """Of the elements from `first` on of each slice of a side, or each share, those that are no padding.

        How many different ones, and how many in all clusters together.
        """
        key = side, share, first, count
        if key not in self._real:
            (whole, slice_), number = self._slice(side), self._slices[side is _Kind.COLS]
            begin = np.full_like(number, first)
            if share is not None:
                begin += (self._col if share.line == "row" else self._row) % share.span // share.alike * share.length
            low = number * slice_ + np.minimum(begin, slice_)
            high = np.minimum(number * slice_ + np.minimum(begin + count, slice_), whole)
            order = np.argsort(self._group * whole + low, kind="stable")
            held = (low < high)[order]
            low, high = ((self._group * whole + ends)[order][held] for ends in (low, high))
            reached = np.maximum.accumulate(np.concatenate([[0], high]))[:-1]
            different = np.maximum(high - np.maximum(low, reached), 0)
            self._real[key] = int(different.sum()), int((high - low).sum())
        return self._real[key]
