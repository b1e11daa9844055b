"""A stream's instructions, sequenced once for each way through its exits and read again for further prompts.

What a stream executes depends on data by its exits alone: the instructions up to the next exit are the same whenever
the exits before were decided alike.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

from runtime.encoding import Word
from runtime.machine import Machine
from runtime.sequencer import Decide, Issue, sequence
from runtime.written import Written

REMEMBERED = 100_000
"""Instructions of one stream that are kept; what is beyond is sequenced anew each time."""

Decisions = tuple[bool, ...]


class Stream:
    """The words of a stream that begins at base address 0; may be read by several threads at a time.

    Args:
        machine: reads of what was never written there are faults.
        check: called with each instruction before it is passed on for the first time; raises what is wrong with it.
        rounds: that register 31 asks for.
        entry: the place of its first instruction.
        limit: of `sequence`.
    """

    def __init__(
        self,
        words: Sequence[Word],
        machine: Machine,
        check: Callable[[Issue], None],
        rounds: int = 1,
        entry: int = 0,
        limit: int | None = None,
    ) -> None:
        self._words = words
        self._machine = machine
        self._rounds, self._entry, self._limit = rounds, entry, limit
        self._check = check
        self._segments: dict[Decisions, tuple[tuple[Issue, ...], Written]] = {}
        """From after the exits that were decided so to the next exit or `halt`; and what is written then."""
        self._size = 0

    def issues(self, leaves: Decide) -> Iterator[Issue]:
        """What `sequence` gives of the words, checked; its faults and those of the check come where they belong."""
        path: Decisions = ()
        unread: Iterator[Issue] | None = None
        answers: deque[bool] = deque()
        written = Written(self._machine)
        while True:
            known = self._segments.get(path)
            if known is not None:
                unread = None
                segment, written = known
                yield from segment
                last = segment[-1]
            else:
                if unread is None:
                    answers = deque(path)
                    unread = self._after(len(path), answers)
                written = written.copy()
                last = yield from self._read(unread, path, written)
            if last.mnemonic == "halt":
                return
            path += (leaves(last),)
            answers.append(path[-1])

    def _after(self, exits: int, answers: deque[bool]) -> Iterator[Issue]:
        """The instructions after so many exits, which are decided by `answers`, in order."""
        rounds, entry, limit = self._rounds, self._entry, self._limit
        issues = sequence(self._words, 0, lambda _: answers.popleft(), rounds, entry=entry, limit=limit)
        while exits:
            exits -= next(issues).mnemonic == "exit.ngt"
        return issues

    def _read(self, issues: Iterator[Issue], path: Decisions, written: Written) -> Generator[Issue, None, Issue]:
        """Pass on the instructions up to the next exit or `halt`, which is the result; keep them if they are few."""
        segment: list[Issue] = []
        room = REMEMBERED - self._size
        while True:
            issue = next(issues)
            self._check(issue)
            written.read(issue)
            yield issue
            if issue.mnemonic in ("exit.ngt", "halt"):
                break
            if len(segment) < room:
                segment.append(issue)
        if len(segment) < room:
            self._segments[path] = (*segment, issue), written
            self._size += len(segment) + 1
        return issue
