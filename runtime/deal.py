"""Which stream of a kernel takes which matrices of a launch: they are dealt out one by one, to all streams in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, lcm

from runtime.groups import Groups
from runtime.machine import Machine
from runtime.program import Kernel, KernelLayout, KernelStream

_BYTES_OF_A_RUN = 32 << 20
"""Bytes of all banks in a run; more is slower, for no cache holds them."""

Exits = tuple[tuple[bool, ...], ...]
"""For each stream, whether each of its exits left, in order."""


@dataclass(frozen=True)
class Share:
    """What a stream has to do in a run."""

    stream: KernelStream
    machine: Machine
    """Its rectangle."""
    matrices: range
    """Their numbers in the run; none where there are more streams than matrices."""
    rounds: int
    """Rounds in which it takes its matrices; one round of padding where it has none."""


def rounds(matrices: int, layout: KernelLayout, machine: Machine) -> int:
    """Rounds in which a stream takes so many matrices, each group `in_flight` of them a round."""
    return ceil(matrices / _a_round(layout, machine))


def _a_round(layout: KernelLayout, machine: Machine) -> int:
    return Groups.of(layout, machine.grid).count * layout.in_flight


def deal(kernel: Kernel, machine: Machine, matrices: int) -> tuple[Share, ...]:
    """The share of each stream in a run for so many matrices."""
    streams = kernel.streams_on(machine.grid)
    shares: list[Share] = []
    for number, stream in enumerate(streams):
        part, own = machine.part(stream.rows, stream.cols), range(number, matrices, len(streams))
        shares.append(Share(stream, part, own, max(1, rounds(len(own), kernel.layout, part))))
    return tuple(shares)


def together_in(kernel: Kernel, machine: Machine) -> int:
    """Matrices that one run of the simulation takes: those of a round, and more rounds where they are small."""
    streams, layout = kernel.streams_on(machine.grid), kernel.layout
    a_round = lcm(*(_a_round(layout, machine.part(stream.rows, stream.cols)) for stream in streams))
    if not kernel.takes_rounds:
        return a_round
    turns = [a_round // Groups.of(layout, machine.part(s.rows, s.cols).grid).count * s.cols for s in streams]
    return len(streams) * a_round * max(1, _BYTES_OF_A_RUN // (sum(turns) * layout.bank_bytes))


def join_exits(runs: Sequence[tuple[int, Exits]]) -> Exits:
    """The exits of a launch whose matrices were simulated in several runs.

    Args:
        runs: the number of matrices of each run, and its exits. A stream without a matrix in a run takes one of
            padding; its exits count only where the stream has no matrix in the whole launch.
    """
    if not runs:
        return ()
    first = runs[0][1]
    return tuple(
        tuple(left for matrices, exits in runs if number < matrices for left in exits[number])
        if number < runs[0][0]
        else first[number]
        for number in range(len(first))
    )
