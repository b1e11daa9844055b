"""Cycles of loops that are steady, taken at once, against stepping through each turn."""

from collections.abc import Sequence
from random import Random
from time import process_time

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from machines import compile_kernel, machine, words
from random_loops import TILES_ACROSS, LoopWriter

from runtime.accelerator import time_kernel
from runtime.counts import Use
from runtime.encoding import Word
from runtime.machine import Machine, load_machine
from runtime.program import KernelLayout
from runtime.sequencer import MachineFault, sequence
from runtime.steady import time_stream
from runtime.timing import Timing, TimingReader

SHIPPED = load_machine("dcom-16x16")
MACHINES = [SHIPPED, machine(rows=3, cols=5, mac_rows=4, mac_cols=2), machine(rows=1, cols=1)]
LAYOUTS = [None, compile_kernel(300, 500, 3).layout, compile_kernel(28, 2000, 3, mapping="8x8", in_flight=2).layout]
EXAMPLES = 2 * settings.default.max_examples if settings.default else 200


def stepped(
    program: Sequence[Word], m: Machine, layout: KernelLayout | None, decisions: Sequence[bool], rounds: int
) -> Timing:
    reader, left = TimingReader(m, layout), iter(decisions)
    for issue in sequence(program, 0, lambda _: next(left, False), rounds):
        reader.read(issue)
    return reader.result()


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(MACHINES),
    st.sampled_from(LAYOUTS),
    st.lists(st.booleans(), max_size=3) | st.integers(3, 9).map(lambda turns: [*[False] * turns, True]),
    st.integers(1, 9),
)
def test_random_loops(seed: int, m: Machine, layout: KernelLayout | None, decisions: list[bool], rounds: int) -> None:
    """The same cycles, waits and counts of each instruction, or the same fault."""
    program = LoopWriter(Random(seed), layout.bank_bytes if layout else 64).write()
    note("\n".join(f"{index}: {word}" for index, word in enumerate(program)))
    outcomes: list[Timing | str] = []
    for timed in (stepped, time_stream):
        try:
            outcomes.append(timed(program, m, layout, decisions, rounds))
        except MachineFault as fault:
            outcomes.append(fault.what)
    assert outcomes[1] == outcomes[0]


@pytest.mark.parametrize("in_flight", [2, 3])
def test_rounds_of_a_kernel(in_flight: int) -> None:
    kernel = compile_kernel(28, 52, 4, mapping="8x8", in_flight=in_flight)
    for rounds in (1, 2, 3, 7):
        wanted = stepped(kernel.words, SHIPPED, kernel.layout, (), rounds)
        assert time_kernel(kernel, SHIPPED, 4 * in_flight * rounds) == wanted
        assert wanted.counts.cycles == wanted.cycles


def test_many_turns_take_no_time() -> None:
    """In each turn of the inner loop the array waits for its last result, 1 + 64 + 1 cycles after that issued."""
    began = process_time()
    program = words("loop 1000, 5", "loop 20000, 4", "fill [r0+0x0], 8192", "addi r2, r2, 64", "li r3, 1", "halt")
    timing = time_stream(program, SHIPPED, None, (), 1)
    assert timing.counts.issues[2] == 20_000_000
    assert timing.cycles == 20_000_000 * 66 + 3
    assert process_time() - began < 2


def test_a_runaway_loop_is_found_at_once() -> None:
    program = words("loop 30000, 4", "loop 30000, 4", "loop 30000, 4", "addi r2, r2, 64", "halt")
    began = process_time()
    with pytest.raises(MachineFault, match=r"issues more than [\d,]+ instructions; look for a runaway loop"):
        time_stream(program, SHIPPED, None, (), 1)
    assert process_time() - began < 5


def test_a_register_that_comes_round_is_followed() -> None:
    """Two registers that change places: what each holds after the loop counts the turns of the next."""
    program = words(
        "li r4, 3", "li r5, 5", "loop 33, 6", "addi r6, r4, 0", "addi r4, r5, 1", "addi r5, r6, 2", "loop r4, 8",
        "s.mul s1, s2, s3", "halt",
    )  # fmt: skip
    assert time_stream(program, SHIPPED, None, (), 1) == stepped(program, SHIPPED, None, (), 1)


def test_what_a_loop_reads_of_the_banks_is_followed() -> None:
    """Tiles of the activation for the first 3 turns, what lies behind them after that, and the next matrix's tiles."""
    layout = LAYOUTS[1]
    assert layout is not None
    tiles, size = 128 * TILES_ACROSS, 2 * layout.slice_rows * layout.slice_cols
    program = words(
        f"li r5, {layout.a_offset}", "loop 400, 6", f"ld [r0+0x1000], r5, {tiles}, {size}, 0, 0, t1", "wait t1",
        f"mv.row [r0+0x40], [r0+0x1000], [r0+0x100], 1, {TILES_ACROSS}, 0", f"addi r5, r5, {tiles}", "halt",
    )  # fmt: skip
    timing = time_stream(program, SHIPPED, layout, (), 1)
    assert timing == stepped(program, SHIPPED, layout, (), 1)
    assert len(timing.uses) > 1 and timing.uses[Use.OTHER] > timing.uses[Use.USEFUL] > 0


@pytest.mark.parametrize("turn", range(9))
def test_an_exit_is_taken_in_its_turn(turn: int) -> None:
    program = words("loop 30, 5", "loop 1, 4", "exit.ngt s1, s2, 4", "s.li s1, 1.0", "s.li s2, 1.0", "halt")
    decisions = [*[False] * turn, True]
    timing = time_stream(program, SHIPPED, None, decisions, 1)
    assert timing == stepped(program, SHIPPED, None, decisions, 1)
    assert timing.counts.issues[3] == 29
