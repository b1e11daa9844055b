"""Cycles, worked out by hand from the shipped machine's values.

16 x 16 clusters of 8 x 8 multipliers; the buffer reads 256 and takes 128 bytes a cycle; a bank streams 128 bytes a
cycle after 120; links carry 32 bytes a cycle, 1 cycle a hop; issue 1, multiply 2, add 2, convert 1, 1 / sqrt 16.
A product with one binary32 factor takes ceil(24 / 11) = 3 turns of the multipliers, one with two of them 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import compile_kernel, issues, machine, machine_file, words

from runtime.accelerator import run_kernel, time_kernel
from runtime.instructions import Access, Range, Unit
from runtime.machine import Machine, load_machine
from runtime.operands import Values
from runtime.sequencer import MachineFault
from runtime.timing import Timing, TimingReader

SHIPPED = machine()


def time(*lines: str, m: Machine = SHIPPED) -> Timing:
    reader = TimingReader(m)
    for issue in issues(*lines, "halt"):
        reader.read(issue)
    timing = reader.result()
    assert sum(timing.causes.values()) == timing.cycles
    assert all(cycles > 0 for cycles in timing.causes.values())
    return timing


ALONE = [
    # A tile a cycle: it reads 128 bytes of A, 16 of x and 32 of y, and writes 32. Column by column, 4 tiles each.
    # Latency: multiply 2, a tree of 3 levels 6, the accumulation 2.
    ("mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 4, 5, 0", Unit.ARRAY, 5 * 4, 10),
    # One tile row: its accumulator takes an addition each 2 cycles, so 5 columns take 10.
    ("mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 1, 5, 1", Unit.ARRAY, 10, 10),
    ("mv.col [r0+0x0], [r0+0x1000], [r0+0x100], 4, 5, 0", Unit.ARRAY, 4 * 5, 10),
    ("mv.col [r0+0x0], [r0+0x1000], [r0+0x100], 4, 1, 0", Unit.ARRAY, 8, 10),
    # 100 elements are 2 chunks of 64; each vector's chunk takes 3 turns. Latency: 2, a tree of 6 levels 12, 2.
    ("dots [r0+0x0], [r0+0x1000], [r0+0x100], 7, 100, 0", Unit.ARRAY, 2 * 7 * 3, 16),
    # 9 turns a chunk.
    ("norm2 [r0+0x0], [r0+0x100], 129, 0", Unit.ARRAY, 3 * 9, 16),
    # In one piece of 11 bits, a turn for each vector. One vector alone is 2 chunks of 384 bytes, in 2 cycles each.
    ("dots [r0+0x0], [r0+0x1000], [r0+0x100], 7, 100, 1", Unit.ARRAY, 2 * 7, 16),
    ("dots [r0+0x0], [r0+0x1000], [r0+0x100], 1, 100, 1", Unit.ARRAY, 2 * 2, 16),
    # A square in one piece is a turn, but an accumulator takes an addition each 2 cycles; in two pieces it is 4.
    ("norm2 [r0+0x0], [r0+0x100], 129, 1", Unit.ARRAY, 3 * 2, 16),
    ("norm2 [r0+0x0], [r0+0x100], 129, 2", Unit.ARRAY, 3 * 4, 16),
    # 2 turns, in which 384 bytes are read and 256 written.
    ("subtract [r0+0x100], [r0+0x1000], [r0+0x0], 7, 100, 2", Unit.ARRAY, 7 * 2 * 2, 4),
    ("scale [r0+0x0], [r0+0x100], s1, 65, 2", Unit.ARRAY, 2 * 4, 3),
    # 3 turns a chunk; latency: multiply 2, add 2.
    ("subtract [r0+0x100], [r0+0x1000], [r0+0x0], 7, 100, 0", Unit.ARRAY, 7 * 2 * 3, 4),
    # 9 turns a chunk; latency: multiply 2, convert 1.
    ("scale [r0+0x0], [r0+0x100], s1, 65, 0", Unit.ARRAY, 2 * 9, 3),
    # 128 bytes a cycle.
    ("fill [r0+0x0], 1000", Unit.ARRAY, 8, 1),
    # 16 clusters a bank, 1000 bytes in 8 cycles each; latency 120 and 15 hops to the last cluster.
    ("ld [r0+0x0], r1, 1000, 1024, 0, 0, t0", Unit.BANK, 16 * 8, 135),
    ("st [r0+0x0], r1, 1000, 1024, 3, 0, t0", Unit.BANK, 3 * 8, 122),
    # 20 binary32 in 3 beats of 32 bytes, for each of 4 levels. Latency: 1 + 2 + 4 + 8 hops and 4 additions.
    ("reduce.row [r0+0x0], 20, 0", Unit.ROW_LINKS, 4 * 3, 23),
    ("reduce.col [r0+0x0], 8, 0", Unit.COLUMN_LINKS, 4, 23),
    # 4 neighbours: 2 levels, over 1 and 2 links.
    ("reduce.row [r0+0x0], 20, 4", Unit.ROW_LINKS, 2 * 3, 7),
    ("bcast.row [r0+0x0], 20, 4", Unit.ROW_LINKS, 3, 3),
    # Pipelined from cluster to cluster: 15 hops.
    ("bcast.row [r0+0x0], 20, 0", Unit.ROW_LINKS, 3, 15),
    ("bcast.col [r0+0x0], 9, 0", Unit.COLUMN_LINKS, 2, 15),
    # 8 hops with an addition each to the other half and 7 hops back outwards.
    ("allreduce.row [r0+0x0], 20, 0", Unit.ROW_LINKS, 3, 8 * (1 + 2) + 7),
    ("allreduce.col [r0+0x0], 1, 0", Unit.COLUMN_LINKS, 1, 31),
    ("allreduce.col [r0+0x0], 9, 8", Unit.COLUMN_LINKS, 2, 4 * (1 + 2) + 3),
    # 8 squares of 8 x 4 clusters, 4 bytes of each in a cycle of its own; 8 cycles to the memory.
    ("put [r0+0x0], [r0+0x0], 1, 8, 4", Unit.GLOBAL_WRITE, 8, 8),
    # 80 bytes of each in 2 cycles.
    ("put [r0+0x0], [r0+0x0], 20, 8, 8", Unit.GLOBAL_WRITE, 4 * 2, 8),
    # 8 times 12 bytes, 64 a cycle; 8 cycles to the clusters.
    ("get [r0+0x0], [r0+0x0], 3, 8, 1", Unit.GLOBAL_READ, 2, 8),
    ("get [r0+0x0], [r0+0x0], 1, 0, 0", Unit.GLOBAL_READ, 16, 8),
    # As `subtract`: 2 turns for each of 7 factors and 2 chunks; latency: multiply 2, add 2.
    ("madd [r0+0x100], [r0+0x1000], [r0+0x0], 7, 100, 0, 2", Unit.ARRAY, 7 * 2 * 2, 4),
    # 2 chunks: 512 bytes read and 256 written in 2 cycles each; latency: add 2.
    ("sub [r0+0x0], [r0+0x1000], 100", Unit.ARRAY, 2 * 2, 2),
    # An accumulator takes an addition each 2 cycles; latency: a tree of 6 levels and the accumulation.
    ("sum [r0+0x0], [r0+0x1000], 129", Unit.ARRAY, 3 * 2, 14),
    # 1000 bytes read at 256 and written at 128 a cycle.
    ("part.row [r0+0x0], [r0+0x1000], 1000, 4000, 1, 0", Unit.ARRAY, 8, 1),
    ("part.col [r0+0x0], [r0+0x1000], 32, 512, 4, 8", Unit.ARRAY, 1, 1),
    # The last link of the line carries the pieces of 15 clusters, 2 beats each; 15 hops.
    ("gather.row [r0+0x0], [r0+0x1000], 40, 640, 0", Unit.ROW_LINKS, 15 * 2, 15),
    ("gather.col [r0+0x0], [r0+0x1000], 40, 160, 4", Unit.COLUMN_LINKS, 3 * 2, 3),
    ("s.div s1, s2, s3", Unit.SCALAR, 1, 16),
    ("s.li s1, 2.0", Unit.SCALAR, 1, 1),
    ("s.ld s1, [r0+0x0]", Unit.SCALAR, 1, 1),
    ("s.st [r0+0x0], s1", Unit.SCALAR, 1, 1),
    ("s.mul s1, s2, s3", Unit.SCALAR, 1, 2),
    ("s.max s1, s2, s3", Unit.SCALAR, 1, 2),
    ("s.rsqrt s1, s2", Unit.SCALAR, 1, 16),
    ("s.where s1, s2, s3, s4", Unit.SCALAR, 1, 2),
]


@pytest.mark.parametrize(("line", "unit", "busy", "latency"), ALONE, ids=[line.split()[0] for line, *_ in ALONE])
def test_one_instruction(line: str, unit: Unit, busy: int, latency: int) -> None:
    """It issues in cycle 0, is busy from cycle 1 on, and `halt` issues when its result is there."""
    timing = time(line)
    assert timing.cycles == 1 + busy + latency + 1
    assert timing.causes == {"drain": busy + latency, "issue": 2}
    assert timing.busy == {**dict.fromkeys(Unit, 0.0), unit: busy}
    assert timing.share(unit) == busy / timing.cycles


NOTHING = [
    "mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 0, 5, 0",
    "mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 5, 0, 1",
    "dots [r0+0x0], [r0+0x1000], [r0+0x100], 0, 100, 0",
    "subtract [r0+0x100], [r0+0x1000], [r0+0x0], 0, 100, 0",
    "reduce.row [r0+0x0], 0, 0",
    "reduce.col [r0+0x0], 20, 1",
    "bcast.row [r0+0x0], 20, 1",
    "allreduce.row [r0+0x0], 20, 1",
    "allreduce.col [r0+0x0], 0, 0",
    "fill [r0+0x0], 0",
    "put [r0+0x0], [r0+0x0], 0, 0, 0",
    "get [r0+0x0], [r0+0x0], 0, 0, 0",
    "gather.row [r0+0x0], [r0+0x100], 0, 4, 0",
]


@pytest.mark.parametrize("line", NOTHING)
def test_instruction_without_work_takes_its_issue_alone(line: str) -> None:
    assert time(line).causes == {"issue": 2}


def test_control_takes_a_cycle_an_instruction() -> None:
    # li, 5 turns of (loop once, addi), halt: 1 + 1 + 5 + 1
    assert time("li r2, 1", "loop 5, 3", "addi r2, r2, 1").causes == {"issue": 8}
    assert time().cycles == 1


SMALL = [
    # 3 x 5 clusters of 4 x 2 with slow ports: 8 bytes read and 4 written a cycle; 3 cycles a hop; an addition takes 5.
    # A tile of 16 bytes, x 4, y 16: 36 bytes read in 5 cycles; y written in 4. Latency 2 + 1 level 5 + 5.
    ("mv.row [r0+0x0], [r0+0x100], [r0+0x80], 2, 3, 0", 3 * 2 * 5, 12),
    # A tile of 16 bytes, x 8, y 8: 32 bytes read in 4 cycles. Latency 2 + 2 levels 10 + 5.
    ("mv.col [r0+0x0], [r0+0x100], [r0+0x80], 2, 3, 0", 2 * 3 * 4, 17),
    # 8 multipliers: 9 elements are 2 chunks. For a chunk, 32 bytes of x and 4 times 16 are read in 12 cycles, which
    # are 4 times 3 turns, too. Latency 2 + 3 levels 15 + 5.
    ("dots [r0+0x0], [r0+0x100], [r0+0x80], 4, 9, 0", 2 * 12, 22),
    ("dots [r0+0x0], [r0+0x100], [r0+0x80], 1, 9, 2", 2 * 6, 22),
    # Its 32 bytes are read in 4 cycles, its products take 9.
    ("norm2 [r0+0x0], [r0+0x80], 9, 0", 2 * 9, 22),
    # Writing 32 bytes takes 8 cycles.
    ("subtract [r0+0x80], [r0+0x100], [r0+0x0], 4, 9, 0", 4 * 2 * 8, 7),
    # 5 clusters in a row: 3 levels over 1, 2 and 4 links. 3 * (1 + 2 + 4) + 3 * 5.
    ("reduce.row [r0+0x0], 8, 0", 3 * 1, 36),
    # 3 in a column: 2 levels over 1 and 2 links. 3 * (1 + 2) + 2 * 5.
    ("reduce.col [r0+0x0], 9, 0", 2 * 2, 19),
    ("bcast.row [r0+0x0], 8, 0", 1, 12),
    # 5 in a row: 3 hops with an addition each, the first half being 3, and 2 hops back.
    ("allreduce.row [r0+0x0], 8, 0", 1, 3 * (3 + 5) + 2 * 3),
    ("allreduce.col [r0+0x0], 9, 2", 2, 3 + 5),
    ("ld [r0+0x0], r1, 129, 0, 0, 0, t0", 3 * 2, 120 + 2 * 3),
]


@pytest.mark.parametrize(("line", "busy", "latency"), SMALL, ids=[line.split()[0] for line, *_ in SMALL])
def test_one_instruction_on_another_machine(line: str, busy: int, latency: int) -> None:
    m = machine(
        rows=3,
        cols=5,
        mac_rows=4,
        mac_cols=2,
        buffer_read_bytes_per_cycle=8,
        buffer_write_bytes_per_cycle=4,
        hop_cycles=3,
        add=5,
    )
    assert time(line, m=m).causes == {"drain": busy + latency, "issue": 2}


def test_one_cluster_has_nothing_to_reduce() -> None:
    m = machine(rows=1, cols=1)
    assert time("reduce.row [r0+0x0], 8, 0", "reduce.col [r0+0x0], 8, 0", m=m).causes == {"issue": 3}


def test_accumulation_waits_for_the_adder() -> None:
    """One accumulator, an addition of 7 cycles: 3 column tiles take 21."""
    m = machine(add=7)
    # Latency: 2 + 3 * 7 + 7
    assert time("mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 1, 3, 0", m=m).cycles == 1 + 21 + 30 + 1


def test_bank_columns_share_by_mean() -> None:
    """A stream of 4 of 16 columns, 10 cycles for each of 2 clusters."""
    timing = time("st [r0+0x0], r1, 1280, 0, 2, 4, t0")
    assert timing.busy[Unit.BANK] == 20 * 4 / 16
    assert timing.bank_bytes == 1280 * 2 * 4
    assert time("ld [r0+0x0], r1, 128, 0, 0, 0, t0", "st [r0+0x0], r1, 4, 0, 1, 1, t0").bank_bytes == 128 * 256 + 4


NORM = "norm2 [r0+0x0], [r0+0x100], 64, 0"  # busy 9, latency 16: issued at 0, reads until 10, d is there at 26


def test_read_after_write() -> None:
    timing = time(NORM, "s.ld s1, [r0+0x0]")
    # s.ld issues at 26; s1 at 26 + 1 + 1 + 1 = 29; halt
    assert timing.causes == {"result of array": 25, "drain": 2, "issue": 3}


def test_reads_that_touch_no_written_byte_do_not_wait() -> None:
    assert time(NORM, "s.ld s1, [r0+0x4]").causes == {"drain": 24, "issue": 3}


def test_one_shared_byte_is_a_hazard() -> None:
    assert time(NORM, "s.ld s1, [r0+0x3]").causes["result of array"] == 25


def test_the_global_memory_is_not_the_buffer() -> None:
    """`get` waits for the data that it reads there, not for what a buffer has at these addresses."""
    # put: busy 1, done at 1 + 1 + 8 = 10; get issues at 10, is busy 1 and done at 20.
    put = "put [r0+0x40], [r0+0x0], 1, 0, 0"
    timing = time(put, "get [r0+0x80], [r0+0x0], 1, 1, 1")
    assert timing.causes == {"result of global memory write": 9, "drain": 9, "issue": 3}
    assert time(put, "get [r0+0x80], [r0+0x4], 1, 1, 1").causes == {"drain": 9, "issue": 3}
    assert time(put, "s.ld s1, [r0+0x0]").causes == {"drain": 8, "issue": 3}
    # The next put waits until the data has been read, in cycle 12: issued then, done at 12 + 1 + 1 + 8 = 22.
    assert time(put, "get [r0+0x80], [r0+0x0], 1, 1, 1", put).causes == {
        "result of global memory write": 9,
        "buffer read by global memory read": 1,
        "drain": 9,
        "issue": 4,
    }


def test_write_after_read() -> None:
    """The array reads its operands while it is busy."""
    timing = time(NORM, "s.st [r0+0x1fc], s1")
    # s.st issues at 10, when the reads are over; its result is there at 13, before d at 26.
    assert timing.causes == {"buffer read by array": 9, "drain": 15, "issue": 3}
    assert "buffer read by array" not in time(NORM, "s.st [r0+0x200], s1").causes


def test_write_after_write() -> None:
    timing = time(NORM, "s.st [r0+0x0], s1")
    # s.st issues at 26, done at 29
    assert timing.causes == {"result of array": 25, "drain": 2, "issue": 3}


def test_reads_side_by_side() -> None:
    """Two units may read the same bytes: the links' broadcast updates, so the scalar unit it is."""
    assert time(NORM, "s.ld s1, [r0+0x100]").causes == {"drain": 24, "issue": 3}


