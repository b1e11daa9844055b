"""What each instruction did: the counts add up to the totals, and multiplications are for what they are said to be."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import compile_kernel, issues, machine, machine_file
from random_programs import ProgramWriter, random_banks, random_machine

from runtime.accelerator import launch_uses, time_kernel, time_launch
from runtime.banks import pack, to_half_scaled
from runtime.costs import transfer_extent
from runtime.counts import Counts, Direction, Use
from runtime.deal import rounds
from runtime.groups import Groups
from runtime.instructions import Unit
from runtime.machine import Machine, load_machine
from runtime.program import Kernel
from runtime.reference import ReferenceEngine
from runtime.sequencer import never_leave, sequence
from runtime.timing import Timing, TimingReader


def time(*lines: str, m: Machine) -> Timing:
    reader = TimingReader(m)
    for issue in issues(*lines, "halt"):
        reader.read(issue)
    return reader.result()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_of_random_programs_add_up(seed: int) -> None:
    """Cycles, busy cycles and instructions to the totals; bytes and products to what the engine would do."""
    random = Random(seed)
    m = random_machine(random)
    bank_bytes = 2 * m.cluster.buffer_bytes
    engine = ReferenceEngine(m, random_banks(random, m.grid.cols, bank_bytes))
    words = ProgramWriter(random, m, bank_bytes).write()
    clock = TimingReader(m)
    issued: Counter[int] = Counter()
    waited: Counter[int] = Counter()
    moved: Counter[tuple[Direction, int]] = Counter()
    products = 0
    for issue in sequence(words, 0, engine.leaves):
        engine.execute(issue)
        before = clock.result().cycles
        clock.read(issue)
        issued[issue.index] += 1
        waited[issue.index] += clock.result().cycles - before
        if issue.word.instruction.unit is Unit.BANK:
            rows, columns = transfer_extent(issue.values, m)
            way = Direction.READ if issue.mnemonic == "ld" else Direction.WRITTEN
            moved.update({(way, bank): rows * int(issue.values["bytes"]) for bank in range(columns)})
        products += issue.word.instruction.products(issue.values, m) * m.grid.rows * m.grid.cols
    timing = clock.result()
    counts = timing.counts
    assert counts.issues == issued and timing.instructions == issued.total()
    assert timing.cycles == counts.cycles == sum(timing.causes.values())
    assert {index: counts.part([index]).cycles for index in issued} == waited
    for way in Direction:
        assert [counts.bank_bytes(way, bank) for bank in range(m.grid.cols)] == [
            moved[way, bank] for bank in range(m.grid.cols)
        ]
    assert timing.bank_bytes == moved.total()
    assert timing.uses == {use: products if use is Use.OTHER else 0 for use in Use}
    halves = [counts.part(range(cut)).plus(counts.part(range(cut, len(words)))) for cut in (0, len(words) // 2)]
    assert halves == [counts, counts]
    assert counts.plus(counts, 2).plus(counts, -1).plus(counts, -2) == Counts()


def test_waiting_is_put_down_to_who_waited() -> None:
    """norm2 takes 25 cycles after its issue, so that s.ld, the second instruction, issues in cycle 26."""
    counts = time("norm2 [r0+0x0], [r0+0x100], 64, 0", "s.ld s1, [r0+0x0]", m=machine()).counts
    assert counts.waits == {
        (0, "issue"): 1,
        (1, "result of array"): 25,
        (1, "issue"): 1,
        (2, "drain"): 2,
        (2, "issue"): 1,
    }
    assert counts.busy == {(0, Unit.ARRAY): 9, (1, Unit.SCALAR): 1}


def test_bytes_by_bank_and_direction() -> None:
    m = machine()
    counts = time("ld [r0+0x0], r1, 128, 0, 0, 3, t0", "st [r0+0x0], r1, 4, 0, 2, 1, t0", m=m).counts
    assert [counts.bank_bytes(Direction.READ, bank) for bank in (0, 2, 3)] == [16 * 128, 16 * 128, 0]
    assert [counts.bank_bytes(Direction.WRITTEN, bank) for bank in (0, 1)] == [8, 0]
    assert [counts.bank_bytes(way) for way in Direction] == [3 * 16 * 128, 8]
    assert counts.units[Unit.BANK] == 16 * 3 + 2


def test_turns_of_a_loop_add_up() -> None:
    body = ["norm2 [r0+0x0], [r0+0x100], 64, 0", "s.ld s1, [r0+0x0]"]
    once, looped = time(*body, m=machine()).counts, time("loop 5, 3", *body, m=machine()).counts
    assert looped.busy == {(index + 1, unit): 5 * cycles for (index, unit), cycles in once.busy.items()}
    assert looped.issues == {0: 1, 1: 5, 2: 5, 3: 1}


def seen(kernel: Kernel, m: Machine) -> dict[Use, int]:
    """Multiplications as the data shows them: of random activations no number is zero, and no two are equal."""
    layout, random = kernel.layout, np.random.default_rng(0)
    matrices = Groups.of(layout, m.grid).count * layout.in_flight
    halves = [to_half_scaled(random.standard_normal((layout.rows, layout.cols)))[0] for _ in range(matrices)]
    engine = ReferenceEngine(m, pack(halves, layout, kernel.seed, m))
    uses = dict.fromkeys(Use, 0)
    for issue in sequence(kernel.words, 0, engine.leaves):
        row, v = issue.word.instruction, issue.values
        total = row.products(v, m) * m.grid.rows * m.grid.cols
        if issue.mnemonic in ("mv.row", "mv.col"):
            tiles = int(v["rows"]) * int(v["cols"]) * m.tile_bytes // 2
            made = once = np.count_nonzero(engine.half(v["a"], tiles))
        elif total:
            x, each = engine.single(v["x"], v["length"]), int(v.get("count", 1))
            made, once = each * np.count_nonzero(x), each * len(np.unique(x[x != 0]))
        else:
            made = once = 0
        for use, count in ((Use.USEFUL, once), (Use.REPLICATED, made - once), (Use.PADDING, total - made)):
            uses[use] += int(count)
        engine.execute(issue)
    return uses


SMALL = {"rows": 3, "cols": 5, "mac_rows": 4, "mac_cols": 2}


@pytest.mark.parametrize(
    ("rows", "cols", "mapping", "in_flight", "values"),
    [
        (40, 56, "grid", None, {}),
        (23, 37, "grid", None, SMALL),
        (100, 30, "grid", None, {**SMALL, "buffer_bytes": 2048}),
        (200, 64, "grid", None, {**SMALL, "buffer_bytes": 2048}),
        (23, 37, "column", None, SMALL),
        (7, 11, "cluster", None, SMALL),
        (24, 1000, "16x8", 2, {}),
        (24, 500, "8x8", 1, {}),
    ],
)
def test_uses_of_multiplications(
    tmp_path: Path, rows: int, cols: int, mapping: str, in_flight: int | None, values: dict[str, int]
) -> None:
    path = machine_file(tmp_path, **values)
    kernel = compile_kernel(rows, cols, 4, path, mapping=mapping, in_flight=in_flight)
    m = load_machine(path)
    uses = time_kernel(kernel, m).uses
    assert uses == seen(kernel, m)
    assert uses[Use.USEFUL] and uses[Use.PADDING] and not uses[Use.OTHER]


def test_what_is_overwritten_is_no_activation() -> None:
    """A kernel in which zeros take the place of the tiles: their products are of nothing known, nor are the results."""
    kernel = compile_kernel(40, 56, 1)
    words = [word for word in kernel.words if word.instruction.mnemonic != "ld"]
    clock = TimingReader(machine(), kernel.layout)
    for issue in sequence([word for word in words if word.instruction.mnemonic != "wait"], 0, never_leave):
        clock.read(issue)
    uses = clock.result().uses
    assert uses[Use.OTHER] == sum(uses.values()) > 0


@pytest.mark.parametrize(
    ("mapping", "in_flight", "prompts"), [("cluster", None, 6), ("column", None, 21), ("16x8", 2, 5)]
)
def test_groups_without_a_matrix_multiply_padding(mapping: str, in_flight: int | None, prompts: int) -> None:
    """Each matrix has as many useful products as the next; nothing vanishes."""
    m, kernel = machine(), compile_kernel(8, 64, 3, mapping=mapping, in_flight=in_flight)
    timings = time_launch(kernel, m, prompts)
    uses, whole = launch_uses(kernel, m, prompts, timings), [timing.uses for timing in timings]
    capacity = Groups.of(kernel.layout, m.grid).count * kernel.layout.in_flight * rounds(prompts, kernel.layout, m)
    assert prompts < capacity
    for use in (Use.USEFUL, Use.REPLICATED):
        assert uses[use] * capacity == sum(one[use] for one in whole) * prompts
    assert sum(uses.values()) == sum(sum(one.values()) for one in whole)
