"""Where a launch's matrices may go on the grid, and which of these ways takes them the soonest."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import NamedTuple

from dcomc.diagnostics import DcomError, counted
from dcomc.tables import print_table
from dialects.cluster import ForOp, KernelOp, MatvecOp, MatvecTransposedOp
from dialects.isa import assemble_kernel
from passes._kernels import dictionary, only
from passes._mappings import Values, mapping_of, slices_of
from passes._streams import ONE_STREAM, Sides, part_for, part_of, rectangles, set_streams
from passes.cluster_schedule import schedule
from passes.lower_cluster_to_isa import lower_kernel
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.program import Kernel
from runtime.steady import time_stream

_CROWDING = 4
"""Matrices in flight that need nearly as long for their chains as the machine for their work get in each other's way:
a round takes about the p-norm of the two. Checked against the simulator: see `test_mapping.py`."""
_WORTH = 0.98
"""Of the cycles of one stream: several are to take fewer, or they are not worth it."""
_MOST_STREAMS = 16
"""More save little beside these, and take long to simulate."""


@dataclass(frozen=True)
class Candidate:
    """A mapping of a kernel, and what it is expected to take."""

    streams: Sides
    """Rectangles down and across."""
    group: Sides
    """Clusters that hold a matrix together."""
    in_flight: int
    groups: int
    """In each rectangle."""
    alone: float
    """Cycles of a matrix that has its group to itself."""
    array: float
    """Of these, busy cycles of the multipliers."""
    bank: float
    """And of the banks."""

    @property
    def place(self) -> tuple[Sides, Sides]:
        """Streams and group."""
        return self.streams, self.group

    def cycles(self, matrices: int) -> float:
        """Of a launch: rounds of as many matrices as are in flight, and the distance of the first of them to the last.

        Each round waits for the slowest of the chain of one matrix, the multipliers, and the banks, which serve streams
        above one another in turn; and for a crowd in flight longer.
        """
        down, across = self.streams
        rounds = ceil(matrices / (down * across * self.groups * self.in_flight))
        if self.in_flight == 1:
            return rounds * max(self.alone, down * self.bank)
        work = (float(self.alone), self.in_flight * self.array, down * self.in_flight * self.bank)
        a_round = sum(cycles**_CROWDING for cycles in work) ** (1 / _CROWDING)
        return (rounds + 1 - 1 / self.in_flight) * a_round

    def expected(self, launches: Sequence[int]) -> float:
        """Cycles of all launches, of so many matrices each."""
        return sum(map(self.cycles, launches))

    def __str__(self) -> str:
        (down, across), (rows, cols) = self.streams, self.group
        flight = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        streams = f", {down}x{across} streams" if self.streams != ONE_STREAM else ""
        return f"{rows}x{cols}{flight}{streams}"


class Choice(NamedTuple):
    """Of what may be done with the launches of a kernel, what was taken."""

    streams: Sides
    group: Sides
    found: Sequence[Candidate]
    """What is expected to take all launches the soonest first."""
    counted: Mapping[Candidate, int]
    """Cycles of all launches of those that were timed as they are launched."""


def choose(
    kernel: KernelOp,
    machine: Machine,
    launches: Sequence[int],
    *,
    streams: Sides | None = None,
    group: Sides | None = None,
    in_flight: int | None = None,
    every: bool = False,
) -> Choice:
    """The mapping that takes all launches of a kernel the soonest.

    Of groups in step that is what is expected to. Several streams, which are looked at unless any are given, are taken
    where they are found to need fewer cycles, both counted by the simulator for these launches.

    Args:
        launches: matrices of each.
        streams: those given.
        group: the one given, to look at what else there is.
        in_flight: as many as have room and are there, unless given.
        every: also find those that cannot be the first.

    Raises:
        DcomError: there is none; of what the group or else the grid has no room for.
    """
    most = max(launches)
    refused: list[DcomError] = []

    def expected(candidate: Candidate) -> float:
        return candidate.expected(launches)

    def find(places: Sequence[tuple[Sides, Sides]], limit: float = inf) -> list[Candidate]:
        """Those that may take less than a limit, and what is expected to take the least first."""
        bounds: list[Candidate] = []
        for place in places:
            try:
                bounds.append(_bound(kernel, *place, machine, most, in_flight))
            except DcomError as error:
                refused.append(error)
        found: list[Candidate] = []
        for bound in sorted(bounds, key=expected):
            if not every and expected(bound) > min([limit, *map(expected, found)]):
                break
            try:
                found.append(_timed(bound, kernel, machine))
            except DcomError as error:
                refused.append(error)
        return sorted(found, key=expected)

    given = streams or ONE_STREAM
    found = find([(given, size) for size in _groups(part_for(given, machine), group)])
    if not found:
        raise refused[0]
    if group is not None:
        return Choice(given, group, found, {})
    taken, apart = found[0], _rectangles(machine, most)
    if streams is not None or in_flight not in (None, 1) or not apart:
        return Choice(given, taken.group, found, {})
    counted = {taken: _count(taken, kernel, machine, launches)}
    limit = _WORTH * counted[taken]
    several = find(apart, limit)
    if several and expected(several[0]) < limit:
        counted[several[0]] = _count(several[0], kernel, machine, launches)
        taken = several[0] if counted[several[0]] < limit else taken
    return Choice(taken.streams, taken.group, sorted(found + several, key=expected), counted)


def _groups(machine: Machine, given: Sides | None) -> list[Sides]:
    """The one given; the grid halved again and again, its columns, and its clusters."""
    grid = machine.grid
    rows, cols = grid.rows, grid.cols
    sizes = [(rows, cols)]
    while (longer := max(rows, cols)) > 1 and longer % 2 == 0:
        rows, cols = (rows // 2, cols) if rows == longer else (rows, cols // 2)
        sizes.append((rows, cols))
    return list(dict.fromkeys((*([given] if given else []), *sizes, (grid.rows, 1), (1, 1))))


def _rectangles(machine: Machine, matrices: int) -> list[tuple[Sides, Sides]]:
    """Several streams, a matrix for each of them, and all clusters of theirs as a group: the grid halved again and
    again, in either direction."""
    rows, cols = machine.grid.rows, machine.grid.cols
    streams = [(down, across) for down in _halves(rows) for across in _halves(cols)]
    most = min(matrices, _MOST_STREAMS)
    return [((down, across), (rows // down, cols // across)) for down, across in streams if 1 < down * across <= most]


def _halves(length: int) -> list[int]:
    """Numbers of equal parts of a line of clusters."""
    return [1 << times for times in range(length.bit_length()) if length % (1 << times) == 0]


def _bound(
    kernel: KernelOp, streams: Sides, group: Sides, machine: Machine, matrices: int, in_flight: int | None
) -> Candidate:
    """The least that a group can take: for the products with the matrix, a tile a cycle; for its way from the banks,
    which it takes for each product where a cluster has no room for its block."""
    part = part_for(streams, machine)
    values = mapping_of(kernel, group, part, ceil(matrices / (streams[0] * streams[1])), in_flight)
    loop, grid, cluster = only(kernel, ForOp), part.grid, part.cluster
    products = sum(isinstance(op, MatvecOp | MatvecTransposedOp) for op in loop.body.block.ops) * loop.count.value.data
    elements = values["slice_rows"] * values["slice_cols"]
    array = products * elements // (cluster.mac_rows * cluster.mac_cols)
    reads = products if 2 * elements > cluster.buffer_bytes else 1
    bank = reads * grid.rows * 2 * elements / part.bank.stream_bytes_per_cycle
    groups = grid.rows * grid.cols // (group[0] * group[1])
    return Candidate(streams, group, values["in_flight"], groups, alone=max(array, bank), array=array, bank=bank)


def _timed(bound: Candidate, kernel: KernelOp, machine: Machine) -> Candidate:
    """What a group is expected to take, by the cycles of one matrix in it.

    Raises:
        DcomError: its clusters have no room.
    """
    part = part_for(bound.streams, machine)
    lowered = _lowered(kernel, bound.streams, slices_of(kernel, bound.group, part), machine)
    timing = time_stream(lowered.words, part, lowered.layout, (), 1)
    return replace(bound, alone=timing.cycles, array=timing.busy[Unit.ARRAY], bank=timing.busy[Unit.BANK])


def _count(candidate: Candidate, kernel: KernelOp, machine: Machine, launches: Sequence[int]) -> int:
    """Cycles of all launches, as the simulator counts them."""
    from runtime.accelerator import time_launch  # the engines, which no other choice needs, take long to import

    part = part_for(candidate.streams, machine)
    values = mapping_of(kernel, candidate.group, part, max(launches), candidate.in_flight)
    lowered = _lowered(kernel, candidate.streams, values, machine)
    return sum(
        count * timing.cycles
        for matrices, count in Counter(launches).items()
        for timing in time_launch(lowered, machine, matrices)
    )


def _lowered(kernel: KernelOp, streams: Sides, values: Values, machine: Machine) -> Kernel:
    """The instructions of a copy that is mapped so."""
    copy = kernel.clone()
    copy.properties["mapping"] = dictionary(values)
    set_streams(copy, streams)
    part = part_of(copy, machine)
    schedule(copy, part)
    return assemble_kernel(lower_kernel(copy, part, rectangles(copy, machine)))


def explain(kernel: KernelOp, machine: Machine, launches: Sequence[int], choice: Choice) -> None:
    """Print what was expected of each mapping to standard error, the soonest first, what was counted, and which was
    taken."""
    sizes = [
        f"{counted(count, 'launch', 'launches')} of {counted(matrices, 'matrix', 'matrices')}"
        for matrices, count in sorted(Counter(launches).items())
    ]
    print(f"kernel {kernel.sym_name.data} on {machine.name}, {', '.join(sizes)}:", file=sys.stderr)
    rows = [
        (
            f"{candidate} (taken)" if candidate.place == (choice.streams, choice.group) else str(candidate),
            f"{round(candidate.expected(launches)):,}",
            f"{choice.counted[candidate]:,}" if candidate in choice.counted else "-",
            f"{candidate.alone:,}",
            f"{candidate.array / candidate.alone:.0%}",
            f"{candidate.bank / candidate.alone:.0%}",
        )
        for candidate in choice.found
    ]
    print_table(("mapping", "cycles", "counted", "one alone", "array busy", "bank busy"), rows, stderr=True)