def test_busy_unit() -> None:
    timing = time(NORM, "norm2 [r0+0x4], [r0+0x100], 64, 0")
    # The second issues at 9, so that it is busy from 10 on; done at 9 + 1 + 9 + 16 = 35
    assert timing.causes == {"array busy": 8, "drain": 25, "issue": 3}


def test_units_work_side_by_side() -> None:
    lines = (NORM, "reduce.row [r0+0x400], 8, 0", "reduce.col [r0+0x500], 8, 0", "s.li s1, 1.0")
    # Issued at 0, 1, 2 and 3; the last to finish is the second reduction: 2 + 1 + 4 + 23 = 30
    assert time(*lines).causes == {"drain": 26, "issue": 5}


def test_scalar_results() -> None:
    # rsqrt issues at 0, s1 is there at 18; the product at 18 + 1 + 1 + 2 = 22
    assert time("s.rsqrt s1, s0", "s.mul s2, s1, s1").causes == {"result of scalar": 17, "drain": 3, "issue": 3}
    # Independent ones follow each other.
    assert time("s.rsqrt s1, s0", "s.rsqrt s2, s0").causes == {"drain": 17, "issue": 3}


def test_scalar_write_after_write() -> None:
    # Otherwise the slower rsqrt would overwrite the constant: s.li waits until 18, done at 21.
    assert time("s.rsqrt s1, s0", "s.li s1, 1.0").causes == {"result of scalar": 17, "drain": 2, "issue": 3}


