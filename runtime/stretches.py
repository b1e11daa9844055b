"""The stretches of a stream between its meetings with others, each read once and then known.

A stretch begins with an instruction that other streams may notice: a barrier, or one of a port that several use. It
ends before the next of these. What a stream does in it depends on its state alone, and on how long it waits to begin;
so a stretch that begins as an earlier one, of this stream or of another on as many clusters, is taken at once.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runtime.counts import Counts
from runtime.encoding import Word
from runtime.instruction import Unit
from runtime.sequencer import ISSUE_LIMIT, Flow, Issue, issues_of
from runtime.shared import meets_others
from runtime.timing import Port, Timing
from runtime.turns import Moment, Turns


@dataclass(eq=False)
class Stop:
    """Where a stretch ends: before an instruction that others may notice, or behind the last."""

    moment: Moment
    registers: tuple[int, ...]
    """As they were here once; where they differ another time, no further instruction minds."""
    issue: Issue
    """That instruction."""
    ready: int
    """Cycles from now to when it could issue, were its unit free."""
    ended: bool = False
    after: dict[tuple[int, int], "Stretch"] = field(default_factory=dict[tuple[int, int], "Stretch"])
    """The stretches from here that are known: by the cycles until the unit is free, or the barrier is over, and by the
    turns left to the outermost loop, 0 for any number of which some are left behind the stretch."""

    @property
    def at_barrier(self) -> bool:
        """Whether it is before a barrier."""
        return self.issue.mnemonic == "barrier"


@dataclass(frozen=True, eq=False)
class Stretch:
    """What a stream does from one stop to another."""

    cycles: int
    issued: int
    busy: int
    """Cycles from its beginning to when the unit that others use is free again; 0 if it was not needed."""
    goes_on: bool
    """Whether the outermost loop is still open."""
    turns: int
    """Turns of that loop that have ended, if it is; else those that are left to the one that is open now."""
    counts: Counts
    stop: Stop


@dataclass(frozen=True)
class Mark:
    """A time in a stream, for `Walk.repeat`."""

    clock: int
    issued: int
    loop: int
    """The outermost loops before."""
    left: int
    """The turns that are left to that loop."""
    taken: Counter[Stretch]


class Walk:
    """The way of a stream from stop to stop.

    Args:
        turns: reads its instructions.
        shared: the ports that others use, by their unit.
        limit: of `issues_of`.
        known: the stops of all streams of these words on as many clusters, with the same decisions.
    """

    def __init__(
        self,
        words: Sequence[Word],
        turns: Turns,
        shared: Mapping[Unit, Sequence[Port]],
        limit: int | None,
        known: dict[Moment, Stop],
    ) -> None:
        self._words, self._turns, self._shared, self._known = words, turns, shared, known
        self._limit = ISSUE_LIMIT if limit is None else limit
        self._taken: Counter[Stretch] = Counter()
        self._clock = self._issued = self._loop = self._left = 0
        self._take(self._read(issues_of(words, turns.flow, turns.leaves, turns.turn_ends, limit)))

    @property
    def shared_ports(self) -> list[Port]:
        """The ports that others use."""
        return [port for ports in self._shared.values() for port in ports]

    @property
    def ready(self) -> int:
        """The first cycle in which it could issue its next instruction, were its unit free."""
        return self._clock + self.stop.ready

    def go_on(self, released: int = 0) -> bool:
        """Go on to the next stop; whether the outermost loop begins another turn on the way.

        Args:
            released: when the last stream comes to the barrier, where this one is at one.
        """
        stop, ports = self.stop, self._shared.get(self.stop.issue.word.instruction.unit, ())
        wait = max([0, released - self._clock, *(port.free - self._clock for port in ports)])
        found = stop.after.get((wait, 0))
        if found is None or found.turns >= self._left:
            found = stop.after.get((wait, self._left))
        if found is None or self._issued + found.issued >= self._limit:
            found = self._step(released)
            stop.after[wait, 0 if found.goes_on else self._left] = found
        elif found.busy:
            for port in ports:
                port.free = self._clock + found.busy
        return self._take(found)

    def _take(self, found: Stretch) -> bool:
        self._taken[found] += 1
        self._clock += found.cycles
        self._issued += found.issued
        self._left = self._left - found.turns if found.goes_on else found.turns
        self._loop += not found.goes_on
        self.stop = found.stop
        return found.goes_on and found.turns > 0

    def _step(self, released: int) -> Stretch:
        """Read the instructions of the next stretch."""
        stop, turns, words = self.stop, self._turns, self._words
        flow = Flow(list(stop.registers), stop.moment.at, stop.moment.open_loops(self._left), self._issued)
        turns.resume(flow, stop.moment, self._clock)
        issues = issues_of(words, flow, turns.leaves, turns.turn_ends, self._limit)
        first = next(issues)
        turns.read(first, released)
        ports = self._shared.get(first.word.instruction.unit, ())
        busy = turns.clock.busy(first) and max(port.free for port in ports) - self._clock if ports else 0
        return self._read(issues, busy)

    def _read(self, issues: Iterator[Issue], busy: int = 0) -> Stretch:
        """Read instructions up to the next stop."""
        turns, flow = self._turns, self._turns.flow
        outer, issue, ended = flow.loops[0] if flow.loops else None, None, True
        for issue in issues:
            if meets_others(issue, tuple(self._shared)):
                ended = False
                break
            turns.read(issue, 0)
        assert issue is not None
        left = flow.loops[0].turns_left if flow.loops else 0
        goes_on = bool(flow.loops) and flow.loops[0] is outer
        moment = turns.moment()
        if moment not in self._known:
            ready = 0 if ended else turns.clock.ready(issue) - turns.clock.cycles
            self._known[moment] = Stop(moment, tuple(flow.registers), issue, ready, ended)
        return Stretch(
            turns.clock.cycles - self._clock,
            flow.issued - self._issued,
            busy,
            goes_on,
            self._left - left if goes_on else left,
            turns.clock.result().counts,
            self._known[moment],
        )

    def state(self, base: int) -> Hashable:
        """All that it does next depends on, relative to a cycle, but for the turns left to the outermost loop."""
        ports = tuple(max(port.free - self._clock, 0) for port in self.shared_ports)
        return self._clock - base, ports, self.stop

    def mark(self) -> Mark:
        """Where it is."""
        return Mark(self._clock, self._issued, self._loop, self._left, self._taken.copy())

    def most(self, since: Mark) -> int | None:
        """How often the turns since then may be taken again, None for any number."""
        if self._loop != since.loop:
            return None if self._left == since.left else 0
        return (self._left - 1) // (since.left - self._left) if self._left < since.left else None

    def repeat(self, since: Mark, times: int) -> None:
        """Take once more, `times` times, all stretches since a time when the state was what it is now."""
        self._clock += times * (self._clock - since.clock)
        self._issued += times * (self._issued - since.issued)
        self._left -= times * (since.left - self._left) if self._loop == since.loop else 0
        for stretch, taken in self._taken.items():
            self._taken[stretch] = taken + times * (taken - since.taken[stretch])

    @property
    def cycles(self) -> int:
        """The cycles of the stream so far."""
        return self._clock

    def result(self) -> Timing:
        """What the stream took so far."""
        counts = Counts()
        for stretch, times in self._taken.items():
            counts.add(stretch.counts, times)
        return replace(self._turns.clock.result(), cycles=self._clock, counts=counts)
