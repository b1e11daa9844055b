"""What a kernel does when: the events of a run, for those who draw it."""

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.deal import deal
from runtime.machine import Machine
from runtime.program import Kernel
from runtime.sequencer import Issue, never_leave, sequence
from runtime.shared import in_order_of_time, meets_others, shared_units
from runtime.timing import TimingReader, ports_of


@dataclass(frozen=True)
class Event:
    """An instruction as it issues, in cycles of its run."""

    stream: int
    """Its number in the kernel."""
    issue: Issue
    waited: int
    """The cycle from which on the stream waited to issue it."""
    cause: str
    """What it waited for."""
    start: int
    """The cycle of its issue."""
    begun: int
    """When the issue is done and its unit begins."""
    end: int
    """When its unit is free again."""


def run_events(
    kernel: Kernel, machine: Machine, prompts: int, until: int | None = None, limit: int | None = None
) -> Iterator[Event]:
    """The events of the first run of a launch of so many prompts, where no exit is taken; of each stream in order.

    Args:
        until: the cycle that need not be passed: the events end where all streams have come there.
        limit: instructions that a stream may issue (default: that of `sequence`).
    """
    shares = deal(kernel, machine, prompts if kernel.takes_rounds else 1)
    streams = [share.stream for share in shares]
    machines, units = [share.machine for share in shares], shared_units(streams)
    clocks = [TimingReader(part, ports=ports) for part, ports in zip(machines, ports_of(streams), strict=True)]
    issues = [
        sequence(kernel.words, 0, never_leave, share.rounds, limit=limit, entry=share.stream.entry) for share in shares
    ]
    before = set(range(len(streams)))

    def stands_back(number: int, issue: Issue) -> bool:
        return meets_others(issue, units) or number not in before

    for number, issue, released in in_order_of_time(issues, [clock.ready for clock in clocks], stands_back):
        clock = clocks[number]
        waited = clock.cycles
        start, cause = clock.start(issue, released)
        clock.read(issue, released)
        busy = issue.word.instruction.cost.busy(issue.values, machines[number])
        yield Event(number, issue, waited, cause, start, clock.cycles, clock.cycles + busy)
        if issue.mnemonic == "halt" or (until is not None and clock.cycles >= until):
            before.discard(number)
            if not before:
                return
