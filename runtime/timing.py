"""Cycles of streams: when each instruction issues, and for what its stream waited.

A stream issues in order, one instruction each `issue` cycles. An instruction issues once what it reads is written, what
it overwrites is no longer read or written, and its unit is free; it keeps the unit for `busy` cycles, and its result is
there `latency` cycles later. A bank serves its streams in the order of their issue. Results are not forwarded before
they are complete. Every cycle of the stream has one cause: an issue, or the wait for what came last; the causes add up
to the total. What each instruction did is counted beside.
"""

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from runtime import costs
from runtime.counts import Counts, Direction, Use
from runtime.instruction import AFTER_BUFFERS, GLOBAL_PORTS
from runtime.instructions import Access, Unit
from runtime.machine import Machine
from runtime.operands import TOKENS
from runtime.products import ProductReader
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import Issue
from runtime.written import deadlock


@dataclass(frozen=True)
class Timing:
    """What a stream took, or several side by side."""

    cycles: int
    """Until the last has ended."""
    counts: Counts
    """The counts of each instruction; their cycles add up to those of all streams."""
    columns: int
    """Columns of the grid, each with a bank."""
    streams: tuple[tuple[KernelStream, "Timing"], ...] = ()
    """The timing of each of several streams by itself."""

    @classmethod
    def of_streams(cls, streams: Sequence[KernelStream], timings: Sequence["Timing"], columns: int) -> "Timing":
        """The timing of streams side by side, on a grid of so many columns."""
        if len(timings) == 1:
            return timings[0]
        total = Counts()
        for timing in timings:
            total = total.plus(timing.counts)
        together = tuple(zip(streams, timings, strict=True))
        return cls(max(timing.cycles for timing in timings), total, columns, together)

    @cached_property
    def causes(self) -> dict[str, int]:
        """Cycles by cause; they add up to those of all streams."""
        return self.counts.causes

    @cached_property
    def mean_causes(self) -> dict[str, float]:
        """Cycles by cause, the mean over the streams, adding up to the cycles; in those of `ended` a stream has nothing
        more to do while others go on."""
        if not self.streams:
            return dict(self.causes)
        ended = sum(self.cycles - timing.cycles for _, timing in self.streams)
        causes = {**self.causes, "ended": ended} if ended else self.causes
        return {cause: cycles / len(self.streams) for cause, cycles in causes.items()}

    @cached_property
    def busy(self) -> dict[Unit, float]:
        """Cycles that each unit was busy: of the banks the mean over the columns; of units that each stream has for
        itself the mean over the streams, by their clusters."""
        if not self.streams:
            return {unit: busy / (self.columns if unit is Unit.BANK else 1) for unit, busy in self.counts.units.items()}
        clusters = sum(stream.clusters for stream, _ in self.streams)

        def share(stream: KernelStream, unit: Unit) -> float:
            if unit in GLOBAL_PORTS:
                return 1.0
            return stream.cols / self.columns if unit is Unit.BANK else stream.clusters / clusters

        return {unit: sum(timing.busy[unit] * share(stream, unit) for stream, timing in self.streams) for unit in Unit}

    @cached_property
    def bank_bytes(self) -> int:
        """Bytes that the banks sent and took."""
        return self.counts.all_bank_bytes

    @cached_property
    def uses(self) -> dict[Use, int]:
        """Multiplications by use, of all clusters together."""
        return self.counts.uses

    @cached_property
    def instructions(self) -> int:
        """Instructions that issued."""
        return self.counts.instructions

    def share(self, unit: Unit) -> float:
        """Busy cycles of a unit over all cycles."""
        return self.busy[unit] / self.cycles if self.cycles else 0.0


def add_causes(timings: Iterable[Timing]) -> dict[str, float]:
    """Cycles by cause of runs one after another, adding up to theirs; of several streams the mean."""
    causes: dict[str, float] = {}
    for timing in timings:
        for cause, cycles in timing.mean_causes.items():
            causes[cause] = causes.get(cause, 0) + cycles
    return causes


@dataclass(frozen=True)
class Mark:
    """A time in a stream."""

    clock: int
    counts: Counts
    """Until then."""


@dataclass
class _InFlight:
    """A use of bytes that has not ended."""

    start: int
    end: int
    until: int
    unit: Unit


@dataclass
class Port:
    """What serves one instruction at a time, of one stream or of several."""

    free: int = 0
    """The first cycle in which it is."""


Ports = Mapping[Unit, Sequence[Port]]
"""The ports that each unit of a stream needs, all at once."""


def ports_of(streams: Sequence[KernelStream]) -> list[Ports]:
    """The ports of streams side by side: those of the global memory are the same for all, those of banks the same for
    the streams that have a column in common."""
    edges = sorted({edge for stream in streams for edge in (stream.columns.start, stream.columns.stop)})
    banks = {first: Port() for first in edges}  # of the columns from one edge to the next, which work in step
    shared = {unit: (Port(),) for unit in GLOBAL_PORTS}
    return [
        {
            **{unit: (Port(),) for unit in Unit},
            Unit.BANK: tuple(port for first, port in banks.items() if first in stream.columns),
            **shared,
        }
        for stream in streams
    ]


