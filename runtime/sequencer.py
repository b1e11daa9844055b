"""Control flow of one instruction stream: integer registers, hardware loops and exits.

Numbers and cycles are separate readers of the sequence that this module makes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dcomc.diagnostics import DcomError
from runtime.encoding import Word
from runtime.operands import COUNT, INTEGER_REGISTERS, Values

LOOP_DEPTH = 8
"""Hardware loops that may be open at once."""
BASE_REGISTER = 1
"""Holds the bank address of the launch's data at entry."""
ROUNDS_REGISTER = 31
"""Holds the number of rounds at entry, at least 1."""
ISSUE_LIMIT = 100_000_000
"""Instructions that one stream may issue before it counts as a runaway."""


class MachineFault(DcomError):
    """A program that does what the machine cannot do; the place is kernel and instruction."""


class Runaway(MachineFault):
    """A stream that issues more instructions than it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the stream issues more than {limit:,} instructions",
            hint="look for a runaway loop, or raise --max-instructions",
        )


@dataclass(frozen=True)
class Issue:
    """One instruction as it is executed."""

    index: int
    """Place in the kernel."""
    word: Word
    values: Values
    """What its operands stand for now."""

    @property
    def mnemonic(self) -> str:
        return self.word.instruction.mnemonic


Decide = Callable[[Issue], bool]
"""Whether an `exit.ngt` leaves its loop."""


@dataclass
class Loop:
    """A hardware loop that is open: one each time that it is entered."""

    first: int
    end: int
    """The place after its last instruction."""
    turns_left: int
    """With the one that is under way."""
    begun: int
    """Instructions of the stream before that turn."""


@dataclass
class Flow:
    """Where a stream is, and what its further instructions depend on."""

    registers: list[int]
    index: int
    """The place of the instruction that is under way, or next."""
    loops: list[Loop] = field(default_factory=list[Loop])
    """The loops that are open, the innermost last."""
    issued: int = 0
    """Instructions before that one."""

    @classmethod
    def at_entry(cls, base: int, rounds: int = 1, entry: int = 0) -> "Flow":
        """Before the first instruction of a stream.

        Args:
            base: bank address of the launch's data, the first value of register 1.
            rounds: the first value of register 31.
            entry: the place of that instruction.
        """
        registers = [0] * INTEGER_REGISTERS
        registers[BASE_REGISTER], registers[ROUNDS_REGISTER] = base, rounds
        return cls(registers, entry)


TurnEnds = Callable[[Sequence[Loop], list[int]], int]
"""Called where the innermost of the open loops begins another turn, with these loops and the integer registers.

