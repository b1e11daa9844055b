"""Control flow: hardware loops, exits, integer registers and every way to run astray."""

import time

import pytest
from machines import issues, words

from runtime import sequencer
from runtime.operands import COUNT, IMMEDIATE
from runtime.sequencer import LOOP_DEPTH, Issue, MachineFault, Runaway, check_length, sequence


def indices(*lines: str) -> list[int]:
    return [issue.index for issue in issues(*lines)]


def final(*lines: str) -> int:
    """The last value of r3, read off by an address."""
    *_, last, _ = issues(*lines, "fill [r3+0x0], 4", "halt")
    assert last.mnemonic == "fill"
    return int(last.values["x"])


def always(issue: Issue) -> bool:
    return True


class OnVisit:
    """Leaves at the n-th visit of the exit at an index."""

    def __init__(self, index: int, visit: int) -> None:
        self.index, self.visit, self.visits = index, visit, 0

    def __call__(self, issue: Issue) -> bool:
        if issue.index != self.index:
            return False
        self.visits += 1
        return self.visits == self.visit


def test_straight_line_ends_with_halt() -> None:
    assert indices("li r2, 5", "halt", "li r2, 6") == [0, 1]


def test_loop_runs_its_body_count_times() -> None:
    assert indices("loop 3, 3", "li r2, 1", "li r2, 2", "halt") == [0, 1, 2, 1, 2, 1, 2, 3]


def test_loop_of_one_turn() -> None:
    assert indices("loop 1, 2", "li r2, 1", "halt") == [0, 1, 2]


def test_loop_of_no_turns_skips_its_body() -> None:
    assert indices("loop 0, 3", "li r2, 1", "li r2, 2", "halt") == [0, 3]


def test_loop_without_a_body() -> None:
    assert indices("loop 7, 1", "halt") == [0, 1]


def test_loop_counts_in_a_register_read_at_entry() -> None:
    assert indices("li r9, 2", "loop r9, 3", "li r9, 100", "halt") == [0, 1, 2, 2, 3]
    assert indices("loop r0, 2", "li r9, 100", "halt") == [0, 2]


def test_nested_loops() -> None:
    lines = ("loop 2, 4", "addi r3, r3, 100", "loop 3, 4", "addi r3, r3, 1")
    assert indices(*lines, "halt") == [0, 1, 2, 3, 3, 3, 1, 2, 3, 3, 3, 4]
    assert final(*lines) == 206


def test_nested_loops_with_instructions_after_the_inner_one() -> None:
    lines = ("loop 2, 4", "loop 3, 3", "addi r3, r3, 1", "addi r3, r3, 100")
    assert indices(*lines, "halt") == [0, 1, 2, 2, 2, 3, 1, 2, 2, 2, 3, 4]
    assert final(*lines) == 206


def test_three_loops_with_a_shared_end() -> None:
    assert final("loop 2, 4", "loop 3, 4", "loop 5, 4", "addi r3, r3, 1") == 30


def test_inner_loop_of_no_turns_at_the_end_of_the_outer_one() -> None:
    assert indices("loop 2, 4", "addi r3, r3, 1", "loop 0, 4", "li r2, 9", "halt") == [0, 1, 2, 1, 2, 4]


def test_inner_loop_without_a_body_at_the_end_of_the_outer_one() -> None:
    assert indices("loop 2, 3", "addi r3, r3, 1", "loop 9, 3", "halt") == [0, 1, 2, 1, 2, 3]


def test_deepest_nest() -> None:
    lines = [f"loop 2, {LOOP_DEPTH + 1}"] * LOOP_DEPTH
    assert final(*lines, "addi r3, r3, 1") == 2**LOOP_DEPTH


def test_loops_may_be_nested_so_deep_and_no_deeper() -> None:
    lines = [f"loop 1, {LOOP_DEPTH + 2}"] * (LOOP_DEPTH + 1)
    with pytest.raises(MachineFault, match=f"instruction {LOOP_DEPTH}: more than {LOOP_DEPTH} nested loops"):
        indices(*lines, "li r2, 0", "halt")


