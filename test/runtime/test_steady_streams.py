"""Cycles of streams that are steady together, taken at once, against stepping through each turn."""

from random import Random
from time import process_time
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from machines import compile_kernel, machine, machine_file, words
from random_loops import LoopWriter
from stepping import stepped

from runtime import steady
from runtime.accelerator import time_kernel
from runtime.counts import Counts
from runtime.deal import deal
from runtime.machine import load_machine
from runtime.program import KernelLayout, KernelStream
from runtime.sequencer import Issue
from runtime.steady import time_streams
from runtime.timing import Timing
from runtime.turns import Turns

SHIPPED = machine()
FOLDED = compile_kernel(28, 2000, 3, mapping="8x8", in_flight=2).layout
SPLITS = {
    "beside": [(0, 0, 16, 8), (0, 8, 16, 8)],
    "above": [(0, 0, 8, 16), (8, 0, 8, 16)],
    "in part": [(0, 0, 8, 16), (8, 0, 8, 4), (8, 4, 8, 12)],
}
"""Rectangles of streams that have no bank, all banks, or some banks in common."""


def random_streams(random: Random, split: str, bank_bytes: int, barriers: bool) -> tuple[list[str], list[KernelStream]]:
    """Lines of all streams, a loop of some turns after another in each, and where each stream begins.

    Args:
        barriers: as many turns for all, with a barrier in some loops.
    """
    lines: list[str] = []
    streams: list[KernelStream] = []
    turns = [random.randint(3, 40) for _ in range(2)]
    meeting = [barriers and random.random() < 0.8 for _ in turns]
    for number, rectangle in enumerate(SPLITS[split]):
        streams.append(KernelStream(*rectangle, len(lines)))
        writer = LoopWriter(random, bank_bytes)
        writer.lines = [*lines, *writer.lines, *(f"ld [r0+0x0], r1, 8, 8, 0, 0, t{token}" for token in (1, 2))]
        for count, meets in zip(turns, meeting, strict=True):
            begin = len(writer.lines)
            writer.lines.append("")
            for _ in range(random.randint(1, 3)):
                writer.lines.append(writer.instruction())
                if random.random() < 0.3:
                    writer.block(2)
                if random.random() < 0.3:
                    writer.lines.append(f"put [r0+0x0], [r0+{64 * number}], {random.randint(1, 9)}, 0, 0")
            if random.random() < 0.6:
                writer.lines.append(f"addi r5, r5, {bank_bytes}")
            if meets:
                writer.lines.append("barrier")
            own = count if barriers else random.randint(3, 40)
            writer.lines[begin] = f"loop {own}, {len(writer.lines)}"
        lines = [*writer.lines, "halt"]
    return lines, streams


@settings(max_examples=settings.default.max_examples if settings.default else 100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(SPLITS)),
    st.sampled_from([None, FOLDED]),
    st.booleans(),
    st.lists(st.booleans(), max_size=3),
)
def test_random_loops_of_streams(
    seed: int, split: str, layout: KernelLayout | None, barriers: bool, decisions: list[bool]
) -> None:
    """The same cycles, waits and counts of each instruction of each stream."""
    lines, streams = random_streams(Random(seed), split, layout.bank_bytes if layout else 64, barriers)
    note("\n".join(f"{index}: {line}" for index, line in enumerate(lines)))
    program, exits = words(*lines), (tuple(decisions),) * len(streams)
    together = time_streams(program, SHIPPED, layout, streams, exits, [1] * len(streams))
    assert [timing for _, timing in together.streams] == stepped(program, SHIPPED, streams, exits, layout)


