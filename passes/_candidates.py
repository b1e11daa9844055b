"""Where a launch's matrices may go on the grid, and how soon each of these ways may take them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil, prod
from typing import Self

from xdsl.dialects.builtin import StringAttr

from dcomc.costs import Work
from dialects.cluster import ForOp, KernelOp, MatrixOp, MatvecOp, MatvecTransposedOp
from dialects.isa import assemble_kernel
from passes._kernels import dictionary, only
from passes._mappings import Values, mapping_of, slices_of
from passes._roofline import Roofline
from passes._streams import ONE_STREAM, Sides, part_of_each, part_of_mapped, rectangles, set_streams
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
a round takes about the p-norm of all. Checked against the simulator: see `test_mapping.py`."""
_LOW = 0.95
"""Of the cycles that are expected: fewer are seldom counted (0.83 was the lowest on random small machines)."""
_MOST_STREAMS = 16
"""More save little beside these, and take long to simulate."""


@dataclass(frozen=True)
class Candidate:
    """A mapping of a kernel, and what one matrix takes by it, roughly or as timed."""

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

    @property
    def work(self) -> dict[str, float]:
        """Cycles of a round for the chain of one matrix, for the multipliers, and for the banks, which serve streams
        above one another in turn."""
        down, _ = self.streams
        return {
            "chain": self.alone,
            "array": self.in_flight * self.array,
            "bank": down * self.in_flight * self.bank,
        }

    def turns(self, matrices: int) -> int:
        """Matrices that a bank serves, of so many."""
        return ceil(matrices / (self.streams[1] * self.groups))

    def cycles(self, matrices: int) -> float:
        """Of a launch: its rounds; matrices in flight begin an equal part of their chain apart, and streams above one
        another read their first matrices one after another, and each matrix in its turn."""
        down, _ = self.streams
        rounds, turns, further = self.rounds(matrices), self.turns(matrices), (down - 1) * self.load
        if self.in_flight > 1:
            a_round = sum(cycles**_CROWDING for cycles in self.work.values()) ** (1 / _CROWDING)
            return rounds * a_round + (1 - 1 / self.in_flight) * self.alone + further
        last = min(turns - (rounds - 1) * down, down) - 1
        return max(rounds * self.alone + last * self.load, self.alone + further, turns * self.bank)

    def expected(self, launches: Sequence[int]) -> float:
        """Cycles of all launches, of so many matrices each."""
        return sum(map(self.cycles, launches))

    def low_estimate(self, launches: Sequence[int]) -> float:
        """Fewer cycles of all launches are seldom counted: rounds one after another of a matrix in each group are as
        expected; other matrices may hide more of one another's chains and loading, but not of what a bank takes."""
        if self.in_flight == 1 and (self.streams == ONE_STREAM or self.rounds(max(launches)) == 1):
            return self.expected(launches)
        busy = sum(self.turns(matrices) * self.bank for matrices in launches)
        return max(_LOW * self.expected(launches), busy)

    def __str__(self) -> str:
        (down, across), (rows, cols) = self.streams, self.group
        flight = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        streams = f", {down}x{across} streams" if self.streams != ONE_STREAM else ""
        return f"{rows}x{cols}{flight}{streams}"


@dataclass(frozen=True)
class Unmapped:
    """A kernel that is not mapped, equal to each other of the same text but for its name: what was found of it is known
    of all of them, when a model is lowered again."""

    text: str
    kernel: KernelOp = field(compare=False, repr=False)

    @classmethod
    def of(cls, kernel: KernelOp) -> Self:
        """A copy of a kernel, so that its module is not kept."""
        copy, nameless = kernel.clone(), kernel.clone()
        nameless.properties["sym_name"] = StringAttr("")
        return cls(str(nameless), copy)