def test_loops_one_after_another_do_not_nest() -> None:
    lines = [line for i in range(LOOP_DEPTH + 3) for line in (f"loop 2, {2 * i + 2}", "addi r3, r3, 1")]
    assert final(*lines) == 2 * (LOOP_DEPTH + 3)


def test_exit_that_is_not_taken_changes_nothing() -> None:
    assert indices("loop 2, 3", "exit.ngt s0, s1, 3", "li r2, 1", "halt") == [0, 1, 2, 1, 2, 3]


def test_exit_leaves_its_loop() -> None:
    lines = ("loop 9, 4", "addi r3, r3, 1", "exit.ngt s0, s1, 4", "addi r3, r3, 10", "fill [r3+0x0], 4", "halt")
    *_, fill, _ = issues(*lines, leaves=OnVisit(2, 3))
    assert fill.values["x"] == 23


def test_exit_to_the_end_of_its_loop_does_not_turn_it() -> None:
    assert [i.index for i in issues("loop 9, 3", "li r2, 1", "exit.ngt s0, s1, 3", "halt", leaves=always)] == [
        0,
        1,
        2,
        3,
    ]


def test_exit_within_a_loop_stays_in_it() -> None:
    order = [i.index for i in issues("loop 2, 4", "exit.ngt s0, s1, 3", "li r2, 1", "li r2, 2", "halt", leaves=always)]
    assert order == [0, 1, 3, 1, 3, 4]


def test_exit_leaves_the_inner_loop_alone() -> None:
    lines = ("loop 2, 4", "loop 5, 3", "exit.ngt s0, s1, 3", "addi r3, r3, 1", "halt")
    assert [i.index for i in issues(*lines, leaves=always)] == [0, 1, 2, 3, 1, 2, 3, 4]


def test_exit_leaves_several_loops() -> None:
    lines = ("loop 3, 6", "loop 5, 6", "loop 7, 5", "addi r3, r3, 1", "exit.ngt s0, s1, 6", "addi r3, r3, 100")
    order = [i.index for i in issues(*lines, "loop 2, 8", "li r2, 1", "halt", leaves=OnVisit(4, 2))]
    assert order == [0, 1, 2, 3, 4, 3, 4, 6, 7, 7, 8]


def test_exit_is_seen_before_it_is_decided() -> None:
    """What the instructions before an exit compute is there when it decides."""
    seen: list[int] = []
    decided: list[int] = []

    def decide(issue: Issue) -> bool:
        decided.append(len(seen))
        return False

    for issue in issues("li r2, 1", "li r2, 2", "exit.ngt s3, s4, 3", "halt", leaves=decide):
        seen.append(issue.index)
    assert decided == [3]


def test_zero_register_stays_zero() -> None:
    stream = list(
        issues("li r0, 5", "addi r0, r0, 7", "fill [r0+0x10], 4", "addi r3, r0, 1", "fill [r3+0x0], 4", "halt")
    )
    assert (stream[2].values["x"], stream[4].values["x"]) == (0x10, 1)


def test_base_address_is_in_register_1() -> None:
    stream = words("ld [r0+0x0], r1, 8, 0, 1, 1, t0", "ld [r0+0x0], r2, 8, 0, 1, 1, t0", "halt")
    assert [issue.values["bank"] for issue in list(sequence(stream, 12345, always))[:2]] == [12345, 0]


def test_negative_immediates() -> None:
    assert final("li r3, 100", "addi r3, r3, -60") == 40
    assert final(f"li r3, {-(1 << (IMMEDIATE.bits - 1))}") == -(1 << 47)


def test_registers_have_64_bits() -> None:
    most = (1 << 47) - 1
    turns = (1 << 16) + 2  # most * turns passes 2^63
    lines = (f"li r4, {turns // 2}", "loop 2, 4", "loop r4, 4", f"addi r3, r3, {most}")
    assert final(*lines) == most * turns - (1 << 64)


def test_values_are_those_of_the_moment() -> None:
    stream = list(
        issues(
            "li r5, 8", "norm2 [r5+0x4], [r0+0x0], r5, 0", "addi r5, r5, 8", "norm2 [r5+0x4], [r0+0x0], r5, 0", "halt"
        )
    )
    assert [dict(stream[i].values) for i in (1, 3)] == [
        {"d": 12, "x": 0, "length": 8, "pieces": 0},
        {"d": 20, "x": 0, "length": 16, "pieces": 0},
    ]


