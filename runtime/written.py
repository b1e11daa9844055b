"""Reads of what was never written: buffers, the global memory, scalars, and tokens that a stream waits for.

Memory is zero when a stream begins, but no program may rely on that. A byte counts as written once it is in any
cluster's buffer; a stream to the banks may copy what was not.
"""

from bisect import bisect_left, bisect_right
from typing import Self

from runtime.instructions import Access, Range
from runtime.machine import Machine
from runtime.sequencer import Issue, MachineFault


class Written:
    """What a stream has written so far."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._edges: list[int] = []
        """First byte and end of each run of written bytes, in order; runs neither meet nor touch."""
        self._scalars: set[int] = set()
        self._tokens: set[int] = set()

    def copy(self) -> Self:
        """The same, to go another way from here."""
        other = type(self)(self._machine)
        other._edges, other._scalars, other._tokens = [*self._edges], {*self._scalars}, {*self._tokens}
        return other

    def read(self, issue: Issue) -> None:
        """Check what the next instruction reads, and know what it writes.

        Raises:
            MachineFault: nothing has written what it reads, or named the token that it waits for.
        """
        instruction, values = issue.word.instruction, issue.values
        if issue.mnemonic == "wait" and int(values["token"]) not in self._tokens:
            raise deadlock(issue)
        for name in instruction.scalars_read:
            if int(values[name]) not in self._scalars:
                raise self._fault(issue, f"s{values[name]}", "write it")
        intervals = [(used, *used.interval(values, self._machine)) for used in instruction.ranges]
        for used, start, end in intervals:
            if _is_read(issue, used) and not self._has(start, end):
                first, memory = int(values[used.operand]), "the global memory" if used.shared else "the buffer"
                what = f"a byte from {first} to {first + end - start} in {memory}"
                raise self._fault(issue, what, "load, fill or compute it")
        for used, start, end in intervals:
            if used.access is not Access.READ:
                self._add(start, end)
        self._scalars.update(int(values[name]) for name in instruction.scalars_written)
        if issue.mnemonic in ("ld", "st"):
            self._tokens.add(int(values["token"]))

    def _fault(self, issue: Issue, what: str, first: str) -> MachineFault:
        return MachineFault(
            f"instruction {issue.index}, {issue.word}: {what} is read, but was never written", hint=f"{first} first"
        )

    def _has(self, start: int, end: int) -> bool:
        place = bisect_right(self._edges, start)
        return start >= end or (place % 2 == 1 and end <= self._edges[place])

    def _add(self, start: int, end: int) -> None:
        if start < end and not self._has(start, end):
            first, last = bisect_left(self._edges, start), bisect_right(self._edges, end)
            self._edges[first:last] = [start] * (first % 2 == 0) + [end] * (last % 2 == 0)


def deadlock(issue: Issue) -> MachineFault:
    """What a wait is for a token that nothing completes."""
    return MachineFault(
        f"instruction {issue.index}: deadlock, nothing completes token t{issue.values['token']}",
        hint="name the token in an earlier ld or st",
    )


def _is_read(issue: Issue, used: Range) -> bool:
    if used.access is Access.UPDATE:
        return issue.values.get("accumulate", 1) != 0
    return used.access is Access.READ and issue.mnemonic != "st"
