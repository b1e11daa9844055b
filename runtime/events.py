"""What a kernel does when: the events of a run, for those who draw it."""

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.banks import rounds
from runtime.machine import Machine
from runtime.program import Kernel
from runtime.sequencer import Issue, never_leave, sequence
from runtime.timing import TimingReader


@dataclass(frozen=True)
class Event:
    """An instruction as it issues, in cycles of its run."""

    issue: Issue
    waited: int
    """From here on the stream waited to issue it."""
    cause: str
    """For what."""
    start: int
    """Of its issue."""
    begun: int
    """When the issue is done and its unit begins."""
    end: int
    """When its unit is free again."""


def run_events(kernel: Kernel, machine: Machine, prompts: int) -> Iterator[Event]:
    """The events of the first run of a launch of so many prompts, where no exit is taken."""
    turns = rounds(prompts, kernel.layout, machine) if kernel.layout.in_flight > 1 else 1
    clock = TimingReader(machine)
    for issue in sequence(kernel.words, 0, never_leave, turns):
        waited = clock.cycles
        start, cause = clock.start(issue)
        clock.read(issue)
        busy = issue.word.instruction.cost.busy(issue.values, machine)
        yield Event(issue, waited, cause, start, clock.cycles, clock.cycles + busy)
