"""Cycles of streams by stepping through all of their instructions, to hold quicker ways against."""

from collections.abc import Sequence

from runtime.deal import Exits
from runtime.encoding import Word
from runtime.machine import Machine
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import sequence
from runtime.timing import Timing, TimingReader, ports_of


def stepped(
    program: Sequence[Word],
    m: Machine,
    streams: Sequence[KernelStream],
    exits: Exits | None = None,
    layout: KernelLayout | None = None,
    rounds: Sequence[int] | None = None,
) -> list[Timing]:
    """Each instruction in the order of time, the plainest way: of those that are next, the one that is ready first."""
    clocks = [
        TimingReader(m.part(stream.rows, stream.cols), layout, ports)
        for stream, ports in zip(streams, ports_of(streams), strict=True)
    ]
    left = [iter(of_stream) for of_stream in exits or ((),) * len(streams)]
    issues = [
        sequence(program, 0, lambda _, own=own: next(own, False), turns, entry=stream.entry)
        for stream, own, turns in zip(streams, left, rounds or (1,) * len(streams), strict=True)
    ]
    heads = {number: next(stream) for number, stream in enumerate(issues)}
    while heads:
        starts = [(clocks[n].ready(i), n) for n, i in heads.items() if i.mnemonic != "barrier"]
        released = 0 if starts else max(clocks[number].ready(issue) for number, issue in heads.items())
        for number in [min(starts)[1]] if starts else list(heads):
            clocks[number].read(heads.pop(number), released)
            further = next(issues[number], None)
            if further is not None:
                heads[number] = further
    return [clock.result() for clock in clocks]