def test_running_past_the_end() -> None:
    with pytest.raises(MachineFault, match="runs past its last instruction, 1; end it by halt"):
        indices("li r2, 1", "li r2, 2")
    with pytest.raises(MachineFault, match="runs past its last instruction"):
        indices()


def test_jumping_past_the_end() -> None:
    with pytest.raises(MachineFault, match="runs past its last instruction, 1"):
        list(issues("exit.ngt s0, s1, 9", "halt", leaves=always))
    with pytest.raises(MachineFault, match="runs past its last instruction, 1"):
        indices("loop 0, 7", "halt")


@pytest.mark.parametrize("target", [0, 1])
def test_backward_exit(target: int) -> None:
    with pytest.raises(MachineFault, match="instruction 1: an exit must lead forward"):
        list(issues("li r2, 1", f"exit.ngt s0, s1, {target}", "halt", leaves=always))


def test_exit_to_the_next_instruction() -> None:
    assert [i.index for i in issues("exit.ngt s0, s1, 1", "halt", leaves=always)] == [0, 1]


def test_backward_loop() -> None:
    with pytest.raises(MachineFault, match="instruction 1: the loop ends before it begins"):
        indices("li r2, 1", "loop 2, 1", "halt")


def test_loops_that_cross() -> None:
    with pytest.raises(MachineFault, match="instruction 2: the loop ends after the one that holds it"):
        indices("loop 2, 4", "li r2, 1", "loop 2, 5", "li r2, 2", "li r2, 3", "halt")


@pytest.mark.parametrize(
    "line", ["norm2 [r0+0x0], [r0+0x40], r5, 0", "loop r5, 2", "dots [r0+0x0], [r0+0x8], [r0+0x80], 4, r5, 0"]
)
def test_negative_count(line: str) -> None:
    with pytest.raises(MachineFault, match=r"instruction 1: \w+ is negative, -1"):
        indices("li r5, -1", line, "halt")


def test_counts_reach_to_15_bits() -> None:
    assert COUNT.parse("32767") == 32767
    assert len(indices("loop 32767, 2", "li r2, 1", "halt")) == 32769


def test_runaway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "ISSUE_LIMIT", 1000)
    lines = ("loop 32767, 3", "loop 32767, 3", "li r2, 1", "halt")
    with pytest.raises(MachineFault, match="issues more than 1,000 instructions; look for a runaway loop"):
        indices(*lines)
    monkeypatch.setattr(sequencer, "ISSUE_LIMIT", 12)
    assert len(indices("loop 10, 2", "li r2, 1", "halt")) == 12


NESTED = ("loop 3, 5", "li r4, 5", "loop r4, 4", "li r2, 1", "li r3, 1", "halt")


def test_length_is_known_from_one_turn_of_each_loop() -> None:
    """1 + 3 * (2 + 5 + 1) + 1; a count in a register, too."""
    assert len(indices(*NESTED)) == 26
    check_length(words(*NESTED), 1, 26)
    with pytest.raises(Runaway, match="more than 25 instructions"):
        check_length(words(*NESTED), 1, 25)


def test_length_of_a_runaway_is_known_at_once() -> None:
    loops = [f"loop 32767, {9}" for _ in range(8)]
    begin = time.process_time()
    with pytest.raises(Runaway):
        check_length(words(*loops, "li r2, 1", "halt"), 1, 10**30)
    assert time.process_time() - begin < 1
    check_length(words(*loops, "li r2, 1", "halt"), 1, 32767**9)


def test_length_of_rounds() -> None:
    lines = words("loop r31, 2", "li r2, 1", "halt")
    check_length(lines, 7, 9)
    with pytest.raises(Runaway):
        check_length(lines, 8, 9)


def test_other_faults_are_left_to_the_run() -> None:
    """An exit may lead past them."""
    check_length(words("exit.ngt s1, s1, 1", "loop 1, 0"), 1, 100)
