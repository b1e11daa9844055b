"""The multiplications of a stream by their use: which are of numbers of the activation, and which are made only once.

A cluster holds a slice of the activation's rows and one of its columns; of vectors along a side of the activation it
has the slice of that side, as have the clusters of its group that hold the same rows or columns. Which bytes of the
buffer these are is followed from the streams that load tiles, through the matvecs that read them, to what works on the
matvecs' results where they lie; not on other ways.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum

from runtime import costs
from runtime.counts import Use
from runtime.groups import Groups
from runtime.instructions import INSTRUCTIONS, Access
from runtime.machine import Machine
from runtime.program import KernelLayout
from runtime.sequencer import Issue

_FOLLOWED = {
    row.mnemonic
    for row in INSTRUCTIONS
    if row.products is not costs.none or any(used.access is Access.WRITE for used in row.ranges)
}
"""Instructions that multiply or overwrite; what a reduction or broadcast leaves in a cluster is of the same place."""


class _Kind(Enum):
    TILES = "tiles of the activation"
    ROWS = "elements of a vector along its rows"
    COLS = "elements of a vector along its columns"


@dataclass(frozen=True)
class _Piece:
    """Bytes of the buffer from `start` to before `end`."""

    start: int
    end: int
    kind: _Kind
    origin: int
    """The address at which the cluster's whole slice of it would begin."""


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
        once, times = known
        return {Use.USEFUL: once, Use.REPLICATED: once * (times - 1), Use.PADDING: total - once * times}

    def state(self) -> Hashable:
        """What the uses of further multiplications depend on."""
        return self._activation.state() if self._activation else ()


class _Activation:
    """Where in the buffers the activation is, and what comes of it."""

    def __init__(self, machine: Machine, layout: KernelLayout) -> None:
        self._machine, self._layout = machine, layout
        self._groups = Groups.of(layout, machine.grid)
        self._tiles_across = layout.slice_cols // machine.cluster.mac_cols
        self._pieces: list[_Piece] = []
        self._real: dict[tuple[_Kind, int, int], int] = {}

    def follow(self, issue: Issue) -> tuple[int, int] | None:
        """How many different products an instruction makes of the activation's numbers, and in how many clusters each.

        None where it makes none, or not of these.
        """
        match issue.mnemonic:
            case "mv.row" | "mv.col":
                return self._matvec(issue)
            case "dots" | "subtract" | "norm2" | "scale":
                known = self._elementwise(issue)
            case _:
                known = None
        for used in issue.word.instruction.ranges:
            if used.access is Access.WRITE and not used.shared:
                start = int(issue.values[used.operand])
                self._drop(start, start + used.size(issue.values, self._machine))
        if issue.mnemonic == "ld":
            self._load(issue)
        return known

    def state(self) -> Hashable:
        """Where it is now."""
        return tuple(self._pieces)

    def _load(self, issue: Issue) -> None:
        """The bank address tells what a stream loads, in every turn the same."""
        layout, start, size = self._layout, int(issue.values["buffer"]), int(issue.values["bytes"])
        offset = (int(issue.values["bank"]) - layout.a_offset) % layout.bank_bytes
        if offset + size <= 2 * layout.slice_rows * layout.slice_cols:
            self._hold(start, start + size, _Kind.TILES, offset)

    def _matvec(self, issue: Issue) -> tuple[int, int] | None:
        machine, cluster = self._machine, self._machine.cluster
        rows, cols, a, y = (int(issue.values[name]) for name in ("rows", "cols", "a", "y"))
        height, width = rows * cluster.mac_rows, cols * cluster.mac_cols
        kind, outputs = (_Kind.ROWS, height) if issue.mnemonic == "mv.row" else (_Kind.COLS, width)
        tiles = self._find(a, a + rows * cols * machine.tile_bytes, _Kind.TILES)
        tile, aside = divmod(a - tiles.origin, machine.tile_bytes) if tiles else (0, 0)
        down, right = divmod(tile, self._tiles_across)
        whole = not right and cols == self._tiles_across
        if tiles is None or aside or right + cols > self._tiles_across or (rows > 1 and not whole):
            self._drop(y, y + 4 * outputs)
            return None
        top, left = down * cluster.mac_rows, right * cluster.mac_cols
        self._hold(y, y + 4 * outputs, kind, 4 * (top if kind is _Kind.ROWS else left))
        return self._groups.count * self._held(_Kind.ROWS, top, height) * self._held(_Kind.COLS, left, width), 1

    def _elementwise(self, issue: Issue) -> tuple[int, int] | None:
        x, length = int(issue.values["x"]), int(issue.values["length"])
        vector = self._find(x, x + 4 * length, _Kind.ROWS, _Kind.COLS)
        if vector is None:
            return None
        held = self._held(vector.kind, (x - vector.origin) // 4, length)
        same = self._groups.rows * self._groups.cols // self._groups.cut[vector.kind is _Kind.COLS]
        return self._groups.count * held * int(issue.values.get("count", 1)), same

    def _find(self, start: int, end: int, *kinds: _Kind) -> _Piece | None:
        """What holds all of these bytes, if it is of such a kind."""
        for piece in self._pieces:
            if piece.start <= start and end <= piece.end and piece.kind in kinds:
                return piece
        return None

    def _hold(self, start: int, end: int, kind: _Kind, first: int) -> None:
        """From now on, these bytes are of such a kind, from byte `first` of the cluster's slice on."""
        origin = start - first
        if any(
            piece.start <= start and end <= piece.end and piece.origin == origin and piece.kind is kind
            for piece in self._pieces
        ):
            return
        kept: list[_Piece] = []
        for piece in self._pieces:
            if piece.kind is kind and piece.origin == origin and piece.start <= end and start <= piece.end:
                start, end = min(start, piece.start), max(end, piece.end)
            elif piece.end <= start or end <= piece.start:
                kept.append(piece)
        self._pieces = [*kept, _Piece(start, end, kind, origin)]

    def _drop(self, start: int, end: int) -> None:
        """What these bytes held is overwritten."""
        if any(piece.start < end and start < piece.end for piece in self._pieces):
            self._pieces = [piece for piece in self._pieces if piece.end <= start or end <= piece.start]

    def _held(self, side: _Kind, first: int, count: int) -> int:
        """How many of the elements from `first` on of each slice of a side are no padding, of a group's slices."""
        key = side, first, count
        if key not in self._real:
            layout, (down, across) = self._layout, self._groups.cut
            rows, cols = (layout.rows, layout.slice_rows, down), (layout.cols, layout.slice_cols, across)
            whole, size, slices = rows if side is _Kind.ROWS else cols
            self._real[key] = sum(max(0, min(whole - number * size - first, count)) for number in range(slices))
        return self._real[key]
