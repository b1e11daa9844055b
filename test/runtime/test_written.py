"""What is read before it is written is found and named, and nothing else."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import compile_kernel, issues, machine, words

from runtime.accelerator import run_together
from runtime.groups import Groups
from runtime.sequencer import MachineFault
from runtime.written import Written

MACHINE = machine()


def read(*lines: str) -> None:
    written = Written(MACHINE)
    for issue in issues(*lines, "halt"):
        written.read(issue)


UNWRITTEN = [
    (
        ["norm2 [r0+0x40], [r0+0x100], 16, 0"],
        "a byte from 256 to 320 in the buffer is read, but was never written; load",
    ),
    (["fill [r0+0x100], 60", "norm2 [r0+0x40], [r0+0x100], 16, 0"], "a byte from 256 to 320 in the buffer"),
    (["fill [r0+0x104], 60", "norm2 [r0+0x40], [r0+0x100], 16, 0"], "a byte from 256 to 320 in the buffer"),
    (["fill [r0+0x0], 4", "subtract [r0+0x40], [r0+0x80], [r0+0x0], 1, 8, 0"], "a byte from 64 to 96 in the buffer"),
    (["fill [r0+0x0], 256", "mv.row [r0+0x400], [r0+0x0], [r0+0x80], 1, 1, 1"], "a byte from 1024 to 1056"),
    (["bcast.row [r0+0x8], 2, 0"], "a byte from 8 to 16 in the buffer"),
    (
        ["fill [r0+0x0], 4", "gather.row [r0+0x40], [r0+0x0], 4, 400, 3", "norm2 [r0+0x20], [r0+0x40], 4, 0"],
        "a byte from 64 to 80 in the buffer",
    ),
    (["s.mul s3, s1, s2"], "s1 is read, but was never written; write it first"),
    (["s.li s1, 1.0", "s.mul s3, s1, s2"], "s2 is read"),
    (["exit.ngt s4, s4, 1"], "s4 is read"),
    (["wait t3"], "deadlock, nothing completes token t3; name the token in an earlier ld or st"),
    (["ld [r0+0x0], r1, 64, 0, 0, 0, t2", "wait t3"], "instruction 1: deadlock, nothing completes token t3"),
]


@pytest.mark.parametrize(("lines", "message"), UNWRITTEN)
def test_reads_of_nothing(lines: list[str], message: str) -> None:
    with pytest.raises(MachineFault) as fault:
        read(*lines)
    assert message in str(fault.value)
    assert fault.value.what.startswith(f"instruction {len(lines) - 1}")


@pytest.mark.parametrize(
    "lines",
    [
        ["fill [r0+0x100], 32", "fill [r0+0x120], 32", "norm2 [r0+0x40], [r0+0x100], 16, 0", "s.ld s1, [r0+0x40]"],
        ["fill [r0+0x0], 256", "mv.row [r0+0x400], [r0+0x0], [r0+0x80], 1, 1, 0", "norm2 [r0+0x500], [r0+0x400], 8, 0"],
        ["fill [r0+0x0], 16", "put [r0+0x0], [r0+0x10], 4, 0, 0", "get [r0+0x20], [r0+0x10], 4, 1, 1"],
        ["st [r0+0x0], r1, 64, 0, 0, 0, t2", "wait t2"],
        ["fill [r0+0x0], 4", "gather.row [r0+0x40], [r0+0x0], 4, 400, 3", "norm2 [r0+0x20], [r0+0x40], 3, 0"],
        ["fill [r0+0x0], 4", "gather.col [r0+0x40], [r0+0x0], 4, 20, 0", "norm2 [r0+0x20], [r0+0x40], 5, 0"],
        ["norm2 [r0+0x40], [r0+0x100], 0, 0"],
        ["dots [r0+0x40], [r0+0x100], [r0+0x200], 0, 0, 0"],
    ],
)
def test_reads_of_something(lines: list[str]) -> None:
    read(*lines)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_runs_of_bytes(seed: int) -> None:
    """Random writes and questions, against a set of bytes; what a copy reads is nothing to the first."""
    random, plain, written = Random(seed), set[int](), Written(MACHINE)
    for _ in range(40):
        start, size = 2 * random.randrange(64), 2 * random.randrange(16)
        written.read(next(issues(f"fill [r0+{start}], {size}", "halt")))
        plain |= set(range(start, start + size))
        start, count = 4 * random.randrange(32), random.randrange(16)
        (question,) = list(issues(f"norm2 [r0+0x1000], [r0+{start}], {count}, 0", "halt"))[:1]
        if set(range(start, start + 4 * count)) <= plain:
            written.copy().read(question)
        else:
            with pytest.raises(MachineFault):
                written.copy().read(question)


@pytest.mark.parametrize(
    ("mapping", "in_flight"), [("grid", None), ("column", None), ("cluster", None), ("16x8", 2), ("8x8", 1)]
)
@pytest.mark.parametrize("rank", [0, 2, 24])
def test_kernels_read_nothing_unwritten(mapping: str, in_flight: int | None, rank: int) -> None:
    """Nor do they after a breakdown, at whatever step."""
    kernel = compile_kernel(24, 40, 5, mapping=mapping, in_flight=in_flight)
    random = np.random.default_rng(0)
    a = random.standard_normal((24, rank)) @ random.standard_normal((rank, 40))
    matrices = [a] * min(3, Groups.of(kernel.layout, MACHINE.grid).count * kernel.layout.in_flight)
    assert len(run_together(kernel, MACHINE, matrices)) == len(matrices)


def test_a_run_says_which_kernel() -> None:
    kernel = compile_kernel(24, 40, 5)
    without = tuple(words("s.li s0, 0.0") if word.instruction.mnemonic == "ld" else [word] for word in kernel.words)
    odd = replace(kernel, name="odd", words=tuple(word for part in without for word in part))
    with pytest.raises(MachineFault, match=r"^kernel odd: error: instruction \d+.* deadlock"):
        run_together(odd, MACHINE, [np.ones((24, 40))])
