"""Where a launch's matrices may go on the grid, and how soon each of these ways may take them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from dialects.cluster import ForOp, KernelOp, MatvecOp, MatvecTransposedOp
from dialects.isa import assemble_kernel
from passes._kernels import dictionary, only
from passes._mappings import Values, mapping_of, slices_of
from passes._streams import ONE_STREAM, Sides, part_for, part_of, rectangles, set_streams
from passes.cluster_schedule import schedule, slot_bytes
from passes.lower_cluster_to_isa import lower_kernel
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.program import Kernel
from runtime.steady import time_stream

Place = tuple[Sides, Sides]
"""Streams down and across, and rows and columns of a group of clusters, several of which may lie in a stream's
rectangle."""

_CROWDING = 4
"""Matrices in flight that need nearly as long for their chains as the machine for their work get in each other's way:
a round takes about the p-norm of the two. Checked against the simulator: see `test_mapping.py`."""
_LEAST_IN_FLIGHT, _LEAST_OF_STREAMS = 0.95, 0.92
"""Of the cycles that are expected of matrices in flight, and of streams that take several rounds each: they may hide
more of one another's chains and loading, but no fewer are counted."""
_MOST_STREAMS = 16
"""More save little beside these, and take long to simulate."""


@dataclass(frozen=True)
class Candidate:
    """A mapping of a kernel, and what one matrix takes by it, at least or as timed."""

    streams: Sides
    """Rectangles down and across."""
    group: Sides
    """Clusters that hold a matrix together."""
    groups: int
    """In each rectangle."""
    in_flight: int
    """Matrices of a group at a time."""
    alone: float
    """Cycles of a matrix that has its rectangle to itself: its chain of instructions, each of which waits for others.
    So what follows counts one matrix in each group."""
    array: float
    """Of these, busy cycles of the multipliers."""
    bank: float
    """And of the banks."""
    load: float
    """And of the banks for reading the matrix once."""
    stays: bool
    """Whether the matrix stays in the buffers; else each product reads it again."""

    @property
    def place(self) -> Place:
        """Streams and group."""
        return self.streams, self.group

    @property
    def is_folded(self) -> bool:
        """Whether a matrix is cut by its columns alone, over all clusters of its group."""
        return self.groups > 1

    def rounds(self, matrices: int) -> int:
        """In which a stream takes its share of so many."""
        return ceil(matrices / (prod(self.streams) * self.groups * self.in_flight))

    def a_round(self) -> tuple[float, str]:
        """Cycles from one round to the next, and what they are spent for.

        That is the slowest of the chain of one matrix, the multipliers, and the banks, which serve streams above one
        another in turn; a crowd in flight takes longer.
        """
        down, _ = self.streams
        work = {
            "chain": self.alone,
            "array": self.in_flight * self.array,
            "bank": down * self.in_flight * self.bank,
        }
        slowest = max(work, key=work.__getitem__)
        if self.in_flight == 1:
            return work[slowest], slowest
        return sum(cycles**_CROWDING for cycles in work.values()) ** (1 / _CROWDING), slowest

    def cycles(self, matrices: int) -> float:
        """Of a launch: its rounds; matrices in flight begin an equal part of their chain apart, and streams above one
        another read their first matrices one after another."""
        down, _ = self.streams
        a_round, _ = self.a_round()
        if self.in_flight > 1:
            return self.rounds(matrices) * a_round + (1 - 1 / self.in_flight) * self.alone + (down - 1) * self.load
        last = max(self.alone + (down - 1) * self.load, down * self.bank)
        return (self.rounds(matrices) - 1) * a_round + last

    def expected(self, launches: Sequence[int]) -> float:
        """Cycles of all launches, of so many matrices each."""
        return sum(map(self.cycles, launches))

    def at_least(self, launches: Sequence[int]) -> float:
        """Fewer cycles of all launches are not counted.

        One round of one matrix in each group is as expected, and with one stream all are.
        """
        if self.in_flight > 1:
            return _LEAST_IN_FLIGHT * self.expected(launches)
        several_rounds = self.streams != ONE_STREAM and self.rounds(max(launches)) > 1
        return (_LEAST_OF_STREAMS if several_rounds else 1) * self.expected(launches)

    def __str__(self) -> str:
        (down, across), (rows, cols) = self.streams, self.group
        flight = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        streams = f", {down}x{across} streams" if self.streams != ONE_STREAM else ""
        return f"{rows}x{cols}{flight}{streams}"


