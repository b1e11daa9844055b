"""Several streams side by side: what they exchange, their races and deadlocks, and their cycles, worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from machines import compile_kernel, machine, words
from random_programs import random_banks, random_machine, random_streams
from stepping import stepped

from dcomc.assembler import assemble
from dcomc.container import parse_container, program_bytes
from dcomc.disassembler import disassemble
from dcomc.program import Engine, Program
from runtime import deal as deal_module
from runtime.accelerator import PromptResult, launch_uses, run_together, time_kernel, time_launch
from runtime.counts import Direction, Use
from runtime.deal import Exits, deal, join_exits, together_in
from runtime.encoding import Word
from runtime.fast import FastEngine
from runtime.fast_banks import by_bank, by_word
from runtime.instructions import Unit
from runtime.machine import Machine
from runtime.program import Kernel, KernelStream, Launch
from runtime.reference import ReferenceEngine
from runtime.sequencer import Decide, Issue, MachineFault, sequence
from runtime.shared import SharedMemory, in_turns
from runtime.steady import time_streams
from runtime.timing import Timing

SHIPPED = machine()
LEFT, RIGHT = KernelStream(0, 0, 16, 8, 0), KernelStream(0, 8, 16, 8, 0)
TOP, BOTTOM = KernelStream(0, 0, 8, 16, 0), KernelStream(8, 0, 8, 16, 0)
ENGINES = pytest.mark.parametrize("engine", ["reference", "fast"])


def timed(streams: Sequence[KernelStream], *lines: str) -> list[Timing]:
    """Cycles of each stream, the same as by stepping; their causes add up."""
    program = words(*lines)
    none, ones = [()] * len(streams), [1] * len(streams)
    together = time_streams(program, SHIPPED, None, streams, none, ones)
    timings = [timing for _, timing in together.streams]
    assert timings == stepped(program, SHIPPED, streams)
    assert together.cycles == max(timing.cycles for timing in timings)
    assert all(timing.counts.cycles == timing.cycles for timing in timings)
    return timings


def from_(stream: KernelStream, entry: int) -> KernelStream:
    return replace(stream, entry=entry)


def test_a_barrier_waits_for_the_last() -> None:
    """The first stream comes in cycle 1; the second fills 128 bytes a cycle in 1 to 64, and its barrier does not mind.

    It puts 4 bytes: issue in 0, done with the cycles 1 for the port and 8 to the memory, so it comes in 10."""
    one, other = timed(
        (LEFT, from_(RIGHT, 3)),
        "li r2, 1", "barrier", "halt",
        "put [r0+0x0], [r0+0x0], 1, 0, 0", "barrier", "halt",
    )  # fmt: skip
    assert one.causes == {"barrier": 9, "issue": 3}
    assert other.causes == {"issue": 3, "result of global memory write": 9}
    assert one.cycles == other.cycles == 12


def test_a_barrier_waits_for_what_is_read() -> None:
    """16 x 8 times 4 bytes leave the global memory in 8 cycles from 1 on; its latency does not matter to others."""
    one, other = timed((LEFT, from_(RIGHT, 3)), "get [r0+0x0], [r0+0x0], 1, 0, 0", "barrier", "halt", "barrier", "halt")
    assert one.causes["global memory read busy"] == 8
    assert other.causes == {"barrier": 9, "issue": 2}
    assert one.causes["drain"] == 17 - 10


def test_a_barrier_of_one_stream_waits_for_itself() -> None:
    program = words("put [r0+0x0], [r0+0x0], 1, 0, 0", "barrier", "halt")
    timing = time_streams(program, SHIPPED, None, (KernelStream(0, 0, 16, 16, 0),), ((),), (1,))
    assert timing.causes == {"issue": 3, "result of global memory write": 9}
    assert not timing.streams


def test_the_port_of_the_global_memory_serves_one_at_a_time() -> None:
    """Puts of 640 bytes, 10 cycles each, ready in 0 and 0, then in 1 and 11: they issue in 0 and 10, then in 20 and 30.

    The last is done 10 cycles for the port and 8 to the memory after its issue."""
    lines = ["put [r0+0x0], [r0+0x0], 160, 0, 0", "put [r0+0x0], [r0+0x1000], 160, 0, 0", "halt"]
    one, other = timed((LEFT, RIGHT), *lines)
    assert one.causes == {"issue": 3, "global memory write busy": 19, "drain": 18}
    assert other.causes == {"issue": 3, "global memory write busy": 10 + 19, "drain": 18}


@pytest.mark.parametrize(("streams", "waits"), [((TOP, BOTTOM), 64), ((LEFT, RIGHT), 0)])
def test_streams_of_common_columns_share_banks(streams: tuple[KernelStream, KernelStream], waits: int) -> None:
    """1,024 bytes to each cluster of a column of 8, 8 cycles each."""
    one, other = timed(streams, "ld [r0+0x0], r1, 1024, 1024, 8, 0, t0", "wait t0", "halt")
    assert one.cycles == other.cycles - waits
    assert other.causes.get("bank busy", 0) == waits


def test_part_of_the_columns_in_common_is_enough() -> None:
    corner = KernelStream(8, 4, 4, 8, 0)
    load = ("ld [r0+0x0], r1, 1024, 1024, 4, 0, t0", "wait t0", "halt")
    one, other = timed((KernelStream(0, 0, 8, 8, 0), corner), *load)
    assert other.causes["bank busy"] == 32 and "bank busy" not in one.causes


def test_busy_units_of_streams() -> None:
    """A load by a quarter of the grid: a bank of two is busy; a fill by a quarter of the clusters of both streams."""
    quarter, rest = KernelStream(0, 0, 8, 8, 0), KernelStream(0, 8, 16, 8, 3)
    program = words("ld [r0+0x0], r1, 1024, 1024, 8, 0, t0", "fill [r0+0x400], 1280", "halt", "halt")
    together = time_streams(program, SHIPPED, None, (quarter, rest), ((), ()), (1, 1))
    assert together.busy[Unit.BANK] == 64 / 2
    assert together.busy[Unit.ARRAY] == pytest.approx(10 * 64 / 192)


def test_loops_between_barriers_take_no_time() -> None:
    """200 million instructions of each stream, and a barrier after them."""
    lines = ("loop 20000, 3", "loop 10000, 3", "fill [r0+0x0], 128", "barrier", "halt")
    program = words(*lines)
    together = time_streams(program, SHIPPED, None, (LEFT, RIGHT), ((), ()), (1, 1), 10**10)
    assert [timing.counts.issues[2] for _, timing in together.streams] == [200_000_000] * 2


# Two streams on 2 x 1 clusters each. In each of three turns the right one gives back the double of a number.
PAIR = """
.machine {machine}
.kernel pair
.layout rows=4 cols=4 iterations=1 slice_rows=8 slice_cols=8 a_offset=0 a_stride=128 start_offset=256 u_offset=288 \
u_stride=32 v_offset=352 alpha_offset=384 bank_bytes=512 span_rows=0 span_cols=0 folded=0 in_flight=1
.stream row=0 col=0 rows=2 cols=1 entry=left
.stream row=0 col=1 rows=2 cols=1 entry=right
left:
    s.li s1, 1.0
    s.st [r0+0x0], s1
    fill [r0+0x4], 4
    put [r0+0x4], [r0+0x4], 1, 0, 0
    loop 3, left_done
    put [r0+0x0], [r0+0x0], 1, 0, 0
    barrier
    barrier
    get [r0+0x0], [r0+0x4], 1, 1, 1
