"""One stream out of several that work side by side: in the order in which the machine can issue their instructions."""

from collections.abc import Sequence

from xdsl.ir import Operation

from dialects.isa import InstructionOp
from runtime.machine import Machine
from runtime.operands import INTEGER_REGISTERS
from runtime.sequencer import Issue
from runtime.timing import TimingReader

_NO_REGISTERS = (0,) * INTEGER_REGISTERS


class Interleaver:
    """Keeps the machine's clock while it merges; bank addresses, which registers hold, do not matter to that.

    Of the streams' next instructions the one that can issue first comes first, and of several the shortest: what a
    vector waits for passes by a long product of another stream.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._clock = TimingReader(machine)

    def merge(self, streams: Sequence[Sequence[Operation]]) -> list[InstructionOp]:
        """All instructions of the streams, which have no labels, those of each in order."""
        waiting = [[(op, _issue(op)) for op in reversed(stream) if isinstance(op, InstructionOp)] for stream in streams]
        merged: list[InstructionOp] = []
        while any(waiting):
            first = min((stream for stream in waiting if stream), key=self._rank)
            op, issue = first.pop()
            self._clock.read(issue)
            merged.append(op)
        return merged

    def _rank(self, stream: Sequence[tuple[InstructionOp, Issue]]) -> tuple[int, int]:
        _, issue = stream[-1]
        return self._clock.earliest(issue), issue.word.instruction.cost.busy(issue.values, self._machine)


def _issue(op: InstructionOp) -> Issue:
    word = op.word({})
    values = {
        name: kind.value(raw, _NO_REGISTERS)
        for (name, kind), raw in zip(word.instruction.operands, word.operands, strict=True)
    }
    return Issue(0, word, values)