class State(NamedTuple):
    """All that the waits and counts of a stream's further instructions depend on but for shared units, relative to its
    clock."""

    ports: tuple[int, ...]
    last: int
    tokens: tuple[int | None, ...]
    writes: tuple[tuple[int, int, int, Unit], ...]
    reads: tuple[tuple[int, int, int, Unit], ...]
    scalars: frozenset[tuple[int, int, Unit]]
    scalar_reads: frozenset[tuple[int, int, Unit]]
    products: Hashable


class TimingReader:
    """Reads the issues of one stream in order and keeps its clock.

    Args:
        layout: of the kernel; it tells what multiplications are for.
        ports: of the stream, where others use them, too.
        shared: the units that others use, too.
    """

    def __init__(
        self,
        machine: Machine,
        layout: KernelLayout | None = None,
        ports: Ports | None = None,
        shared: Container[Unit] = (),
    ) -> None:
        self._machine = machine
        self._grid = machine.grid.rows, machine.grid.cols
        self._clock = 0
        self._counts = Counts()
        self._products = ProductReader(machine, layout)
        self._ports = ports or {unit: (Port(),) for unit in Unit}
        self._own_ports = [port for unit, of_unit in self._ports.items() if unit not in shared for port in of_unit]
        self._writes: list[_InFlight] = []
        self._reads: list[_InFlight] = []
        self._scalars: dict[int, tuple[int, Unit]] = {}
        self._scalar_reads: dict[int, tuple[int, Unit]] = {}
        self._tokens: list[int | None] = [None] * TOKENS
        self._last = 0

    def read(self, issue: Issue, released: int = 0) -> None:
        """Account for one instruction.

        Args:
            released: when the last stream comes to a barrier, if it is one.

        Raises:
            MachineFault: a wait for a token that no stream names.
        """
        instruction, values, machine = issue.word.instruction, issue.values, self._machine
        busy = instruction.cost.busy(values, machine)
        start, cause = self._start(issue, busy, released)
        self._count(issue, busy)
        if start > self._clock:
            self._counts.waits[issue.index, cause] += start - self._clock
        self._clock = begun = start + machine.latency_cycles.issue
        self._writes = [use for use in self._writes if use.until > start]
        self._reads = [use for use in self._reads if use.until > start]
        if instruction.unit is Unit.BANK:
            self._tokens[int(values["token"])] = begun  # of no bytes at all it is done at once
        if not busy:
            return
        done = begun + busy + instruction.cost.latency(values, machine)
        self._last = max(self._last, done)
        for port in self._ports[instruction.unit]:
            port.free = start + busy
        touched = 0
        for used in instruction.ranges:
            first, end = used.interval(values, machine)
            if not used.shared:
                touched += (end - first) * (2 if used.access is Access.UPDATE else 1)
            if used.access is not Access.READ:
                self._writes.append(_InFlight(first, end, done, instruction.unit))
            if used.access is not Access.WRITE:
                self._reads.append(_InFlight(first, end, begun + busy, instruction.unit))
        rows, columns = costs.transfer_extent(values, machine) if instruction.unit is Unit.BANK else self._grid
        self._counts.operands[issue.index] += touched * rows * columns
        for name in instruction.scalars_read:
            register = int(values[name])
            if self._scalar_reads.get(register, (0, Unit.SCALAR))[0] <= begun + busy:
                self._scalar_reads[register] = begun + busy, instruction.unit
        for name in instruction.scalars_written:
            self._scalars[int(values[name])] = done, instruction.unit
        if instruction.unit is Unit.BANK:
            self._tokens[int(values["token"])] = done

    def _count(self, issue: Issue, busy: int) -> None:
        """All that does not depend on when the instruction issues."""
        instruction, machine, counts = issue.word.instruction, self._machine, self._counts
        counts.issues[issue.index] += 1
        counts.waits[issue.index, "issue"] += machine.latency_cycles.issue
        if busy and instruction.unit is Unit.BANK:
            rows, columns = costs.transfer_extent(issue.values, machine)
            direction = Direction.READ if instruction.ranges[0].access is Access.WRITE else Direction.WRITTEN
            counts.streams[issue.index, direction, columns] += rows * int(issue.values["bytes"])
            busy *= columns
        if busy:
            counts.busy[issue.index, instruction.unit] += busy
        for use, products in self._products.read(issue).items():
            counts.products[issue.index, use] += products

    @property
    def cycles(self) -> int:
        """The cycles of the stream so far."""
        return self._clock

    def start(self, issue: Issue, released: int = 0) -> tuple[int, str]:
        """The first cycle in which the instruction could issue as the next, and what it waits for until then."""
        return self._start(issue, issue.word.instruction.cost.busy(issue.values, self._machine), released)

    def busy(self, issue: Issue) -> int:
        """Cycles for which it keeps its unit."""
        return issue.word.instruction.cost.busy(issue.values, self._machine)

    def earliest(self, issue: Issue) -> int:
        """The first cycle in which the instruction could issue as the next."""
        return self.start(issue)[0]

    def ready(self, issue: Issue) -> int:
        """The first cycle in which it could issue as the next if its unit were free."""
        busy = issue.word.instruction.cost.busy(issue.values, self._machine)
        return max(until for until, _ in self._waits(issue, busy, 0, at_port=False))

    def _start(self, issue: Issue, busy: int, released: int) -> tuple[int, str]:
        """The first cycle in which the instruction can issue, and what it waits for until then."""
        return max(self._waits(issue, busy, released), key=lambda wait: wait[0])

    def _waits(self, issue: Issue, busy: int, released: int, *, at_port: bool = True) -> list[tuple[int, str]]:
        """What the instruction waits for, and until when."""
        instruction, values = issue.word.instruction, issue.values
        waits = [(self._clock, "issue")]
        if issue.mnemonic == "halt":
            waits.append((self._last, "drain"))
        if issue.mnemonic == "barrier":
            waits += [(u.until, f"result of {u.unit.value}") for u in self._writes if u.start >= AFTER_BUFFERS]
            waits += [(u.until, f"{u.unit.value} busy") for u in self._reads if u.start >= AFTER_BUFFERS]
            waits.append((released, "barrier"))
        if issue.mnemonic == "wait":
            until = self._tokens[int(values["token"])]
            if until is None:
                raise deadlock(issue)
            waits.append((until, "bank stream"))
        for name in instruction.scalars_read:
            until, unit = self._scalars.get(int(values[name]), (0, Unit.SCALAR))
            waits.append((until, f"result of {unit.value}"))
        for name in instruction.scalars_written:
            until, unit = self._scalars.get(int(values[name]), (0, Unit.SCALAR))
            waits.append((until, f"result of {unit.value}"))
            until, unit = self._scalar_reads.get(int(values[name]), (0, Unit.SCALAR))
            waits.append((until, f"scalar read by {unit.value}"))
        if busy:
            if at_port:
                free = max(port.free for port in self._ports[instruction.unit])
                waits.append((free, f"{instruction.unit.value} busy"))
            for used in instruction.ranges:
                first, end = used.interval(values, self._machine)
                waits += [
                    (u.until, f"result of {u.unit.value}") for u in self._writes if u.start < end and first < u.end
                ]
                if used.access is not Access.READ:
                    waits += [
                        (u.until, f"buffer read by {u.unit.value}")
                        for u in self._reads
                        if u.start < end and first < u.end
                    ]
        return waits

    def state(self) -> State:
        """The state that it is in."""
        now = self._clock

        def ahead(registers: dict[int, tuple[int, Unit]]) -> frozenset[tuple[int, int, Unit]]:
            return frozenset(
                (register, until - now, unit) for register, (until, unit) in registers.items() if until > now
            )

        def in_flight(uses: list[_InFlight]) -> tuple[tuple[int, int, int, Unit], ...]:
            return tuple((use.start, use.end, use.until - now, use.unit) for use in uses if use.until > now)

        return State(
            tuple(max(port.free - now, 0) for port in self._own_ports),
            max(self._last - now, 0),
            tuple(None if until is None else max(until - now, 0) for until in self._tokens),
            in_flight(self._writes),
            in_flight(self._reads),
            ahead(self._scalars),
            ahead(self._scalar_reads),
            self._products.state(),
        )

    def resume(self, state: State, clock: int) -> None:
        """Be in a state in some cycle, and count anew."""

        def after(registers: frozenset[tuple[int, int, Unit]]) -> dict[int, tuple[int, Unit]]:
            return {register: (clock + ahead, unit) for register, ahead, unit in registers}

        self._clock, self._counts, self._last = clock, Counts(), clock + state.last
        for port, ahead in zip(self._own_ports, state.ports, strict=True):
            port.free = clock + ahead
        self._tokens = [None if ahead is None else clock + ahead for ahead in state.tokens]
        self._writes, self._reads = (
            [_InFlight(start, end, clock + ahead, unit) for start, end, ahead, unit in uses]
            for uses in (state.writes, state.reads)
        )
        self._scalars, self._scalar_reads = after(state.scalars), after(state.scalar_reads)
        self._products.resume(state.products)

    def mark(self) -> Mark:
        """What the stream took so far, for `repeat`."""
        return Mark(self._clock, self._counts.plus(Counts()))

    def repeat(self, since: Mark, times: int) -> None:
        """Read once more, `times` times, all instructions since a time when the state was what it is now."""
        self._counts = self._counts.plus(self._counts.plus(since.counts, -1), times)
        now, later = self._clock, times * (self._clock - since.clock)
        self._clock += later
        self._last += later
        for port in self._own_ports:
            port.free += later * (port.free > now)
        self._tokens = [None if until is None else until + later for until in self._tokens]
        for use in (*self._writes, *self._reads):
            use.until += later
        self._scalars = {register: (until + later, unit) for register, (until, unit) in self._scalars.items()}
        self._scalar_reads = {register: (until + later, unit) for register, (until, unit) in self._scalar_reads.items()}

    def result(self) -> Timing:
        """What the stream took so far; complete after `halt`."""
        return Timing(self._clock, self._counts.plus(Counts()), self._machine.grid.cols)
