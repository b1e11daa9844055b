"""Groups of clusters for a kernel: those that a name means, and which of them take a launch's matrices the soonest."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from dcomc.diagnostics import DcomError, counted
from dcomc.tables import print_table
from dialects.cluster import ForOp, KernelOp, MatrixOp, MatvecOp, MatvecTransposedOp
from dialects.isa import assemble_kernel
from passes._kernels import LONGEST, dictionary, only
from passes._rounds import MOST_IN_FLIGHT, instructions
from passes._streams import ROWS_AND_COLUMNS
from passes.cluster_schedule import schedule, slot_bytes
from passes.lower_cluster_to_isa import lower_kernel
from runtime.encoding import WORD_BYTES
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.steady import time_stream

_MOST_CODE = 64 << 10
"""Bytes of instructions that a kernel may have."""
_CROWDING = 4
"""Matrices in flight that need nearly as long for their chains as the machine for their work get in each other's way:
a round takes about the p-norm of the two. Checked against the simulator: see `test_mapping.py`."""

Values = dict[str, int]
"""What `mapping` of a kernel holds."""


def group_of(mapping: str, machine: Machine, part: str = "") -> tuple[int, int]:
    """Rows and columns of clusters in a group; `part` says in an error of what part of the machine `machine` is.

    Raises:
        DcomError: the mapping is unknown, or its groups do not fill the grid.
    """
    grid = machine.grid
    named = {"grid": (grid.rows, grid.cols), "column": (grid.rows, 1), "cluster": (1, 1)}
    match = ROWS_AND_COLUMNS.fullmatch(mapping)
    if mapping not in named and match is None:
        names = ", ".join(("auto", *named))
        raise DcomError(f"unknown mapping '{mapping}'", hint=f"one of {names}, or rows and columns of a group, as 8x8")
    rows, cols = named[mapping] if match is None else (int(match[1]), int(match[2]))
    if grid.rows % rows or grid.cols % cols:
        raise DcomError(
            f"groups of {rows} x {cols} do not fill the {grid.rows} x {grid.cols} clusters of {part}{machine.name}",
            hint="give divisors of these",
        )
    return rows, cols


def slices_of(kernel: KernelOp, group: tuple[int, int], machine: Machine) -> Values:
    """How a kernel's matrix is cut over a group, with one matrix in flight.

    Raises:
        DcomError: a slice is longer than instructions count.
    """
    rows, cols = only(kernel, MatrixOp).matrix.type.shape
    tile, grid = machine.cluster, machine.grid
    span_rows, span_cols = group
    whole = group == (grid.rows, grid.cols)
    down, across = group if whole else (1, span_rows * span_cols)
    slice_rows, slice_cols = _slice(rows, down, tile.mac_rows), _slice(cols, across, tile.mac_cols)
    if max(slice_rows, slice_cols) > LONGEST:
        raise DcomError(
            f"an activation of {rows} x {cols} gives a cluster {slice_rows} x {slice_cols} elements",
            hint=f"an instruction counts to {LONGEST}; trace a shorter sequence or use a larger grid",
        )
    return {
        "slice_rows": slice_rows,
        "slice_cols": slice_cols,
        "span_rows": span_rows % grid.rows,
        "span_cols": span_cols % grid.cols,
        "folded": int(not whole),
        "in_flight": 1,
    }


def _slice(length: int, clusters: int, tile: int) -> int:
    return tile * ceil(length / (clusters * tile))


def mapping_of(
    kernel: KernelOp, group: tuple[int, int], machine: Machine, matrices: int, in_flight: int | None = None
) -> Values:
    """How a kernel's matrix is cut over a group, and how many are in flight.

    Args:
        matrices: of the largest launch.
        in_flight: as many as have room and are there, unless given.

    Raises:
        DcomError: a slice is longer than instructions count, or so many in flight have no room.
    """
    values = slices_of(kernel, group, machine)
    if in_flight is not None:
        values["in_flight"] = in_flight
        _check_in_flight(kernel, values, machine)
        return values
    groups = machine.grid.rows * machine.grid.cols // (group[0] * group[1])
    values["in_flight"] = min(_most_in_flight(kernel, values, machine), ceil(matrices / groups))
    return values


def _most_in_flight(kernel: KernelOp, values: Mapping[str, int], machine: Machine) -> int:
    """As many matrices of a group as have room in the buffers and leave the kernel short; 1 if need be."""
    each = slot_bytes(kernel, values, machine)
    for count in range(MOST_IN_FLIGHT if values["folded"] else 1, 1, -1):
        short = instructions(kernel, count) * WORD_BYTES <= _MOST_CODE
        if count * each <= machine.cluster.buffer_bytes and short:
            return count
    return 1


def _check_in_flight(kernel: KernelOp, values: Mapping[str, int], machine: Machine) -> None:
    """Raise `DcomError` where so many matrices have no room in the buffers."""
    each, count = slot_bytes(kernel, values, machine), values["in_flight"]
    if count > 1 and count * each > machine.cluster.buffer_bytes:
        raise DcomError(
            f"in_flight {count}: kernel @{kernel.sym_name.data} needs {each} bytes of buffer for each of {count} "
            f"matrices in flight, but {machine.name} has {machine.cluster.buffer_bytes} in a cluster",
            hint=f"at most {max(1, machine.cluster.buffer_bytes // each)} fit",
        )


@dataclass(frozen=True)
class Candidate:
    """A mapping of a kernel, and what it is expected to take."""

    group: tuple[int, int]
    in_flight: int
    groups: int
    alone: float
    """Cycles of a matrix that has its group to itself."""
    array: float
    """Of these, busy cycles of the multipliers."""
    bank: float
    """And of the banks."""

    def cycles(self, matrices: int) -> float:
        """Of a launch: rounds of as many matrices as are in flight, and the distance of the first of them to the last.

        Each round waits for the slowest of the chain of one matrix, the multipliers and the banks, and for a crowd of
        them longer.
        """
        rounds = ceil(matrices / (self.groups * self.in_flight))
        if self.in_flight == 1:
            return rounds * self.alone
        work = (float(self.alone), self.in_flight * self.array, self.in_flight * self.bank)
        a_round = sum(cycles**_CROWDING for cycles in work) ** (1 / _CROWDING)
        return (rounds + 1 - 1 / self.in_flight) * a_round

    def __str__(self) -> str:
        rows, cols = self.group
        flight = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        return f"{rows}x{cols}{flight}"


def choose(
    kernel: KernelOp,
    machine: Machine,
    launches: Sequence[int],
    *,
    group: tuple[int, int] | None = None,
    in_flight: int | None = None,
    every: bool = False,
) -> list[Candidate]:
    """The mappings that a kernel has room in, what is expected to take all its launches the soonest first.

    Args:
        launches: matrices of each.
        group: one to look at besides.
        in_flight: as many as have room and are there, unless given.
        every: also those that cannot be the first.

    Raises:
        DcomError: there is none; of what the group or else the grid has no room for.
    """

    def cycles(candidate: Candidate) -> float:
        return sum(map(candidate.cycles, launches))

    refused: list[DcomError] = []
    bounds: list[Candidate] = []
    for size in _groups(machine, group):
        try:
            bounds.append(_bound(kernel, size, machine, max(launches), in_flight))
        except DcomError as error:
            refused.append(error)
    found: list[Candidate] = []
    for bound in sorted(bounds, key=cycles):
        if found and not every and cycles(bound) > min(map(cycles, found)):
            break
        try:
            found.append(_timed(bound, kernel, machine))
        except DcomError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    return sorted(found, key=cycles)


def _groups(machine: Machine, given: tuple[int, int] | None) -> list[tuple[int, int]]:
    """The one given; the grid halved again and again, its columns, and its clusters."""
    grid = machine.grid
    rows, cols = grid.rows, grid.cols
    sizes = [(rows, cols)]
    while (longer := max(rows, cols)) > 1 and longer % 2 == 0:
        rows, cols = (rows // 2, cols) if rows == longer else (rows, cols // 2)
        sizes.append((rows, cols))
    return list(dict.fromkeys((*([given] if given else []), *sizes, (grid.rows, 1), (1, 1))))


def _bound(
    kernel: KernelOp, group: tuple[int, int], machine: Machine, matrices: int, in_flight: int | None
) -> Candidate:
    """The least that a group can take: for the products with the matrix, a tile a cycle; for its way from the banks,
    which it takes for each product where a cluster has no room for its block."""
    values = mapping_of(kernel, group, machine, matrices, in_flight)
    loop, grid, cluster = only(kernel, ForOp), machine.grid, machine.cluster
    products = sum(isinstance(op, MatvecOp | MatvecTransposedOp) for op in loop.body.block.ops) * loop.count.value.data
    elements = values["slice_rows"] * values["slice_cols"]
    array = products * elements // (cluster.mac_rows * cluster.mac_cols)
    reads = products if 2 * elements > cluster.buffer_bytes else 1
    bank = reads * grid.rows * 2 * elements / machine.bank.stream_bytes_per_cycle
    groups = grid.rows * grid.cols // (group[0] * group[1])
    return Candidate(group, values["in_flight"], groups, alone=max(array, bank), array=array, bank=bank)


def _timed(bound: Candidate, kernel: KernelOp, machine: Machine) -> Candidate:
    """What a group is expected to take, by the cycles of one matrix in it.

    Raises:
        DcomError: its clusters have no room.
    """
    copy = kernel.clone()
    copy.properties["mapping"] = dictionary(slices_of(kernel, bound.group, machine))
    schedule(copy, machine)
    lowered = assemble_kernel(lower_kernel(copy, machine))
    timing = time_stream(lowered.words, machine, lowered.layout, (), 1)
    return replace(bound, alone=timing.cycles, array=timing.busy[Unit.ARRAY], bank=timing.busy[Unit.BANK])


def explain(
    kernel: KernelOp, machine: Machine, launches: Sequence[int], found: Sequence[Candidate], group: tuple[int, int]
) -> None:
    """Print what was expected of each mapping to standard error, the soonest first, and which group was taken."""
    sizes = [
        f"{counted(count, 'launch', 'launches')} of {counted(matrices, 'matrix', 'matrices')}"
        for matrices, count in sorted(Counter(launches).items())
    ]
    print(f"kernel {kernel.sym_name.data} on {machine.name}, {', '.join(sizes)}:", file=sys.stderr)
    rows = [
        (
            f"{candidate} (taken)" if candidate.group == group else str(candidate),
            f"{round(sum(map(candidate.cycles, launches))):,}",
            f"{candidate.alone:,}",
            f"{candidate.array / candidate.alone:.0%}",
            f"{candidate.bank / candidate.alone:.0%}",
        )
        for candidate in found
    ]
    print_table(("mapping", "cycles", "one alone", "array busy", "bank busy"), rows, stderr=True)