@pytest.mark.parametrize(("streams", "mapping"), [("2x2", "auto"), ("2x1", "grid"), ("1x2", "1x2"), ("4x4", "auto")])
def test_rounds_of_streams(streams: str, mapping: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Some take a round less than others, and one of padding where there is none."""
    file = machine_file(tmp_path_factory.mktemp("machine"), rows=4, cols=4)
    small = load_machine(file)
    kernel = compile_kernel(40, 90, 3, file, mapping=mapping, matrices=64, streams=streams)
    for matrices in (1, 61):
        shares = deal(kernel, small, matrices)
        rounds = [share.rounds for share in shares]
        timing = time_kernel(kernel, small, matrices)
        assert [own for _, own in timing.streams] == stepped(
            kernel.words, small, kernel.streams, None, kernel.layout, rounds
        )


def test_streams_that_drift_take_little_more(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matrices with no room in the buffers are loaded for each product, from banks that four streams have in common.
    These drift past one another and are not steady in so few rounds, but most of what they do between two loads was
    done before; so four times the instructions are known from less than twice as many."""
    file = machine_file(tmp_path_factory.mktemp("machine"), rows=4, cols=4, buffer_bytes=1 << 14)
    small = load_machine(file)
    kernel = compile_kernel(192, 256, 3, file, mapping="1x2", matrices=128, streams="4x1")
    read, issued = Turns.read, [0]

    def counted(turns: Turns, issue: Issue, released: int) -> None:
        issued[-1] += 1
        read(turns, issue, released)

    monkeypatch.setattr(Turns, "read", counted)
    for matrices in (32, 128):
        issued.append(0)
        timing = time_kernel(kernel, small, matrices)
        rounds = [share.rounds for share in deal(kernel, small, matrices)]
        assert [own for _, own in timing.streams] == stepped(
            kernel.words, small, kernel.streams, None, kernel.layout, rounds
        )
    _, few, many = issued
    assert many < 2 * few


@pytest.mark.parametrize("split", sorted(SPLITS))
@pytest.mark.parametrize(
    "body",
    [
        ("ld [r0+0x0], r5, 256, 256, 0, 0, t1", "wait t1", "addi r5, r5, 64"),
        ("fill [r0+0x0], 128", "put [r0+0x0], [r0+0x0], 2, 0, 0", "ld [r0+0x0], r5, 256, 256, 0, 0, t1", "wait t1"),
        ("fill [r0+0x0], 99", "barrier"),
        ("loop 30, 4", "fill [r0+0x0], 99", "barrier", "addi r5, r5, 64"),
    ],
)
def test_many_turns_of_streams_take_no_time(split: str, body: tuple[str, ...]) -> None:
    """Once they are steady, each further turn takes as long."""
    began = process_time()
    streams = [KernelStream(*rectangle, 0) for rectangle in SPLITS[split]]

    def timed(turns: int) -> Timing:
        program = words(f"loop {turns}, {len(body) + 1}", *body, "halt")
        return time_streams(program, SHIPPED, None, streams, [()] * len(streams), [1] * len(streams))

    few, more, most = timed(300), timed(600), timed(30_000)
    assert most.cycles - more.cycles == 98 * (more.cycles - few.cycles)
    assert most.counts == more.counts.plus(more.counts.plus(few.counts, -1), 98)
    assert process_time() - began < 3


@pytest.mark.parametrize(
    ("streams", "matrices", "line", "timed"),
    [
        ("4x4", 64, "", [4]),
        ("4x4", 61, "", [4, 4]),
        ("1x16", 64, "", [1]),
        ("16x1", 64, "", [16]),
        ("1x16", 64, "barrier", [16]),
        ("1x16", 64, "put [r0+0x0], [r0+0x0], 2, 0, 0", [16]),
    ],
)
def test_streams_are_timed_with_those_that_they_meet(
    streams: str, matrices: int, line: str, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above one another, or all where they meet at barriers or the global memory; and once, if they do the same."""
    kernel = compile_kernel(24, 40, 3, mapping="grid", matrices=matrices, streams=streams)
    program = (*words(*([line] if line else [])), *kernel.words)
    shares = deal(kernel, SHIPPED, matrices)
    found: list[int] = []

    def together(*args: Any) -> list[Timing]:
        tasks = args[3]
        found.append(len(tasks))
        return [Timing(1, Counts(), 1)] * len(tasks)

    monkeypatch.setattr(steady, "_time_together", together)
    rounds = [share.rounds for share in shares]
    time_streams(program, SHIPPED, kernel.layout, kernel.streams, [()] * len(shares), rounds)
    assert found == timed