def test_array_waits_for_a_scalar() -> None:
    # scale issues at 18: busy 9, latency 3
    timing = time("s.rsqrt s1, s0", "scale [r0+0x0], [r0+0x100], s1, 64, 0")
    assert timing.causes == {"result of scalar": 17, "drain": 12, "issue": 3}


def test_exit_waits_for_its_scalars() -> None:
    assert time("s.rsqrt s1, s0", "exit.ngt s1, s0, 2").causes == {"result of scalar": 17, "issue": 3}


STREAM = "ld [r0+0x1000], r1, 1280, 0, 1, 0, t5"  # busy 10, latency 120: done at 131


def test_wait_for_a_token() -> None:
    # wait issues at 131, li at 132, halt at 133
    assert time(STREAM, "wait t5", "li r2, 1").causes == {"bank stream": 130, "issue": 4}


def test_a_wait_that_is_over_takes_a_cycle() -> None:
    assert time(STREAM, "wait t5", "wait t5").causes == {"bank stream": 130, "issue": 4}


def test_wait_is_for_the_last_stream_of_its_token() -> None:
    # The second issues at 10, done at 10 + 1 + 10 + 120 = 141
    timing = time(STREAM, "ld [r0+0x2000], r1, 1280, 0, 1, 0, t5", "wait t5")
    assert timing.causes == {"bank busy": 9, "bank stream": 130, "issue": 4}
    assert timing.cycles == 143


