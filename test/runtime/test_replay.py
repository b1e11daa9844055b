"""A stream read again gives the instructions that the sequencer gives."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine, words
from random_programs import ProgramWriter, random_machine

from runtime import replay
from runtime.encoding import Word
from runtime.replay import Stream
from runtime.sequencer import Decide, Issue, MachineFault, sequence


def decided(seed: int) -> Decide:
    """Exits that leave or do not, by chance."""
    random = Random(seed)
    return lambda _: random.random() < 0.3


def accept(_: Issue) -> None:
    """Find nothing wrong."""


def listed(program: list[Word], seed: int, stream: Stream | None = None) -> list[tuple[int, str]]:
    """Place and operands of each instruction, by the sequencer or by a stream, for some decisions."""
    leaves = decided(seed)
    issues = sequence(program, 0, leaves) if stream is None else stream.issues(leaves)
    return [(issue.index, str(issue.values)) for issue in issues]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([100_000, 30, 3, 0]))
def test_random_programs(seed: int, remembered: int) -> None:
    random = Random(seed)
    m = random_machine(random)
    program = ProgramWriter(random, m, 2 * m.cluster.buffer_bytes).write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "REMEMBERED", remembered)
        stream = Stream(program, m, accept)
        for decisions in (0, 1, 0, 2, 1, 3, 0):
            assert listed(program, decisions, stream) == listed(program, decisions)


LOOP = words("loop 9, 4", "s.li s1, 0.5", "addi r5, r5, 4", "exit.ngt s1, s1, 5", "halt", "halt")
MACHINE = machine()


def test_the_second_time_nothing_is_sequenced(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(LOOP, MACHINE, accept)
    wanted = listed(LOOP, 0, stream)

    def fail(*_: object) -> None:
        raise AssertionError("sequenced again")

    monkeypatch.setattr(replay, "sequence", fail)
    assert listed(LOOP, 0, stream) == wanted


def test_instructions_come_before_the_exits_are_decided() -> None:
    """Each decision is asked for after all instructions before it were passed on, however the stream is read."""
    stream = Stream(LOOP, MACHINE, accept)
    for _ in range(2):
        seen: list[Issue] = []

        def leaves(issue: Issue, seen: list[Issue] = seen) -> bool:
            assert seen[-1] is issue
            return len(seen) > 15

        for issue in stream.issues(leaves):
            seen.append(issue)


@pytest.mark.parametrize("times", [1, 2])
def test_faults_come_after_the_instructions_before_them(times: int) -> None:
    stream = Stream(words("s.li s1, 1.0", "exit.ngt s1, s1, 3", "li r4, 1"), MACHINE, accept)
    for _ in range(times):
        seen: list[int] = []
        with pytest.raises(MachineFault, match="runs past its last instruction"):
            for issue in stream.issues(lambda _: False):
                seen.append(issue.index)
        assert seen == [0, 1, 2]


def test_each_instruction_is_checked_once_and_before_it_is_passed_on() -> None:
    checked: list[Issue] = []
    stream = Stream(LOOP, MACHINE, checked.append)
    for _ in range(2):
        for issue in stream.issues(lambda _: False):
            assert any(issue is other for other in checked)
    assert [issue.index for issue in checked] == [issue.index for issue in sequence(LOOP, 0, lambda _: False)]


def test_a_fault_of_the_check_comes_each_time() -> None:
    def refuse(issue: Issue) -> None:
        if issue.index == 2:
            raise MachineFault("refused")

    stream = Stream(LOOP, MACHINE, refuse)
    for _ in range(2):
        seen: list[int] = []
        with pytest.raises(MachineFault, match="refused"):
            for issue in stream.issues(lambda _: False):
                seen.append(issue.index)
        assert seen == [0, 1]