def places(machine: Machine, streams: Sides | None) -> Iterator[Place]:
    """The grid for one matrix, and all other groups that fill it or the rectangles of streams.

    Streams side by side that share no bank take as long as groups side by side in one stream, so several across are
    looked at only where each is one group, whose matrix is not folded. There may be more of them than matrices.

    Args:
        streams: the only ones, if given.
    """
    grid = machine.grid
    several = [(down, across) for down in _divisors(grid.rows) for across in _divisors(grid.cols)]
    for sides in [streams] if streams else [sides for sides in several if prod(sides) <= _MOST_STREAMS]:
        part = part_for(sides, machine).grid
        yield sides, (part.rows, part.cols)
        if streams or sides[1] == 1:
            groups = ((rows, cols) for rows in _divisors(part.rows) for cols in _divisors(part.cols))
            yield from ((sides, group) for group in groups if group != (part.rows, part.cols))


def _divisors(length: int) -> list[int]:
    return [number for number in range(1, length + 1) if length % number == 0]


def bound(kernel: KernelOp, place: Place, machine: Machine, matrices: int, in_flight: int | None) -> Candidate:
    """The least that a place can take: for the products with the matrix, a tile a cycle; for its way from the banks,
    which it takes for each product where a cluster has no room for its block.

    Args:
        matrices: of the largest launch.
        in_flight: as many as have room and are there, unless given.

    Raises:
        DcomError: there is no room.
    """
    streams, group = place
    part = part_for(streams, machine)
    values = mapping_of(kernel, group, part, ceil(matrices / prod(streams)), in_flight)
    loop, grid, cluster = only(kernel, ForOp), part.grid, part.cluster
    products = sum(isinstance(op, MatvecOp | MatvecTransposedOp) for op in loop.body.block.ops) * loop.count.value.data
    elements = values["slice_rows"] * values["slice_cols"]
    array = products * elements / (cluster.mac_rows * cluster.mac_cols)
    load = grid.rows * 2 * elements / part.bank.stream_bytes_per_cycle
    stays = slot_bytes(kernel, values, part) <= cluster.buffer_bytes
    bank = load if stays else products * load
    return Candidate(
        streams=streams,
        group=group,
        groups=grid.rows * grid.cols // prod(group),
        in_flight=values["in_flight"],
        alone=array + load if stays else max(array, bank),
        array=array,
        bank=bank,
        load=load,
        stays=stays,
    )


def time_alone(candidate: Candidate, kernel: KernelOp, machine: Machine) -> Candidate:
    """The same with the cycles of one matrix, as the simulator counts them; raises `DcomError` where the clusters have
    no room."""
    part = part_for(candidate.streams, machine)
    lowered = _lowered(kernel, candidate.streams, slices_of(kernel, candidate.group, part), machine)
    timing = time_stream(lowered.words, part, None, (), 1)  # cycles do not depend on what the products are of
    return replace(candidate, alone=timing.cycles, array=timing.busy[Unit.ARRAY], bank=timing.busy[Unit.BANK])


def count(candidate: Candidate, kernel: KernelOp, machine: Machine, launches: Sequence[int]) -> int:
    """Cycles of all launches, as the simulator counts them; raises `DcomError` as `time_alone`."""
    from runtime.accelerator import time_launch  # the engines, which no other choice needs, take long to import

    part = part_for(candidate.streams, machine)
    values = mapping_of(kernel, candidate.group, part, max(launches), candidate.in_flight)
    lowered = _lowered(kernel, candidate.streams, values, machine)
    timings = {matrices: time_launch(lowered, machine, matrices) for matrices in set(launches)}
    return sum(timing.cycles for matrices in launches for timing in timings[matrices])


def _lowered(kernel: KernelOp, streams: Sides, values: Values, machine: Machine) -> Kernel:
    """The instructions of a copy that is mapped so."""
    copy = kernel.clone()
    copy.properties["mapping"] = dictionary(values)
    set_streams(copy, streams)
    part = part_of(copy, machine)
    schedule(copy, part)
    return assemble_kernel(lower_kernel(copy, part, rectangles(copy, machine)))