def test_tokens_are_independent() -> None:
    lines = (STREAM, "ld [r0+0x2000], r1, 12800, 0, 1, 0, t6", "wait t5", "norm2 [r0+0x0], [r0+0x1000], 64, 0")
    # The second stream issues at 10 and is done at 231; t5 at 131; norm2 at 132, done at 158
    assert time(*lines).causes == {"bank busy": 9, "bank stream": 120, "drain": 98, "issue": 5}


def test_result_of_a_stream_without_a_wait() -> None:
    """The scoreboard holds for streams too."""
    assert time(STREAM, "norm2 [r0+0x0], [r0+0x14fc], 64, 0").causes["result of bank"] == 130


def test_buffer_that_a_stream_reads() -> None:
    # The bank port is busy until 11.
    assert time("st [r0+0x1000], r1, 1280, 0, 1, 0, t5", "fill [r0+0x1000], 4").causes["buffer read by bank"] == 10


def test_instruction_without_work_waits_for_nothing() -> None:
    assert time(NORM, "dots [r0+0x0], [r0+0x0], [r0+0x0], 0, 64, 0").causes == {"drain": 24, "issue": 3}


@pytest.mark.parametrize("lines", [["wait t0"], [STREAM, "wait t4"]])
def test_deadlock(lines: list[str]) -> None:
    with pytest.raises(MachineFault, match=r"instruction \d: deadlock, nothing completes token t[04]; name the token"):
        time(*lines)


