"""What a program's kernels take: a timeline of each, its cycles by cause, and its place under the roofline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dcomc.costs import SiteCost
from dcomc.simulate import LaunchResult
from runtime.accelerator import time_launch
from runtime.deal import together_in
from runtime.events import run_events
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.program import Kernel, Program

WAITS = "stream"
"""Stands for a unit where the stream waits."""
MOST_EVENTS = 8000
"""The most events of a timeline; a longer run is shown as far as they go."""
MOST_STREAMS = 16
"""The most streams of a timeline, which share its events; further streams do the same on other clusters, and are not
shown."""


@dataclass(frozen=True)
class InstructionCycles:
    """What one instruction of a kernel took in all its issues."""

    issues: int
    busy: float
    """Cycles that its unit worked; for the banks the mean over the columns."""
    cycles: Mapping[str, float]
    """Cycles of the stream by cause: its issues, and what the stream waited for before them; of several the mean."""


@dataclass(frozen=True)
class KernelCycles:
    """A run of a kernel, without a breakdown. The lists of the timeline have an entry an event."""

    name: str
    matrices: int
    """Decomposed by the run."""
    cycles: int
    causes: Mapping[str, float]
    """Each cycle of the stream has one: an issue, or what it waited for; of several streams the mean."""
    busy: Mapping[str, float]
    """Cycles that each unit worked; for the banks the mean over the columns."""
    uses: Mapping[str, int]
    """Multiplications by use."""
    instructions: tuple[InstructionCycles, ...]
    streams: tuple[str, ...]
    """The clusters of each stream of the timeline."""
    all_streams: int
    """How many there are."""
    event_streams: tuple[int, ...]
    event_instructions: tuple[int, ...]
    event_units: tuple[str, ...]
    """The unit, or `stream` where that waits."""
    event_causes: tuple[str, ...]
    """Why the stream waited."""
    event_starts: tuple[int, ...]
    event_ends: tuple[int, ...]


@dataclass(frozen=True)
class RooflinePoint:
    """Decompositions by the same kernel in the same number of matrices, which take the same time."""

    label: str
    launches: tuple[str, ...]
    flops: int
    """Operations of the algorithm for each of them: products with the matrix, orthogonalisation and truncation."""
    bytes: int
    """Bytes that the banks moved."""
    seconds: float


@dataclass(frozen=True)
class Roofline:
    """The machine's two bounds, and what the decompositions reach."""

    flops_per_second: float
    """Two for each multiplier and cycle."""
    bytes_per_second: float
    """The bandwidth of all banks together."""
    points: tuple[RooflinePoint, ...]


def time_kernels(program: Program) -> tuple[KernelCycles, ...]:
    """The first run of each kernel that is launched."""
    prompts: dict[str, int] = {}
    for launch in program.launches:
        prompts.setdefault(launch.kernel, launch.prompts)
    return tuple(
        _time(kernel, program.machine, prompts[kernel.name]) for kernel in program.kernels if kernel.name in prompts
    )


def _time(kernel: Kernel, machine: Machine, prompts: int) -> KernelCycles:
    timing = time_launch(kernel, machine, prompts)[0]
    counts, instructions = timing.counts, list[InstructionCycles]()
    waits: dict[int, dict[str, float]] = {index: {} for index in range(len(kernel.words))}
    streams = kernel.streams_on(machine.grid)
    for (index, cause), cycles in counts.waits.items():
        waits[index][cause] = cycles / len(streams) if timing.streams else cycles
    for index, word in enumerate(kernel.words):
        unit = word.instruction.unit
        busy = counts.busy[index, unit] / (timing.columns if unit is Unit.BANK else len(streams))
        instructions.append(InstructionCycles(counts.issues[index], busy, waits[index]))
    shown = min(len(streams), MOST_STREAMS)
    each = MOST_EVENTS // shown
    first = list(islice(_events(kernel, machine, prompts, 1), each))
    until = first[-1][-1] if len(first) == each else None
    events = first if shown == 1 else list(_events(kernel, machine, prompts, shown, until))
    of_streams, numbers, units, causes, starts, ends = zip(*events, strict=True) if events else ((),) * 6
    return KernelCycles(
        kernel.name,
        prompts if kernel.takes_rounds else min(prompts, together_in(kernel, machine)),
        timing.cycles,
        timing.mean_causes,
        {unit: timing.busy[unit] for unit in Unit if unit in timing.busy and unit is not Unit.CONTROL},
        {str(use): count for use, count in timing.uses.items()},
        tuple(instructions),
        tuple(map(str, streams[:shown])),
        len(streams),
        of_streams,
        numbers,
        units,
        causes,
        starts,
        ends,
    )


def _events(
    kernel: Kernel, machine: Machine, prompts: int, streams: int, until: int | None = None
) -> Iterator[tuple[int, int, str, str, int, int]]:
    """Everything that the first streams do: number of the stream, instruction, unit or `stream`, cause of a wait, first
    cycle, and the one after the last."""
    for event in run_events(kernel, machine, prompts, until):
        if event.stream >= streams:
            continue
        index, instruction = event.issue.index, event.issue.word.instruction
        if event.start > event.waited:
            yield event.stream, index, WAITS, event.cause, event.waited, event.start
        if event.end > event.begun:
            yield event.stream, index, instruction.unit, "", event.begun, event.end


def make_roofline(machine: Machine, results: Sequence[LaunchResult], costs: Sequence[SiteCost]) -> Roofline:
    """Each decomposition's operations a second against the operations that it does for a byte of the banks."""
    flops = {(cost.layer, cost.site): cost.decomposition.flops for cost in costs}
    points: dict[tuple[str, int, int], list[LaunchResult]] = {}
    for result in results:
        launch = result.launch
        key = launch.kernel, launch.prompts, flops.get((launch.layer, launch.site), 0)
        points.setdefault(key, []).append(result)
    return Roofline(
        2.0 * machine.multipliers * machine.clock.hz,
        float(machine.bank_bytes_per_second),
        tuple(
            RooflinePoint(
                f"{first.rows} x {first.cols}, rank {first.launch.rank}",
                tuple(result.launch.key for result in found),
                work,
                sum(timing.bank_bytes for timing in first.timings),
                first.cycles / machine.clock.hz,
            )
            for (_, _, work), found in points.items()
            for first in found[:1]
            if work and first.cycles
        ),
    )