A reader that knows what the next turns do may take some at once: it changes the registers as they would, and returns
how many it has taken. Each of them counts as many instructions as the turn before.
"""


def step_on(loops: Sequence[Loop], registers: list[int]) -> int:
    """Take no turn at once: each is stepped through."""
    return 0


def never_leave(issue: Issue) -> bool:
    """The decision of a run without data: no breakdown."""
    return False


def sequence(
    words: Sequence[Word],
    base: int,
    leaves: Decide,
    rounds: int = 1,
    turn_ends: TurnEnds = step_on,
    limit: int | None = None,
    entry: int = 0,
) -> Iterator[Issue]:
    """The instructions of a stream that begins now, in the order of their execution, `halt` last.

    Args:
        base, rounds, entry: of `Flow.at_entry`.
        leaves, turn_ends, limit: of `issues_of`.

    Raises:
        MachineFault: as `issues_of`.
    """
    return issues_of(words, Flow.at_entry(base, rounds, entry), leaves, turn_ends, limit)


def issues_of(
    words: Sequence[Word], flow: Flow, leaves: Decide, turn_ends: TurnEnds = step_on, limit: int | None = None
) -> Iterator[Issue]:
    """The instructions of a stream from where it is, in the order of their execution, `halt` last.

    An exit is yielded before it is decided, so that the readers have seen all before it.

    Args:
        flow: where it is, which moves with it; between two instructions it may be changed from outside.
        leaves: decides each exit.
        turn_ends: called where a loop begins a further turn; may let turns pass.
        limit: instructions that it may issue (default: `ISSUE_LIMIT`).

    Raises:
        Runaway: it issues more.
        MachineFault: the stream runs past its last word, nests too many loops or lets them cross, jumps backward,
            or counts below zero.
    """
    registers, loops, index = flow.registers, flow.loops, flow.index
    limit = ISSUE_LIMIT if limit is None else limit
    while flow.issued < limit:
        if not 0 <= index < len(words):
            raise MachineFault(f"the stream runs past its last instruction, {len(words) - 1}", hint="end it by halt")
        issue = _fetch(words[index], index, registers)
        values, flow.index = issue.values, index
        yield issue
        index, flow.issued = index + 1, flow.issued + 1
        match issue.mnemonic:
            case "halt":
                return
            case "li":
                _write(registers, values["d"], values["value"])
            case "addi":
                _write(registers, values["d"], registers[int(values["a"])] + values["value"])
            case "loop":
                index = _enter_loop(issue, flow)
            case "exit.ngt":
                target = int(values["target"])
                if target < index:
                    raise MachineFault(f"instruction {issue.index}: an exit must lead forward")
                if leaves(issue):
                    index = target
                    while loops and not loops[-1].first <= target < loops[-1].end:
                        loops.pop()
            case _:
                pass
        while loops and index == loops[-1].end:
            loop = loops[-1]
            loop.turns_left -= 1
            if loop.turns_left:
                passed = turn_ends(loops, registers)
                loop.turns_left -= passed
                flow.issued += passed * (flow.issued - loop.begun)
            if loop.turns_left:
                index, loop.begun = loop.first, flow.issued
                break
            loops.pop()
    raise Runaway(limit)


def _fetch(word: Word, index: int, registers: Sequence[int]) -> Issue:
    """An instruction with the values that its operands have now."""
    operands = word.instruction.operands
    values = {name: kind.value(raw, registers) for (name, kind), raw in zip(operands, word.operands, strict=True)}
    for name, kind in operands:
        if kind is COUNT and values[name] < 0:
            raise MachineFault(f"instruction {index}: {name} is negative, {values[name]}")
    return Issue(index, word, values)


def _enter_loop(issue: Issue, flow: Flow) -> int:
    """Open the loop of a `loop` instruction; the place to go on at, which is its end where it has nothing to do."""
    first, end, count = issue.index + 1, int(issue.values["end"]), int(issue.values["count"])
    if end < first:
        raise MachineFault(f"instruction {issue.index}: the loop ends before it begins")
    if flow.loops and end > flow.loops[-1].end:
        raise MachineFault(f"instruction {issue.index}: the loop ends after the one that holds it")
    if not count or end == first:
        return end
    if len(flow.loops) == LOOP_DEPTH:
        raise MachineFault(f"instruction {issue.index}: more than {LOOP_DEPTH} nested loops")
    flow.loops.append(Loop(first, end, count, flow.issued))
    return first


def check_length(words: Sequence[Word], rounds: int, limit: int, entry: int = 0) -> None:
    """Refuse early what issues too much by one turn of each loop, as if its further turns were like it.

    A guess, which misses counts that grow with the turn: `time_stream` with the limit finds these.

    Raises:
        Runaway: it would issue more than `limit` instructions where no exit leaves.
    """
    try:
        for _ in sequence(words, 0, never_leave, rounds, lambda loops, _: loops[-1].turns_left, limit, entry):
            pass
    except Runaway:
        raise
    except MachineFault:
        return  # an exit may lead past it


def _write(registers: list[int], register: int | float, value: int | float) -> None:
    if register:  # r0 stays zero
        registers[int(register)] = wrapped(int(value))


def wrapped(value: int) -> int:
    """The number that an integer register holds of it: 64 bits in two's complement."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
