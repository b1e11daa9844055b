"""Which of the ways that a launch's matrices may go takes them the soonest."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log2, prod
from typing import NamedTuple

from dcomc.diagnostics import DcomError, counted
from dcomc.tables import print_table
from dialects.cluster import KernelOp
from passes._candidates import Candidate, Place, Unmapped, count, fewest_cycles, places, rough, time_alone
from passes._streams import ONE_STREAM, Sides
from runtime.machine import Machine

_WORTH = 0.99
"""Of the cycles of one stream: several are to take fewer, or they are not worth it."""
_SAME_GROUP, _OTHER_GROUP, _TWICE_THE_CLUSTERS, _NOT_FOLDED = 0.97, 0.9, 0.88, 0.65
"""How much shorter than one chain another may be: of the same group in other streams, of another group, for each factor
of two in their clusters, and where the other matrix is not folded. Checked in `test_mapping.py`."""


class Choice(NamedTuple):
    """What was taken, of what may be done with the launches of a kernel."""

    taken: Candidate
    found: Sequence[Candidate]
    """Those of which the cycles of a matrix alone are known, what is expected to be the soonest first."""
    counted: Mapping[Place, int]
    """Cycles of all launches of those that were timed as they are launched."""
    passed_over: int
    """Places that were never timed: by a low estimate they would not be sooner."""


def choose(
    kernel: KernelOp,
    machine: Machine,
    launches: Sequence[int],
    *,
    streams: Sides | None = None,
    group: Sides | None = None,
    in_flight: int | None = None,
) -> Choice:
    """The mapping that takes all launches of a kernel the soonest, as the simulator counts them.

    Args:
        launches: matrices of each.
        streams: the only ones to look at, if given.
        group: the one to take, in these streams, whatever else there is, if given.
        in_flight: as many as have room and are there, unless given.

    Raises:
        DcomError: there is none; of what the group or else the grid has no room for.
    """
    search = _Search(Unmapped.of(kernel), machine, launches)
    on_grid, *_ = ways = list(places(machine, max(launches), streams))
    for place in ways:
        search.add(place, in_flight, given=streams is not None)
    given = None if group is None else (streams or ONE_STREAM, group)
    if given:
        search.time(given)
    soonest = search.soonest()
    taken = soonest if given is None else search.timed.get(given)
    if taken is None:
        raise search.refused[given or on_grid]
    found = sorted(search.timed.values(), key=lambda candidate: candidate.expected(launches))
    return Choice(taken, found, search.counted, len(search.untimed))


class _Search:
    """Looks again and again more closely at the place that promises to be the soonest, until that is counted.

    Of a place there is first a rough estimate, then what a matrix takes alone, and at last what all launches take.
    """

    def __init__(self, kernel: Unmapped, machine: Machine, launches: Sequence[int]) -> None:
        self._kernel, self._machine, self._launches = kernel, machine, launches
        self.untimed: dict[Place, Candidate] = {}
        self.timed: dict[Place, Candidate] = {}
        self.counted: dict[Place, int] = {}
        self.refused: dict[Place, DcomError] = {}
        self._chains: dict[Place, float] = {}
        """What a matrix is expected to take at least beside its products and banks, by those that were timed."""

    def add(self, place: Place, in_flight: int | None, *, given: bool) -> None:
        """A place that is to be looked at, unless it has no room.

        Args:
            given: look at several streams even where each has matrices in flight, of which one loads beside the
                products of others already.
        """
        try:
            found = rough(self._kernel, place, self._machine, max(self._launches), in_flight)
        except DcomError as error:
            self.refused[place] = error
            return
        if given or found.streams == ONE_STREAM or found.in_flight == 1:
            self.untimed[place] = found

    def soonest(self) -> Candidate | None:
        """What takes all launches the soonest, if there is anything; of equal ones that with the fewest streams."""
        while True:
            waiting = [*self.untimed, *(place for place in self.timed if place not in self.counted)]
            best = min(self.counted, key=self._cost, default=None)
            first = min(waiting, key=self._promise, default=None)
            if first is None or (best is not None and self._cost(best)[0] <= self._promise(first)):
                return None if best is None else self.timed[best]
            if first in self.untimed:
                self.time(first)
            else:
                self._count(first)

    def time(self, place: Place) -> None:
        """Find out what a matrix takes alone."""
        if place not in self.untimed:
            return
        found = self.untimed.pop(place)
        try:
            timed = self.timed[place] = time_alone(found, self._kernel, self._machine)
        except DcomError as error:
            self.refused[place] = error
            return
        if timed.stays:
            chain = timed.alone - found.array - timed.bank
            for other in self.untimed.values():
                shortest = _likeness(timed, other) * chain
                self._chains[other.place] = max(self._chains.get(other.place, 0), shortest)

    def _count(self, place: Place) -> None:
        candidate = self.timed[place]
        try:
            self.counted[place] = count(candidate, self._kernel, self._machine, self._launches)
        except DcomError as error:
            del self.timed[place]
            self.refused[place] = error

    def _cost(self, place: Place) -> tuple[float, int]:
        """Cycles, more for several streams, and how many these are."""
        candidate = self.timed[place]
        return self.counted[place] / _worth(candidate), prod(candidate.streams)

    def _promise(self, place: Place) -> float:
        """A low estimate of the cycles of a place that is not counted."""
        if place in self.timed:
            return self.timed[place].low_estimate(self._launches) / _worth(self.timed[place])
        found = self.untimed[place]
        chain = self._chains.get(place, 0) if found.stays else 0
        return replace(found, alone=found.alone + chain).low_estimate(self._launches) / _worth(found)


def _worth(candidate: Candidate) -> float:
    return 1 if candidate.streams == ONE_STREAM else _WORTH


def _likeness(one: Candidate, other: Candidate) -> float:
    """Of the chain of one place, the part that another has at least; that of a matrix that is not folded says nothing
    of one that is."""
    if other.is_folded and not one.is_folded:
        return 0
    groups = _SAME_GROUP if one.group == other.group else _OTHER_GROUP
    doublings = abs(log2(prod(one.group) / prod(other.group)))
    return groups * _TWICE_THE_CLUSTERS**doublings * (1 if other.is_folded else _NOT_FOLDED)


def explain(kernel: KernelOp, machine: Machine, launches: Sequence[int], choice: Choice) -> None:
    """Print to standard error what was expected of each mapping, the soonest first, what was counted, which was taken,
    and why the others were not.

    Work of the arrays and the banks is that of a round of all streams, in shares of what one matrix takes alone.
    What is above 100% limits the round. Below stands a bound for all mappings.
    """
    sizes = [
        f"{counted(count, 'launch', 'launches')} of {counted(matrices, 'matrix', 'matrices')}"
        for matrices, count in sorted(Counter(launches).items())
    ]
    print(f"kernel {kernel.sym_name.data} on {machine.name}, {', '.join(sizes)}:", file=sys.stderr)
    taken = choice.taken.place
    cycles = {one.place: choice.counted.get(one.place, one.expected(launches)) for one in choice.found}
    rows = [
        (
            f"{candidate} (taken)" if candidate.place == taken else str(candidate),
            f"{round(candidate.expected(launches)):,}",
            f"{choice.counted[candidate.place]:,}" if candidate.place in choice.counted else "-",
            f"{candidate.alone:,}",
            *(f"{work[unit] / work['chain']:.0%}" for unit in ("array", "bank")),
            "" if candidate.place == taken else f"{cycles[candidate.place] / cycles[taken] - 1:+.1%}",
            max(work, key=work.__getitem__),
        )
        for candidate in choice.found
        for work in (candidate.work,)
    ]
    headings = ("mapping", "expected", "counted", "one alone", "arrays", "banks", "more", "limit")
    print_table(headings, rows, stderr=True)
    if choice.passed_over:
        print(f"{counted(choice.passed_over, 'other mapping')} expected to be no sooner", file=sys.stderr)
    fewest = fewest_cycles(kernel, machine, sum(launches))
    print(
        f"no mapping takes fewer than {fewest:,.0f} cycles; the one taken, {cycles[taken] / fewest:.2f} times as many",
        file=sys.stderr,
    )
    print(file=sys.stderr)