left_done:
    addi r2, r1, 384
    st [r0+0x0], r2, 8, 0, 1, 0, t0
    halt
right:
    s.li s2, 2.0
    loop 3, right_done
    barrier
    get [r0+0x8], [r0+0x0], 1, 1, 1
    s.ld s1, [r0+0x8]
    s.mul s1, s1, s2
    s.st [r0+0x8], s1
    put [r0+0x8], [r0+0x4], 1, 0, 0
    barrier
right_done:
    halt
.launch kernel=pair layer=1 site=qkv prompts=1 rank=1
"""


def pair(folder: Path, *changes: tuple[str, str]) -> Program:
    """The program of the text with some changes."""
    text = PAIR.format(machine="dcom-16x16")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return assemble(text, "pair.s")


@ENGINES
def test_streams_exchange_values(engine: str, tmp_path: Path) -> None:
    program = pair(tmp_path)
    (result,) = run_together(program.kernels[0], program.machine, [np.zeros((4, 4))], engine)
    assert result.factors.alpha.tolist() == [8.0]
    timings = stepped(program.kernels[0].words, program.machine, program.kernels[0].streams)
    assert [timing for _, timing in result.timing.streams] == timings
    assert result.timing == time_kernel(program.kernels[0], program.machine)
    assert [timing.counts.cycles for timing in timings] == [timing.cycles for timing in timings]
    assert all("barrier" in timing.causes for timing in timings)


def test_streams_pass_through_file_and_text(tmp_path: Path) -> None:
    program = pair(tmp_path)
    again = parse_container(program_bytes(program), "pair.bin").program
    assert again.kernels == program.kernels
    assert ".stream row=0 col=1 rows=2 cols=1 entry=right\n" in disassemble(program)
    assert program_bytes(assemble(disassemble(program), "again.s")) == program_bytes(program)


FAULTS = [
    (
        [("    loop 3, right_done\n    barrier\n", "    loop 3, right_done\n")],
        "race: stream 1, instruction 14, get [r0+0x8], [r0+0x0], 1, 1, 1 (2 after label right, from pair.s:24), reads "
        "bytes 0 to 4 of the global memory, of which stream 0, instruction 5, put [r0+0x0], [r0+0x0], 1, 0, 0 (5 after "
        "label left, from pair.s:13), writes some with no barrier between; let all streams come to a barrier between",
    ),
    (
        [("    barrier\n    barrier\n", "    barrier\n"), ("loop 3, left", "loop 1, left"), ("loop 3, r", "loop 1, r")],
        "race: stream 1, instruction 18, put [r0+0x8], [r0+0x4], 1, 0, 0 (7 after label right, from pair.s:28), writes "
        "bytes 4 to 8 of the global memory, of which stream 0, instruction 7, get [r0+0x0], [r0+0x4], 1, 1, 1 (7 after "
        "label left, from pair.s:15), reads some",
    ),
    (
        [("loop 3, right_done", "loop 2, right_done")],
        "deadlock: stream 0, instruction 6, barrier (6 after label left, from pair.s:14), waits for all streams, but "
        "stream 1, instruction 21, halt (0 after label right_done, from pair.s:32), has ended without another barrier; "
        "let every stream come to as many barriers",
    ),
]


@ENGINES
@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=["read", "write", "deadlock"])
def test_races_and_deadlocks_are_named(
    changes: list[tuple[str, str]], message: str, engine: str, tmp_path: Path
) -> None:
    program = pair(tmp_path, *changes)
    with pytest.raises(MachineFault) as fault:
        run_together(program.kernels[0], program.machine, [np.zeros((4, 4))], engine)
    assert f"kernel pair: error: {message}" in str(fault.value)


def test_a_deadlock_is_found_without_data(tmp_path: Path) -> None:
    program = pair(tmp_path, ("loop 3, right_done", "loop 2, right_done"))
    with pytest.raises(MachineFault, match=r"kernel pair: error: deadlock: stream 0, .* waits for all streams, but"):
        time_kernel(program.kernels[0], program.machine)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("get [r0+0x0], [r0+0x10], 4, 1, 2", "a byte from 16 to 32 in the global memory is read, but was never"),
        ("norm2 [r0+0x40], [r0+0x100], 16, 0", "a byte from 256 to 320 in the buffer is read, but was never"),
    ],
)
def test_reads_of_nothing_say_in_which_stream(line: str, message: str, tmp_path: Path) -> None:
    program = pair(tmp_path, ("    s.li s2, 2.0", f"    {line}"))
    with pytest.raises(MachineFault) as fault:
        run_together(program.kernels[0], program.machine, [np.zeros((4, 4))])
    assert str(fault.value).startswith("kernel pair, stream 1: error: instruction 12, ")
    assert message in str(fault.value)


def test_streams_may_read_the_same_and_write_beside() -> None:
    """Each puts its own bytes, and gets what both have put after a barrier."""
    lines = [
        "fill [r0+0x0], 8", "put [r0+0x0], [r0+0x0], 2, 0, 0", "barrier", "get [r0+0x0], [r0+0x0], 4, 1, 1", "halt",
        "fill [r0+0x0], 8", "put [r0+0x0], [r0+0x8], 2, 0, 0", "barrier", "get [r0+0x0], [r0+0x0], 4, 1, 1", "halt",
    ]  # fmt: skip
    kernel = replace(
        compile_kernel(8, 8, 1), words=tuple(words(*lines)), labels={}, locations=("",) * len(lines),
        streams=(LEFT, from_(RIGHT, 5)),
    )  # fmt: skip
    assert len(run_together(kernel, SHIPPED, [np.ones((8, 8))])) == 1


@settings(max_examples=settings.default.max_examples // 2 if settings.default else 50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_streams(seed: int) -> None:
    """The same bits and ways through the program on both engines, and cycles that are those of stepping."""
    random = Random(seed)
    m = random_machine(random)
    bank_bytes = 2 * m.cluster.buffer_bytes
    program, streams = random_streams(random, m, bank_bytes)
    note("\n".join(map(str, (*streams, *(f"{index}: {word}" for index, word in enumerate(program))))))
    parts = [m.part(stream.rows, stream.cols) for stream in streams]
    banks = [random_banks(random, part.grid.cols, bank_bytes) for part in parts]
    reference = [ReferenceEngine(part, own.copy()) for part, own in zip(parts, banks, strict=True)]
    fast = [FastEngine(part, by_word(own)) for part, own in zip(parts, banks, strict=True)]
    exits = [run(engines, program, streams, parts) for engines in (reference, fast)]
    assert exits[0] == exits[1]
    for one, other in zip(reference, fast, strict=True):
        assert (other.buffers() == one.buffers).all()
        assert (by_bank(other.banks) == one.banks).all()
        assert (other.scalars.view(np.uint32).reshape(one.scalars.shape) == one.scalars.view(np.uint32)).all()
    assert (fast[0].global_memory.view(np.uint8) == reference[0].global_memory).all()
    ones = [1] * len(streams)
    together = time_streams(program, m, None, streams, exits[0], ones)
    timings = [timing for _, timing in together.streams] or [together]
    assert timings == stepped(program, m, streams, exits[0])
    assert all(timing.counts.cycles == timing.cycles for timing in timings)


def run(
    engines: Sequence[Any], program: Sequence[Word], streams: Sequence[KernelStream], parts: Sequence[Machine]
) -> Exits:
    """Carry out a program on engines with one global memory; whether each exit of each stream left."""
    exits: list[list[bool]] = [[] for _ in streams]
    shared = SharedMemory(parts)

    def decide(number: int) -> Decide:
        def leaves(issue: Issue) -> bool:
            exits[number].append(engines[number].leaves(issue))
            return exits[number][-1]

        return leaves

    for engine in engines:
        engine.global_memory = engines[0].global_memory
    issues = [sequence(program, 0, decide(n), entry=stream.entry) for n, stream in enumerate(streams)]
    for number, issue in in_turns(issues):
        shared.read(number, issue)
        engines[number].execute(issue)
    return tuple(map(tuple, exits))


def side_by_side(kernel: Kernel, *streams: KernelStream) -> Kernel:
    return replace(kernel, streams=streams)


def test_matrices_are_dealt_to_streams_in_turn() -> None:
    kernel = side_by_side(compile_kernel(24, 40, 5, mapping="8x8", in_flight=2, matrices=9), LEFT, RIGHT)
    shares = deal(kernel, SHIPPED, 9)
    assert [list(share.matrices) for share in shares] == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]
    assert [share.rounds for share in shares] == [2, 1], "two groups of two matrices in flight"
    assert [share.rounds for share in deal(kernel, SHIPPED, 1)] == [1, 1]
    assert together_in(kernel, SHIPPED) % 8 == 0


def test_exits_of_several_runs_follow_one_another() -> None:
    one, other = ((True,), (False, True)), ((False,), (True,))
    assert join_exits([(2, one), (1, other)]) == ((True, False), (False, True))
    assert join_exits([(1, one)]) == ((True,), (False, True))


def of_rank(rows: int, cols: int, rank: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, rank)) @ random.standard_normal((rank, cols))


def assert_same(one: PromptResult, other: PromptResult) -> None:
    for name, value in vars(one.factors).items():
        assert value.tobytes() == getattr(other.factors, name).tobytes(), name


@pytest.mark.parametrize(("streams", "part"), [("1x2", (16, 8)), ("2x2", (8, 8)), ("4x1", (4, 16))])
@pytest.mark.parametrize(("mapping", "in_flight"), [("grid", None), ("auto", None), ("4x4", 2)])
def test_compiled_streams(streams: str, part: tuple[int, int], mapping: str, in_flight: int | None) -> None:
    """Each matrix gives what it gives by itself on a machine that is such a rectangle, on both engines."""
    kernel = compile_kernel(24, 40, 5, mapping=mapping, in_flight=in_flight, matrices=7, streams=streams)
    assert len(kernel.streams) == 256 // (part[0] * part[1])
    matrices = [of_rank(24, 40, rank, rank).astype(np.float32) for rank in (24, 3, 24, 1, 24, 2, 24)]
    results = run_together(kernel, SHIPPED, matrices)
    for one, other in zip(results, run_together(kernel, SHIPPED, matrices, "fast"), strict=True):
        assert_same(one, other)
        assert one.timing == other.timing
    alone = replace(kernel, streams=())
    for result, matrix in zip(results, matrices, strict=True):
        assert_same(result, run_together(alone, SHIPPED.part(*part), [matrix])[0])


def test_each_stream_breaks_down_by_itself() -> None:
    """A stream whose matrices are of rank 1 ends before the other; in one launch, all wait for the slowest."""
    kernel = compile_kernel(24, 40, 12, mapping="grid", matrices=6, streams="1x2")
    matrices = [of_rank(24, 40, 1 if index % 2 else 24, index) for index in range(6)]
    timing = run_together(kernel, SHIPPED, matrices)[0].timing
    (_, slow), (_, quick) = timing.streams
    assert timing.cycles == slow.cycles > 2 * quick.cycles
    assert [one.counts.cycles for one in (slow, quick)] == [slow.cycles, quick.cycles]


@ENGINES
def test_a_launch_in_several_runs_takes_what_it_takes_in_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = compile_kernel(24, 40, 5, matrices=7, streams="1x2")
    program = Program(SHIPPED, (kernel,), (Launch(kernel.name, 3, "qkv", 7, 1, ""),), "")
    given = np.concatenate([of_rank(24, 40, rank, rank) for rank in (24, 3, 24, 1, 24, 2, 24)]).astype(np.float32)
    found: list[Timing] = []
    for size in (1, 1 << 30):
        monkeypatch.setattr(deal_module, "_BYTES_OF_A_RUN", size)
        (result,) = program.simulate(given, engine=engine, threads=1).launches
        assert [timing.cycles for timing in result.timings] == [result.cycles]
        found += result.timings
    assert found[0] == found[1]
    assert found[0].counts.cycles < time_kernel(kernel, SHIPPED, 7).counts.cycles, "the second stream breaks down"


def test_multiplications_of_streams() -> None:
    """Those of the matrices that are there are useful; a stream that has a round more than matrices makes padding."""
    kernel = compile_kernel(24, 40, 5, matrices=3, streams="1x2")
    uses = [launch_uses(kernel, SHIPPED, prompts, time_launch(kernel, SHIPPED, prompts)) for prompts in (1, 2, 3)]
    assert [use[Use.USEFUL] for use in uses] == [uses[0][Use.USEFUL] * count for count in (1, 2, 3)]
    assert sum(uses[0].values()) == sum(uses[1].values()), "the other stream has a round of padding"


def test_all_rounds_of_a_stream_have_one_start_vector() -> None:
    """Each further matrix adds itself to what the banks send, and nothing else."""
    kernel = compile_kernel(24, 40, 5, mapping="grid", matrices=6, streams="1x2")
    sent = [time_kernel(kernel, SHIPPED, matrices).counts.bank_bytes(Direction.READ) for matrices in (2, 4, 6)]
    padded = 2 * kernel.layout.slice_rows * kernel.layout.slice_cols * kernel.streams[0].clusters
    assert sent[2] - sent[1] == sent[1] - sent[0] == 2 * padded
