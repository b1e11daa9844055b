"""Reads of what was never written: buffers, scalars, and tokens that a stream waits for.

Memory is zero when a stream begins, but no program may rely on that. A byte counts as written once it is in any
cluster's buffer; a stream to the banks may copy what was not. `runtime.shared` looks after the global memory.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Self

from runtime.instructions import Access, Range
from runtime.machine import Machine
from runtime.sequencer import Issue, MachineFault


class Bytes:
    """A set of bytes, as runs of them."""

    def __init__(self, edges: Iterable[int] = ()) -> None:
        self.edges = [*edges]
        """First byte and end of each run, in order; runs neither meet nor touch."""

    def has(self, start: int, end: int) -> bool:
        """Whether all from `start` to before `end` are in it."""
        place = bisect_right(self.edges, start)
        return start >= end or (place % 2 == 1 and end <= self.edges[place])

    def add(self, start: int, end: int) -> None:
        """Put all from `start` to before `end` in."""
        if start < end and not self.has(start, end):
            first, last = bisect_left(self.edges, start), bisect_right(self.edges, end)
            self.edges[first:last] = [start] * (first % 2 == 0) + [end] * (last % 2 == 0)


class Written:
    """What a stream has written so far of its own memory: buffers, scalars and tokens."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._buffer = Bytes()
        self._scalars: set[int] = set()
        self._tokens: set[int] = set()

    def copy(self) -> Self:
        """The same, to go another way from here."""
        other = type(self)(self._machine)
        other._buffer, other._scalars, other._tokens = Bytes(self._buffer.edges), {*self._scalars}, {*self._tokens}
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
                raise unwritten(issue, f"s{values[name]}", "write it")
        private = (used for used in instruction.ranges if not used.shared)
        intervals = [(used, *used.interval(values, self._machine)) for used in private]
        for used, start, end in intervals:
            if _is_read(issue, used) and not self._buffer.has(start, end):
                raise unwritten(issue, f"a byte from {start} to {end} in the buffer", "load, fill or compute it")
        for used, start, end in intervals:
            if used.access is not Access.READ:
                self._buffer.add(start, end)
        self._scalars.update(int(values[name]) for name in instruction.scalars_written)
        if issue.mnemonic in ("ld", "st"):
            self._tokens.add(int(values["token"]))


def unwritten(issue: Issue, what: str, first: str) -> MachineFault:
    """The fault of a read of something that was never written; `first` is what to do before it."""
    return MachineFault(
        f"instruction {issue.index}, {issue.word}: {what} is read, but was never written", hint=f"{first} first"
    )


def deadlock(issue: Issue) -> MachineFault:
    """The fault of a wait for a token that nothing completes."""
    return MachineFault(
        f"instruction {issue.index}: deadlock, nothing completes token t{issue.values['token']}",
        hint="name the token in an earlier ld or st",
    )


def _is_read(issue: Issue, used: Range) -> bool:
    if used.access is Access.UPDATE:
        return issue.values.get("accumulate", 1) != 0
    return used.access is Access.READ and issue.mnemonic != "st"