def test_halt_waits_for_the_latest_and_not_the_last() -> None:
    assert time(STREAM, "s.li s1, 1.0").cycles == 132


ADDRESSES = st.integers(0, 12).map(lambda i: f"[r0+{32 * i}]")
SCALARS = st.integers(0, 3).map(lambda i: f"s{i}")
SIZES = st.integers(0, 40)
TILES = st.integers(0, 3)
PIECES = st.integers(0, 3)


def line(mnemonic: str, *operands: st.SearchStrategy[object] | str) -> st.SearchStrategy[str]:
    parts = [st.just(operand) if isinstance(operand, str) else operand for operand in operands]
    return st.tuples(*parts).map(lambda texts: f"{mnemonic} {', '.join(str(text) for text in texts)}")


LINES = st.one_of(
    line("mv.row", ADDRESSES, ADDRESSES, ADDRESSES, TILES, TILES, "0"),
    line("mv.col", ADDRESSES, ADDRESSES, ADDRESSES, TILES, TILES, "1"),
    line("dots", ADDRESSES, ADDRESSES, ADDRESSES, TILES, SIZES, PIECES),
    line("norm2", ADDRESSES, ADDRESSES, SIZES, PIECES),
    line("subtract", ADDRESSES, ADDRESSES, ADDRESSES, TILES, SIZES, PIECES),
    line("scale", ADDRESSES, ADDRESSES, SCALARS, SIZES, PIECES),
    line("fill", ADDRESSES, SIZES),
    line("reduce.row", ADDRESSES, SIZES, PIECES),
    line("bcast.col", ADDRESSES, SIZES, PIECES),
    line("allreduce.col", ADDRESSES, SIZES, PIECES),
    line("ld", ADDRESSES, "r1", SIZES, "0", "2", st.integers(0, 5), st.integers(0, 3).map("t{}".format)),
    line("st", ADDRESSES, "r1", SIZES, "0", "1", "0", "t7"),
    line("put", ADDRESSES, ADDRESSES, TILES, PIECES, PIECES),
    line("get", ADDRESSES, ADDRESSES, TILES, PIECES, PIECES),
    line("madd", ADDRESSES, ADDRESSES, ADDRESSES, TILES, SIZES, "1", PIECES),
    line("part.col", ADDRESSES, ADDRESSES, SIZES, SIZES, PIECES, PIECES),
    line("gather.row", ADDRESSES, ADDRESSES, SIZES, SIZES, PIECES),
    line("s.ld", SCALARS, ADDRESSES),
    line("s.st", ADDRESSES, SCALARS),
    line("s.mul", SCALARS, SCALARS, SCALARS),
    line("s.where", SCALARS, SCALARS, SCALARS, SCALARS),
    line("s.rsqrt", SCALARS, SCALARS),
    line("li", "r4", "5"),
)
MACHINES = [SHIPPED, machine(rows=3, cols=5, mac_rows=4, mac_cols=2), machine(rows=1, cols=1)]


