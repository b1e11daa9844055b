"""Cycles of a stream: when each instruction issues, and for what the stream waited.

A stream issues in order, one instruction each `issue` cycles. An instruction issues once what it reads is written, what
it overwrites is no longer read or written, and its unit is free; it keeps the unit for `busy` cycles, and its result is
there `latency` cycles later. A bank serves its streams in the order of their issue. Results are not forwarded before
they are complete. Every cycle of the stream has one cause: an issue, or the wait for what came last; the causes add up
to the total.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.instructions import Access, Unit
from runtime.machine import Machine
from runtime.operands import TOKENS
from runtime.sequencer import Issue, MachineFault


@dataclass(frozen=True)
class Timing:
    """What a stream took."""

    cycles: int
    causes: Mapping[str, int]
    """Cycles by cause; they add up to `cycles`."""
    busy: Mapping[Unit, float]
    """Cycles that each unit was busy; for the banks, the mean over the columns."""
    bank_bytes: int
    """Bytes that the banks sent and took."""
    instructions: int

    def share(self, unit: Unit) -> float:
        """Busy cycles of a unit over all cycles."""
        return self.busy[unit] / self.cycles if self.cycles else 0.0


@dataclass
class _InFlight:
    """A use of buffer bytes that has not ended."""

    start: int
    end: int
    until: int
    unit: Unit


class TimingReader:
    """Reads the issues of one stream in order and keeps its clock."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._clock = 0
        self._causes: Counter[str] = Counter()
        self._busy: dict[Unit, float] = dict.fromkeys(Unit, 0.0)
        self._free: dict[Unit, int] = dict.fromkeys(Unit, 0)
        self._writes: list[_InFlight] = []
        self._reads: list[_InFlight] = []
        self._scalars: dict[int, tuple[int, Unit]] = {}
        self._scalar_reads: dict[int, tuple[int, Unit]] = {}
        self._tokens: list[int | None] = [None] * TOKENS
        self._last = 0
        self._bank_bytes = 0
        self._instructions = 0

    def read(self, issue: Issue) -> None:
        """Account for one instruction.

        Raises:
            MachineFault: a wait for a token that no stream names.
        """
        instruction, values, machine = issue.word.instruction, issue.values, self._machine
        busy = instruction.cost.busy(values, machine)
        start, cause = self._start(issue, busy)
        self._causes[cause] += start - self._clock
        self._causes["issue"] += machine.latency_cycles.issue
        self._instructions += 1
        self._clock = begun = start + machine.latency_cycles.issue
        self._writes = [use for use in self._writes if use.until > start]
        self._reads = [use for use in self._reads if use.until > start]
        if instruction.unit is Unit.BANK:
            self._tokens[int(values["token"])] = begun  # of no bytes at all it is done at once
        if not busy:
            return
        done = begun + busy + instruction.cost.latency(values, machine)
        self._last = max(self._last, done)
        self._free[instruction.unit] = start + busy
        columns = int(values["cols"]) or machine.grid.cols if instruction.unit is Unit.BANK else machine.grid.cols
        self._busy[instruction.unit] += busy * columns / machine.grid.cols
        for used in instruction.ranges:
            first = int(values[used.operand])
            end = first + used.size(values, machine)
            if used.access is not Access.READ:
                self._writes.append(_InFlight(first, end, done, instruction.unit))
            if used.access is not Access.WRITE:
                self._reads.append(_InFlight(first, end, begun + busy, instruction.unit))
        for name in instruction.scalars_read:
            register = int(values[name])
            if self._scalar_reads.get(register, (0, Unit.SCALAR))[0] <= begun + busy:
                self._scalar_reads[register] = begun + busy, instruction.unit
        for name in instruction.scalars_written:
            self._scalars[int(values[name])] = done, instruction.unit
        if instruction.unit is Unit.BANK:
            self._tokens[int(values["token"])] = done
            rows = int(values["rows"]) or machine.grid.rows
            self._bank_bytes += int(values["bytes"]) * rows * columns

    def earliest(self, issue: Issue) -> int:
        """The first cycle in which the instruction could issue as the next."""
        return self._start(issue, issue.word.instruction.cost.busy(issue.values, self._machine))[0]

    def _start(self, issue: Issue, busy: int) -> tuple[int, str]:
        """The first cycle in which the instruction can issue, and what it waits for until then."""
        instruction, values = issue.word.instruction, issue.values
        waits = [(self._clock, "issue")]
        if issue.mnemonic == "halt":
            waits.append((self._last, "drain"))
        if issue.mnemonic == "wait":
            until = self._tokens[int(values["token"])]
            if until is None:
                raise MachineFault(
                    f"instruction {issue.index}: deadlock, nothing completes token t{values['token']}",
                    hint="name the token in an earlier ld or st",
                )
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
            waits.append((self._free[instruction.unit], f"{instruction.unit.value} busy"))
            for used in instruction.ranges:
                first = int(values[used.operand])
                end = first + used.size(values, self._machine)
                waits += [
                    (u.until, f"result of {u.unit.value}") for u in self._writes if u.start < end and first < u.end
                ]
                if used.access is not Access.READ:
                    waits += [
                        (u.until, f"buffer read by {u.unit.value}")
                        for u in self._reads
                        if u.start < end and first < u.end
                    ]
        return max(waits, key=lambda wait: wait[0])

    def result(self) -> Timing:
        """What the stream took so far; complete after `halt`."""
        causes = {cause: cycles for cause, cycles in sorted(self._causes.items()) if cycles}
        return Timing(self._clock, causes, dict(self._busy), self._bank_bytes, self._instructions)
