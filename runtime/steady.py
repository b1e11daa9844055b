"""Cycles of streams without stepping through all turns: those of a loop that has come to a steady state, at once.

`runtime.turns` follows the loops of a stream by itself. Streams that meet, at barriers or at ports that several use,
come to a steady state together. It is looked for where the first stream begins another turn of an outermost loop: if
every stream is in the state that it had at the beginning of an earlier turn, and as far ahead of the others in time,
then all repeat what they have done since, until one of the loops that were open all the while ends.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from runtime.encoding import Word
from runtime.instruction import GLOBAL_PORTS
from runtime.machine import Machine
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import Flow, Issue, Loop, issues_of
from runtime.shared import in_order_of_time, meets_others, shared_units
from runtime.timing import Mark, Timing, ports_of
from runtime.turns import SAME, Turns


def time_stream(
    words: Sequence[Word],
    machine: Machine,
    layout: KernelLayout | None,
    decisions: Sequence[bool],
    rounds: int,
    limit: int | None = None,
) -> Timing:
    """What a stream takes, the same as if each of its instructions were read.

    Args:
        layout: of the kernel.
        decisions: whether each exit leaves, in order; those after them do not.
        rounds: that register 31 asks for.
        limit: of `sequence`.

    Raises:
        MachineFault: the stream issues too much, or does what the machine cannot do.
    """
    whole = KernelStream(0, 0, machine.grid.rows, machine.grid.cols, 0)
    return time_streams(words, machine, layout, (whole,), (decisions,), (rounds,), limit)


def time_streams(
    words: Sequence[Word],
    machine: Machine,
    layout: KernelLayout | None,
    streams: Sequence[KernelStream],
    decisions: Sequence[Sequence[bool]],
    rounds: Sequence[int],
    limit: int | None = None,
) -> Timing:
    """What streams side by side take, from words that they have in common; else as `time_stream`.

    Args:
        decisions, rounds: of each.

    Raises:
        StreamFault: a deadlock.
        MachineFault: as `time_stream`.
    """
    timings: dict[int, Timing] = {}
    timed: dict[tuple[_Task, ...], list[Timing]] = {}
    for numbers in _meeting(words, streams):
        first = min(streams[number].col for number in numbers)
        tasks = tuple(
            _Task(
                replace(streams[number], row=0, col=streams[number].col - first),
                tuple(decisions[number]),
                rounds[number],
            )
            for number in numbers
        )
        if tasks not in timed:
            timed[tasks] = _time_together(words, machine, layout, tasks, limit)
        timings.update(zip(numbers, timed[tasks], strict=True))
    return Timing.of_streams(streams, [timings[number] for number in range(len(streams))], machine.grid.cols)


class _Task(NamedTuple):
    """What a stream does, wherever it stands beside those that it meets."""

    stream: KernelStream
    decisions: tuple[bool, ...]
    rounds: int


def _meeting(words: Sequence[Word], streams: Sequence[KernelStream]) -> list[list[int]]:
    """The streams by their numbers, those together that meet: at barriers, at the global memory, or at a bank."""
    if any(word.instruction.mnemonic == "barrier" or word.instruction.unit in GLOBAL_PORTS for word in words):
        return [list(range(len(streams)))]
    found: list[list[int]] = []
    end = 0
    for number, stream in sorted(enumerate(streams), key=lambda each: each[1].col):
        if not found or stream.columns.start >= end:
            found.append([])
        found[-1].append(number)
        end = max(end, stream.columns.stop)
    return [sorted(numbers) for numbers in found]


def _time_together(
    words: Sequence[Word],
    machine: Machine,
    layout: KernelLayout | None,
    tasks: Sequence[_Task],
    limit: int | None,
) -> list[Timing]:
    """What each stream takes of those that meet."""
    streams = [task.stream for task in tasks]
    shared = shared_units(streams)
    readers = [
        Turns(
            words,
            machine.part(stream.rows, stream.cols),
            layout,
            decisions,
            ports,
            shared,
            Flow.at_entry(0, rounds, stream.entry),
        )
        for (stream, decisions, rounds), ports in zip(tasks, ports_of(streams), strict=True)
    ]
    together = _Together(readers)
    ends = [together.turn_ends if len(tasks) > 1 else readers[0].turn_ends, *(each.turn_ends for each in readers[1:])]
    issues = [
        issues_of(words, reader.flow, reader.leaves, turn_ends, limit)
        for reader, turn_ends in zip(readers, ends, strict=True)
    ]

    def stands_back(number: int, issue: Issue) -> bool:
        readers[number].fetched = True
        return meets_others(issue, shared)

    for number, issue, released in in_order_of_time(issues, [reader.clock.ready for reader in readers], stands_back):
        readers[number].read(issue, released)
    return [reader.clock.result() for reader in readers]


@dataclass(frozen=True)
class _Moment:
    """All streams that have not ended, at the beginning of a turn of the first."""

    state: Hashable
    marks: tuple[Mark, ...]
    issued: tuple[int, ...]
    loops: tuple[tuple[tuple[Loop, int], ...], ...]
    """The loops that were open in each, with the turns that were left to them."""


class _Together:
    """Passes the turns of streams that are steady together.

    A moment is kept to compare later ones with: the first, then the second, fourth, eighth and so on after it, so that
    a period of any length is found (Brent's algorithm).

    Args:
        readers: of all streams.
    """

    def __init__(self, readers: Sequence[Turns]) -> None:
        self._readers = readers
        self._kept: _Moment | None = None
        self._looked, self._keep_at = 0, 1

    def turn_ends(self, loops: Sequence[Loop], registers: list[int]) -> int:
        """That of the first stream, and the turns of all where they can pass together."""
        passed = self._readers[0].turn_ends(loops, registers)
        if not passed and len(loops) == 1:
            self._look()
        return passed

    def _look(self) -> None:
        live = [reader for reader in self._readers if not reader.ended]
        base = live[0].clock.cycles
        state = tuple((reader.clock.cycles - base, reader.state()) for reader in live)
        self._looked += 1
        if self._kept is not None and len(self._kept.marks) == len(live) and self._kept.state == state:
            self._pass(self._kept, live)
        if self._looked >= self._keep_at:
            self._keep_at *= 2
            self._keep(state, live)

    def _keep(self, state: Hashable, live: Sequence[Turns]) -> None:
        self._kept = _Moment(
            state,
            tuple(reader.clock.mark() for reader in live),
            tuple(reader.flow.issued for reader in live),
            tuple(tuple((loop, loop.turns_left) for loop in reader.flow.loops) for reader in live),
        )
        for reader in live:
            reader.change = SAME

    def _pass(self, then: _Moment, live: Sequence[Turns]) -> None:
        """Do what was done since that moment as often as all loops allow that were open then and still are."""
        most: list[int] = []
        for reader, were in zip(live, then.loops, strict=True):
            for now, (loop, left) in zip(reader.flow.loops, were, strict=True):
                if now is not loop and now.turns_left != left:
                    return
                if now is loop and now.turns_left < left:
                    most.append((now.turns_left - 1) // (left - now.turns_left))
        times = min(most)
        if not times:
            return
        earliest = min(reader.clock.cycles for reader in live)
        later = times * (live[0].clock.cycles - then.marks[0].clock)
        ports = {id(port): port for reader in live for port in reader.clock.all_ports}.values()
        free = [port.free + later * (port.free > earliest) for port in ports]
        for reader, mark, issued, were in zip(live, then.marks, then.issued, then.loops, strict=True):
            flow, more = reader.flow, times * (reader.flow.issued - issued)
            for now, (loop, left) in zip(flow.loops, were, strict=True):
                now.turns_left -= times * (left - now.turns_left) if now is loop else 0
                now.begun += more if now.begun > issued else 0
            flow.issued += more
            reader.repeat(mark, times)
        for port, cycle in zip(ports, free, strict=True):
            port.free = cycle
        self._kept, self._looked, self._keep_at = None, 0, 1
