"""Where a program's cycles go: by decomposition, kernel, step, instruction, line of the model, cause and unit."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from runtime.accelerator import check_lengths, launch_uses, time_launch
from runtime.counts import Counts, Direction, Use
from runtime.energy import energies
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.program import Kernel, KernelStream, Launch, Program
from runtime.sequencer import ISSUE_LIMIT
from runtime.technology import Technology
from runtime.timing import Timing, add_causes

_PLACE = re.compile(r"\(([^()]*)\)")
"""The text in brackets, as in `model.layers.1.mlp.down_proj (modeling_llama.py:164)`."""


@dataclass(frozen=True)
class LaunchProfile:
    """What a launch does, without breakdowns."""

    launch: Launch
    kernel: Kernel
    timings: tuple[Timing, ...]
    """The timings of its runs, which all take the same."""
    uses: Mapping[Use, int]
    """Multiplications; those of groups of clusters that get no matrix are padding."""

    @cached_property
    def counts(self) -> Counts:
        """The counts of all its runs."""
        return Counts().plus(self.timings[0].counts, len(self.timings))

    @property
    def cycles(self) -> int:
        """Cycles from its beginning to its end."""
        return sum(timing.cycles for timing in self.timings)

    @property
    def streams(self) -> list[tuple[KernelStream | None, Counts]]:
        """Its counts by stream; one over all clusters has no rectangle."""
        if not self.timings[0].streams:
            return [(None, self.counts)]
        return [(stream, timing.counts) for run in self.timings for stream, timing in run.streams]


@dataclass(frozen=True)
class Line:
    """Counts of one kind with what they are of."""

    name: str
    counts: Counts
    """What the streams did; counts of several kernels no longer tell which instruction they are of."""


@dataclass(frozen=True)
class Profile:
    """Counts of a program's launches, one after another; each view of them has all cycles of all streams."""

    machine: Machine
    launches: tuple[LaunchProfile, ...]

    @cached_property
    def total(self) -> Counts:
        """The counts of everything."""
        return _sum(launch.counts for launch in self.launches)

    @property
    def cycles(self) -> int:
        """Cycles from the beginning of the first launch to the end of the last."""
        return sum(launch.cycles for launch in self.launches)

    @property
    def causes(self) -> dict[str, float]:
        """The cycles by cause; where kernels have several streams, the mean over them."""
        return add_causes(timing for launch in self.launches for timing in launch.timings)

    @property
    def busy(self) -> dict[Unit, float]:
        """Cycles of these that each unit was busy, as in `Timing`."""
        timings = [timing for launch in self.launches for timing in launch.timings]
        return {unit: sum(timing.busy[unit] for timing in timings) for unit in Unit}

    def bank_bytes(self, way: Direction) -> list[int]:
        """Bytes in one direction of each bank."""
        moved = [0] * self.machine.grid.cols
        for stream, counts in (each for launch in self.launches for each in launch.streams):
            for own, bank in enumerate(stream.columns if stream else range(len(moved))):
                moved[bank] += counts.bank_bytes(way, own)
        return moved

    @property
    def uses(self) -> dict[Use, int]:
        """Multiplications by use."""
        return {use: sum(launch.uses[use] for launch in self.launches) for use in Use}

    def by(self, view: str) -> list[Line]:
        """The lines of a view of `VIEWS`, those of most cycles first."""
        parts: dict[str, list[Counts]] = {}
        for launch in self.launches:
            for line in VIEWS[view](launch):
                parts.setdefault(line.name, []).append(line.counts)
        lines = [Line(name, _sum(counts)) for name, counts in parts.items()]
        return sorted(lines, key=lambda line: -line.counts.cycles)

    def to_json(self, technology: Technology) -> dict[str, Any]:
        """All views as JSON values, in cycles, bytes and multiplications; joules from least to most.

        The causes add up to the cycles; where kernels have several streams they are the mean over these
        (`Timing.mean_causes`). A line of a view has the cycles of all streams together, and its causes add up to them;
        the lines of each view add up to the `stream_cycles`.
        """
        return {
            "machine": {"name": self.machine.name, "hash": self.machine.hash},
            "cycles": self.cycles,
            "seconds": self.cycles / self.machine.clock.hz,
            "instructions": self.total.instructions,
            "causes": self.causes,
            "stream_cycles": self.total.cycles,
            "busy": self.busy,
            "bank_bytes": {way: self.bank_bytes(way) for way in Direction},
            "multiplications": self.uses,
            "technology": technology.name,
            "joules": {unit: asdict(joules) for unit, joules in energies(self.total, technology).items()},
            **{view: [line_to_json(line, self.machine) for line in self.by(view)] for view in VIEWS},
        }


