"""Cycles of streams without stepping through all turns: those of a loop that has come to a steady state, at once.

`runtime.turns` follows the loops of a stream by itself. Streams that meet, at barriers or at ports that several use,
come to a steady state together. It is looked for where the first stream begins another turn of an outermost loop: if
every stream is in the state that it had at the beginning of an earlier turn, and as far ahead of the others in time,
then all repeat what they have done since, until one of the loops that were open all the while ends. Streams on the same
banks may drift past one another for many turns before they are steady; what each does between two meetings repeats
sooner, and is known by then (`runtime.stretches`).
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from runtime.encoding import Word
from runtime.instruction import GLOBAL_PORTS
from runtime.machine import Machine
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import Flow
from runtime.shared import no_barrier, shared_units
from runtime.stretches import Mark, Stop, Walk
from runtime.timing import Port, Timing, ports_of
from runtime.turns import Moment, Turns


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
    units = shared_units(streams)
    known: defaultdict[Hashable, dict[Moment, Stop]] = defaultdict(dict)
    walks: list[Walk] = []
    for (stream, decisions, rounds), ports in zip(tasks, ports_of(streams), strict=True):
        part, flow = machine.part(stream.rows, stream.cols), Flow.at_entry(0, rounds, stream.entry)
        turns = Turns(words, part, layout, decisions, ports, units, flow)
        shared = {unit: ports[unit] for unit in units}
        walks.append(Walk(words, turns, shared, limit, known[stream.rows, stream.cols, decisions]))
    together = _Together(walks, {id(port): port for walk in walks for port in walk.shared_ports}.values())
    while together.go_on():
        pass
    return [walk.result() for walk in walks]


@dataclass(frozen=True)
class _Kept:
    """All streams that have not ended, where the first of them begins a turn."""

    state: Hashable
    marks: tuple[Mark, ...]


class _Together:
    """Goes on with streams in the order of time, and passes the turns of those that are steady together.

    A moment is kept to compare later ones with: the first, then the second, fourth, eighth and so on after it, so that
    a period of any length is found (Brent's algorithm).

    Args:
        walks: of all streams.
        ports: that several use.
    """

    def __init__(self, walks: Sequence[Walk], ports: Collection[Port]) -> None:
        self._walks, self._ports = walks, ports
        self._kept: _Kept | None = None
        self._looked, self._keep_at = 0, 1

    def go_on(self) -> bool:
        """Go on with the stream that is ready first, so that none starves, or with all, where all are at a barrier;
        whether any was left to do so.

        Raises:
            StreamFault: a deadlock.
            MachineFault: one of a stream.
        """
        live = [(number, walk) for number, walk in enumerate(self._walks) if not walk.stop.ended]
        at_port = [(walk.ready, number) for number, walk in live if not walk.stop.at_barrier]
        if at_port:
            _, number = min(at_port)
            turned = self._walks[number].go_on() and number == live[0][0]
        elif len(live) == len(self._walks):
            released = max(walk.ready for _, walk in live)
            turned, *_ = [walk.go_on(released) for _, walk in live]
        elif live:
            ended = next((number, walk) for number, walk in enumerate(self._walks) if walk.stop.ended)
            raise no_barrier(*((number, walk.stop.issue.index) for number, walk in (live[0], ended)))
        else:
            return False
        if turned:
            self._look([walk for _, walk in live if not walk.stop.ended])
        return True

    def _look(self, live: Sequence[Walk]) -> None:
        state = tuple(walk.state(live[0].cycles) for walk in live)
        self._looked += 1
        if self._kept is not None and self._kept.state == state:
            self._pass(self._kept, live)
        if self._looked >= self._keep_at:
            self._keep_at *= 2
            self._kept = _Kept(state, tuple(walk.mark() for walk in live))

    def _pass(self, then: _Kept, live: Sequence[Walk]) -> None:
        """Do what was done since that moment as often as all loops allow that were open then and still are."""
        most = [walk.most(mark) for walk, mark in zip(live, then.marks, strict=True)]
        times = min((turns for turns in most if turns is not None), default=0)
        if not times:
            return
        earliest = min(walk.cycles for walk in live)
        later = times * (live[0].cycles - then.marks[0].clock)
        for port in self._ports:
            port.free += later * (port.free > earliest)
        for walk, mark in zip(live, then.marks, strict=True):
            walk.repeat(mark, times)
        self._kept, self._looked, self._keep_at = None, 0, 1