@dataclass(frozen=True)
class Past:
    """An instruction that has issued."""

    unit: Unit
    reads: list[tuple[int, int]]
    writes: list[tuple[int, int]]
    scalars: set[int | float]
    scalars_read: set[int | float]
    free: int
    read: int
    done: int


def plain_cycles(lines: Sequence[str], m: Machine) -> int:
    """Cycles of a straight line, each instruction held against every one before it."""
    past: list[Past] = []
    clock = 0
    for issue in issues(*lines, "halt"):
        row, v = issue.word.instruction, issue.values
        busy = row.cost.busy(v, m)
        spans = [(r.access, *interval(r, v, m)) for r in row.ranges] if busy else []
        reads = [(start, end) for access, start, end in spans if access is not Access.WRITE]
        writes = [(start, end) for access, start, end in spans if access is not Access.READ]
        scalars = {v[name] for name in (*row.scalars_read, *row.scalars_written)}
        overwritten = {v[name] for name in row.scalars_written}
        waits = [clock]
        for other in past:
            if row.mnemonic == "halt" or meet(other.writes, reads + writes) or other.scalars & scalars:
                waits.append(other.done)
            if meet(other.reads, writes) or other.scalars_read & overwritten:
                waits.append(other.read)
            if busy and other.unit is row.unit:
                waits.append(other.free)
        start = max(waits)
        clock = start + m.latency_cycles.issue
        if busy:
            written = {v[name] for name in row.scalars_written}
            done = clock + busy + row.cost.latency(v, m)
            read = {v[name] for name in row.scalars_read}
            past.append(Past(row.unit, reads, writes, written, read, start + busy, clock + busy, done))
    return clock