def profile(program: Program) -> Profile:
    """Time the launches of a program, without data and so without breakdowns."""
    check_lengths(program, ISSUE_LIMIT)
    timed: dict[tuple[str, int], tuple[tuple[Timing, ...], Mapping[Use, int]]] = {}
    launches: list[LaunchProfile] = []
    for launch in program.launches:
        kernel, key = program.kernel(launch.kernel), (launch.kernel, launch.prompts)
        if key not in timed:
            timings = time_launch(kernel, program.machine, launch.prompts)
            timed[key] = timings, launch_uses(kernel, program.machine, launch.prompts, timings)
        launches.append(LaunchProfile(launch, kernel, *timed[key]))
    return Profile(program.machine, tuple(launches))


def _split(name: Callable[[LaunchProfile, int], str]) -> Callable[[LaunchProfile], Iterable[Line]]:
    """A view that names each instruction of a launch."""

    def view(launch: LaunchProfile) -> Iterable[Line]:
        parts: dict[str, set[int]] = {}
        for index in launch.counts.issues:
            parts.setdefault(name(launch, index), set()).add(index)
        return (Line(name, launch.counts.part(indices)) for name, indices in parts.items())

    return view


def _whole(name: Callable[[LaunchProfile], str]) -> Callable[[LaunchProfile], Iterable[Line]]:
    """A view that names launches."""
    return lambda launch: [Line(name(launch), launch.counts)]


def _streams(launch: LaunchProfile) -> Iterable[Line]:
    """A line for each stream of a kernel, by its rectangle."""
    for number, (stream, counts) in enumerate(launch.streams):
        yield Line(f"stream {number}, {stream}" if stream else "all clusters", counts)


def _op(launch: LaunchProfile, index: int) -> str:
    """What stands before the place: `z = A^T u` of `z = A^T u (model.layers.1 (modeling.py:3))`."""
    return launch.kernel.locations[index].partition(" (")[0]


def _place(launch: LaunchProfile) -> str:
    """The lines of a location such as `model.layers.1.mlp.down_proj (modeling_llama.py:164)`; all of it where it has
    none."""
    return "; ".join(_PLACE.findall(launch.launch.location)) or launch.launch.location


VIEWS: Mapping[str, Callable[[LaunchProfile], Iterable[Line]]] = {
    "decomposition": _whole(lambda launch: launch.launch.key),
    "kernel": _whole(lambda launch: launch.kernel.name),
    "stream": _streams,
    "line": _whole(_place),
    "op": _split(_op),
    "opcode": _split(lambda launch, index: launch.kernel.words[index].instruction.mnemonic),
    "instruction": _split(lambda launch, index: f"{launch.kernel.name}:{index} {launch.kernel.words[index]}"),
}
"""What cycles can be told by: launch, kernel, stream of a kernel, line of the model, operation of the kernel in MLIR,
kind of instruction, and instruction by its place."""


def _sum(parts: Iterable[Counts]) -> Counts:
    total = Counts()
    for part in parts:
        total = total.plus(part)
    return total


def busy_of(counts: Counts, machine: Machine) -> dict[Unit, float]:
    """Busy cycles of each unit; of the banks, the mean over the columns."""
    return Timing(counts.cycles, counts, machine.grid.cols).busy


def line_to_json(line: Line, machine: Machine) -> dict[str, Any]:
    """A line of a view."""
    return {
        "name": line.name,
        "cycles": line.counts.cycles,
        "instructions": line.counts.instructions,
        "causes": line.counts.causes,
        "busy": busy_of(line.counts, machine),
        "bank_bytes": {way: line.counts.bank_bytes(way) for way in Direction},
    }
