"""Cycles of streams without stepping through all turns: those of a loop that has come to a steady state, at once.

A turn is like the one before where it begins in the same state: the reader of the cycles relative to its clock, the
integer registers that its instructions take addresses of buffers and counts from, and the exits that are still to be
taken. What a further turn then adds, to the clock and to each count, is what the last one did. Registers that only
point into the banks may move, by whole `bank_bytes` of the layout. Turns in which a stream meets others, at a barrier
or at a port that several use, are stepped through.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from runtime.encoding import Word
from runtime.instruction import Unit
from runtime.machine import Machine
from runtime.operands import BANK, INTEGER_REGISTERS
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import Issue, Loop, sequence, wrapped
from runtime.shared import in_order_of_time, meets_others, shared_units
from runtime.timing import Mark, Ports, Timing, TimingReader, ports_of


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
    shared, ports = shared_units(streams), ports_of(streams)
    readers = [
        _Turns(words, machine.part(stream.rows, stream.cols), layout, left, of_stream, shared)
        for stream, left, of_stream in zip(streams, decisions, ports, strict=True)
    ]
    issues = [
        sequence(words, 0, reader.leaves, turns, reader.turn_ends, limit, stream.entry)
        for reader, turns, stream in zip(readers, rounds, streams, strict=True)
    ]

    def stands_back(_: int, issue: Issue) -> bool:
        return meets_others(issue, shared)

    for number, issue, released in in_order_of_time(issues, [reader.clock.ready for reader in readers], stands_back):
        readers[number].read(issue, released)
    return Timing.of_streams(streams, [reader.clock.result() for reader in readers], machine.grid.cols)


_Change = tuple[tuple[int, int], ...]
"""Of each integer register: the register that it is the old value of, 0 for none, and what is added."""
_SAME: _Change = tuple((register, 0) for register in range(INTEGER_REGISTERS))


def _then(one: _Change, other: _Change) -> _Change:
    """One change of the registers, and then another."""
    return tuple((one[source][0], one[source][1] + added) for source, added in other)


def _repeated(change: _Change, times: int) -> _Change:
    total = _SAME
    while times:
        if times & 1:
            total = _then(total, change)
        change, times = _then(change, change), times >> 1
    return total


@dataclass
class _Turn:
    """The turn of a loop that is under way, one that is not its first."""

    loop: Loop
    state: Hashable
    """In which it began."""
    change: _Change = _SAME
    """Of the registers, since then."""
    mark: Mark | None = None
    """Of its beginning, where the turn before began in the same state."""


class _Turns:
    """Reads the issues of a stream and, where a loop is steady, all its further turns at once."""

    def __init__(
        self,
        words: Sequence[Word],
        machine: Machine,
        layout: KernelLayout | None,
        decisions: Sequence[bool],
        ports: Ports,
        shared: Sequence[Unit],
    ) -> None:
        self.clock = TimingReader(machine, layout, ports)
        self._shared = shared
        self._words = words
        self._bank_bytes = layout.bank_bytes if layout else 1
        self._decisions = deque(decisions)
        self._turns: list[_Turn] = []
        self._read_by_loop: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

    def leaves(self, issue: Issue) -> bool:
        """The next of the decisions."""
        return bool(self._decisions) and self._decisions.popleft()

    def read(self, issue: Issue, released: int) -> None:
        """Read one instruction, a barrier once all streams have come to one."""
        self.clock.read(issue, released)
        if meets_others(issue, self._shared):
            self._turns.clear()
        if issue.mnemonic in ("li", "addi") and issue.values["d"]:
            d, value, a = (int(issue.values.get(name, 0)) for name in ("d", "value", "a"))
            one = (*_SAME[:d], (a, value), *_SAME[d + 1 :])
            for turn in self._turns:
                turn.change = _then(turn.change, one)

    def turn_ends(self, loops: Sequence[Loop], registers: list[int]) -> int:
        """Pass all turns that are left to the innermost loop, if it is steady."""
        loop = loops[-1]
        self._turns = [turn for turn in self._turns if any(turn.loop is one for one in loops)]
        last = self._turns.pop() if self._turns and self._turns[-1].loop is loop else None
        state = self._state(loop, registers)
        if last is None or last.state != state:
            self._turns.append(_Turn(loop, state))
            return 0
        if last.mark is None:
            self._turns.append(_Turn(loop, state, mark=self.clock.mark()))
            return 0
        self.clock.repeat(last.mark, loop.turns_left)
        change = _repeated(last.change, loop.turns_left)
        registers[:] = [wrapped((registers[source] if source else 0) + added) for source, added in change]
        for turn in self._turns:
            turn.change = _then(turn.change, change)
        return loop.turns_left

    def _state(self, loop: Loop, registers: Sequence[int]) -> Hashable:
        place = loop.first, loop.end
        if place not in self._read_by_loop:
            body = self._words[loop.first : loop.end]
            self._read_by_loop[place] = _registers_read(body, in_bank=False), _registers_read(body, in_bank=True)
        whole, in_banks = self._read_by_loop[place]
        values = tuple(registers[r] for r in whole), tuple(registers[r] % self._bank_bytes for r in in_banks)
        return self.clock.state(), values, len(self._decisions)


def _registers_read(words: Sequence[Word], *, in_bank: bool) -> list[int]:
    """Registers that bank addresses depend on, at once or by way of others; or those that anything else depends on."""
    found = {
        kind.register(raw)
        for word in words
        for (_, kind), raw in zip(word.instruction.operands, word.operands, strict=True)
        if (kind is BANK) is in_bank
    }
    copies = [word.operands[:2] for word in words if word.instruction.mnemonic == "addi"]
    for _ in copies:  # a chain of them is no longer
        found |= {source for target, source in copies if target in found}
    return sorted(found)