def places(machine: Machine, matrices: int, streams: Sides | None) -> Iterator[Place]:
    """The grid for one matrix, and all other groups that fill it or the rectangles of streams.

    Streams side by side that share no bank take as long as groups side by side in one stream, so several across are
    looked at only where each is one group, whose matrix is not folded.

    Args:
        matrices: of the largest launch; of more than one stream at least half get any.
        streams: the only ones, if given.
    """
    grid, most = machine.grid, min(2 * matrices - 1, _MOST_STREAMS)
    several = [(down, across) for down in _divisors(grid.rows) for across in _divisors(grid.cols)]
    for sides in [streams] if streams else [sides for sides in several if prod(sides) <= most]:
        part = part_of_each(sides, machine).grid
        yield sides, (part.rows, part.cols)
        if streams or sides[1] == 1:
            groups = ((rows, cols) for rows in _divisors(part.rows) for cols in _divisors(part.cols))
            yield from ((sides, group) for group in groups if group != (part.rows, part.cols))


def _divisors(length: int) -> list[int]:
    return [number for number in range(1, length + 1) if length % number == 0]


def rough(unmapped: Unmapped, place: Place, machine: Machine, matrices: int, in_flight: int | None) -> Candidate:
    """What a place takes as far as is known without timing it: for the products with the matrix, a tile a cycle; for
    its way from the banks, which it takes for each product where a cluster has no room for its block.

    Args:
        matrices: of the largest launch.
        in_flight: as many as have room and are there, unless given.

    Raises:
        DcomError: there is no room.
    """
    (streams, group), kernel = place, unmapped.kernel
    part = part_of_each(streams, machine)
    values = mapping_of(kernel, group, part, ceil(matrices / prod(streams)), in_flight)
    grid, cluster, products = part.grid, part.cluster, _products(kernel)
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


def _products(kernel: KernelOp) -> int:
    """Products of a kernel with its matrix, or with the transpose."""
    loop = only(kernel, ForOp)
    return loop.count.value.data * sum(isinstance(op, MatvecOp | MatvecTransposedOp) for op in loop.body.block.ops)


def fewest_cycles(kernel: KernelOp, machine: Machine, matrices: int) -> float:
    """A bound for all mappings: every multiplication of the products with so many matrices, by all multipliers, or one
    read of each matrix, from all banks."""
    rows, cols = only(kernel, MatrixOp).matrix.type.shape
    elements = matrices * rows * cols
    work = Work(flops=2 * _products(kernel) * elements, bytes=2 * elements)
    return Roofline.of_machine(machine).time([work])


@lru_cache(maxsize=1024)
def time_alone(candidate: Candidate, kernel: Unmapped, machine: Machine) -> Candidate:
    """The same with the cycles of one matrix, as the simulator counts them; raises `DcomError` where the clusters have
    no room."""
    part = part_of_each(candidate.streams, machine)
    lowered = _lowered(kernel.kernel, candidate.streams, slices_of(kernel.kernel, candidate.group, part), machine)
    timing = time_stream(lowered.words, part, None, (), 1)  # cycles do not depend on what the products are of
    return replace(candidate, alone=timing.cycles, array=timing.busy[Unit.ARRAY], bank=timing.busy[Unit.BANK])


def count(candidate: Candidate, kernel: Unmapped, machine: Machine, launches: Sequence[int]) -> int:
    """Cycles of all launches, as the simulator counts them; raises `DcomError` as `time_alone`."""
    most = max(launches)
    return sum(_count(candidate, kernel, machine, most, matrices) for matrices in launches)


@lru_cache(maxsize=1024)
def _count(candidate: Candidate, kernel: Unmapped, machine: Machine, most: int, matrices: int) -> int:
    """Cycles of a launch, where the largest has `most` matrices."""
    from runtime.accelerator import launch_cycles  # the engines, which no other choice needs, take long to import

    part = part_of_each(candidate.streams, machine)
    values = mapping_of(kernel.kernel, candidate.group, part, most, candidate.in_flight)
    lowered = _lowered(kernel.kernel, candidate.streams, values, machine)
    return launch_cycles(lowered, machine, matrices)


def _lowered(kernel: KernelOp, streams: Sides, values: Values, machine: Machine) -> Kernel:
    """The instructions of a copy that is mapped so."""
    copy = kernel.clone()
    copy.properties["mapping"] = dictionary(values)
    set_streams(copy, streams)
    part = part_of_mapped(copy, machine)
    schedule(copy, part)
    return assemble_kernel(lower_kernel(copy, part, rectangles(copy, machine)))
