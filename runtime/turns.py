"""The turns of one stream's loops: those of a loop that has come to a steady state are read at once.

A turn repeats the one before if it begins in the same state: all that the timing depends on, relative to its clock;
the integer registers from which its instructions take buffer addresses and counts; and the number of exits that are
still to be taken. It then adds to the clock and to each count what the last one did. Registers that only point into the
banks may move by multiples of the layout's `bank_bytes`. Of a turn in which the stream meets others, at a barrier or at
a port that several use, its own state does not tell enough: there it can leave off, and go on from any state that it
was in.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runtime.encoding import Word
from runtime.instruction import Unit
from runtime.machine import Machine
from runtime.operands import BANK, INTEGER_REGISTERS
from runtime.program import KernelLayout
from runtime.sequencer import Flow, Issue, Loop, wrapped
from runtime.shared import meets_others
from runtime.timing import Mark, Ports, State, TimingReader

Change = tuple[tuple[int, int], ...]
"""For each integer register: the register that it is the old value of, 0 for none, and what is added."""
SAME: Change = tuple((register, 0) for register in range(INTEGER_REGISTERS))


def then(one: Change, other: Change) -> Change:
    """One change of the registers, and then another."""
    return tuple((one[source][0], one[source][1] + added) for source, added in other)


def repeat_change(registers: list[int], change: Change, times: int) -> Change:
    """Change the registers so often, which is the change that is returned."""
    total = repeated(change, times)
    registers[:] = [wrapped((registers[source] if source else 0) + added) for source, added in total]
    return total


def repeated(change: Change, times: int) -> Change:
    """One change so often."""
    total = SAME
    while times:
        if times & 1:
            total = then(total, change)
        change, times = then(change, change), times >> 1
    return total


@dataclass
class _Turn:
    """The turn of a loop that is under way, one that is not its first."""

    loop: Loop
    state: Hashable
    """The state in which it began."""
    change: Change = SAME
    """The change of the registers since then."""
    mark: Mark | None = None
    """The mark of its beginning, where the turn before began in the same state."""


_Registers = tuple[tuple[int, ...], tuple[int, ...]]
"""Values of those that more than bank addresses depend on, and of the others, modulo the layout's `bank_bytes`."""


class Moment(NamedTuple):
    """The state of a stream between two instructions: all that its further ones depend on, and when they issue relative
    to its clock, but for the turns left to the outermost loop, and for units that others use."""

    at: int
    loops: tuple[tuple[int, int, int], ...]
    """First, end and turns left of each that is open; 0 are said to be left to the outermost."""
    registers: _Registers
    undecided: int
    """Exits that are still to be taken, or not, as given."""
    clock: State

    def open_loops(self, left: int) -> list[Loop]:
        """The loops, with the turns left to the outermost."""
        return [Loop(first, end, turns or left, 0) for first, end, turns in self.loops]


class Turns:
    """Reads the issues of a stream and, where a loop is steady, all its further turns at once."""

    def __init__(
        self,
        words: Sequence[Word],
        machine: Machine,
        layout: KernelLayout | None,
        decisions: Sequence[bool],
        ports: Ports,
        shared: Sequence[Unit],
        flow: Flow,
    ) -> None:
        self.clock = TimingReader(machine, layout, ports, shared)
        self.flow = flow
        self._shared = shared
        self._words = words
        self._bank_bytes = layout.bank_bytes if layout else 1
        self._decisions, self._decided = decisions, 0
        self._turns: list[_Turn] = []
        self._read_by_loop: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

    def leaves(self, issue: Issue) -> bool:
        """The next of the decisions."""
        self._decided += 1
        return self._decided <= len(self._decisions) and self._decisions[self._decided - 1]

    def read(self, issue: Issue, released: int) -> None:
        """Read one instruction, a barrier once all streams have come to one."""
        self.clock.read(issue, released)
        if meets_others(issue, self._shared):
            self._turns.clear()
        if issue.mnemonic in ("li", "addi") and issue.values["d"]:
            d, value, a = (int(issue.values.get(name, 0)) for name in ("d", "value", "a"))
            one = (*SAME[:d], (a, value), *SAME[d + 1 :])
            for turn in self._turns:
                turn.change = then(turn.change, one)

    def turn_ends(self, loops: Sequence[Loop], registers: list[int]) -> int:
        """Pass all turns that are left to the innermost loop, if it is steady."""
        loop = loops[-1]
        self._turns = [turn for turn in self._turns if any(turn.loop is one for one in loops)]
        last = self._turns.pop() if self._turns and self._turns[-1].loop is loop else None
        state = self._state(loop.first, loop.end)
        if last is None or last.state != state:
            self._turns.append(_Turn(loop, state))
            return 0
        if last.mark is None:
            self._turns.append(_Turn(loop, state, mark=self.clock.mark()))
            return 0
        self.clock.repeat(last.mark, loop.turns_left)
        change = repeat_change(registers, last.change, loop.turns_left)
        for turn in self._turns:
            turn.change = then(turn.change, change)
        return loop.turns_left

    def moment(self) -> Moment:
        """Where it is."""
        loops = [(loop.first, loop.end, loop.turns_left * (number > 0)) for number, loop in enumerate(self.flow.loops)]
        clock, registers, undecided = self._state(0, len(self._words))
        return Moment(self.flow.index, tuple(loops), registers, undecided, clock)

    def resume(self, flow: Flow, moment: Moment, clock: int) -> None:
        """Be at a moment in some cycle, and count anew.

        Args:
            flow: that of the moment.
        """
        self.flow = flow
        self.clock.resume(moment.clock, clock)
        self._decided = len(self._decisions) - moment.undecided
        self._turns.clear()

    def _state(self, first: int, end: int) -> tuple[State, _Registers, int]:
        """That of instructions in these places alone."""
        place = first, end
        if place not in self._read_by_loop:
            body = self._words[first:end]
            self._read_by_loop[place] = _registers_read(body, in_bank=False), _registers_read(body, in_bank=True)
        whole, in_banks = self._read_by_loop[place]
        registers = self.flow.registers
        values = tuple(registers[r] for r in whole), tuple(registers[r] % self._bank_bytes for r in in_banks)
        return self.clock.state(), values, max(len(self._decisions) - self._decided, 0)


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