def interval(used: Range, v: Values, m: Machine) -> tuple[int, int]:
    start = int(v[used.operand]) + 10**9 * used.shared
    return start, start + used.size(v, m)


def meet(some: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    return any(a < d and c < b for a, b in some for c, d in others)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINES, max_size=25), m=st.sampled_from(MACHINES))
def test_random_straight_lines(lines: list[str], m: Machine) -> None:
    """Causes add up, no unit is busier than the whole, and no use that still matters is forgotten."""
    timing = time(*lines, m=m)
    assert timing.cycles == plain_cycles(lines, m)
    assert timing.instructions == timing.causes["issue"] == len(lines) + 1
    assert all(0 <= cycles <= timing.cycles for cycles in timing.busy.values())


@pytest.mark.parametrize(("rows", "cols", "buffer_bytes"), [(40, 56, 65536), (1024, 256, 2048), (4, 200, 2048)])
def test_time_without_data_is_that_of_a_run_without_breakdown(
    tmp_path: Path, rows: int, cols: int, buffer_bytes: int
) -> None:
    path = machine_file(tmp_path, buffer_bytes=buffer_bytes)
    kernel = compile_kernel(rows, cols, 3, path)
    a = np.random.default_rng(0).standard_normal((rows, cols))
    result = run_kernel(kernel, load_machine(path), a)
    assert result.factors.steps == 3
    assert time_kernel(kernel, load_machine(path)) == result.timing
    assert sum(result.timing.causes.values()) == result.timing.cycles


def test_breakdown_shortens_the_run() -> None:
    kernel = compile_kernel(40, 56, 5)
    assert run_kernel(kernel, SHIPPED, np.zeros((40, 56))).timing.cycles < time_kernel(kernel, SHIPPED).cycles / 4


def test_a_scalar_is_not_overwritten_while_it_is_read() -> None:
    # scale issues in cycle 0 and keeps the array for 64 chunks of 9 turns, 576 cycles, with s3; s.mul waits for them.
    timing = time("scale [r0+0x0], [r0+0x4000], s3, 4096, 0", "s.mul s3, s1, s2")
    assert timing.causes["scalar read by array"] == 576


def test_a_stream_of_no_bytes_completes_its_token() -> None:
    assert time("ld [r0+0x0], r1, 0, 0, 0, 0, t1", "wait t1").cycles == 3


def test_deadlock_of_a_kernel_names_it() -> None:
    kernel = replace(compile_kernel(8, 8, 1), name="odd", words=tuple(words("wait t9", "halt")))
    with pytest.raises(MachineFault) as fault:
        time_kernel(kernel, SHIPPED)
    assert str(fault.value).startswith("kernel odd: error: instruction 0: deadlock, nothing completes token t9; ")
