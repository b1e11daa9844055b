"""The fast engine against the reference engine: the same bits of everything, the same way through the program."""

import sys
import tracemalloc
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from machines import compile_kernel, machine, words
from numba import njit
from random_programs import ProgramWriter, random_banks, random_machine

from dcomc.diagnostics import DcomError
from runtime import fast_banks, fast_compile
from runtime.accelerator import Accelerator, PromptResult, run_kernel, time_kernel
from runtime.encoding import Word
from runtime.engine import Meanings
from runtime.engines import Work, load, plan
from runtime.fast import FastEngine
from runtime.fast_banks import by_bank, by_word
from runtime.machine import Machine, load_machine
from runtime.program import Launch, Program
from runtime.reference import ReferenceEngine
from runtime.sequencer import MachineFault, sequence
from runtime.timing import TimingReader

EXAMPLES = 2 * settings.default.max_examples if settings.default else 200
"""200, or 2,000 under `--hypothesis-profile=nightly`."""


def outcome(engine: Any, words: list[Word], machine: Machine) -> tuple[list[tuple[int, str]], object, str]:
    """The instructions in the order of their execution, their timing, and the fault that ended them."""
    clock, taken, fault = TimingReader(machine), [], ""
    try:
        for issue in sequence(words, 0, engine.leaves):
            engine.execute(issue)
            clock.read(issue)
            taken.append((issue.index, str(issue.values)))
    except MachineFault as error:
        fault = error.what
    return taken, clock.result(), fault


def same_bits(one: np.ndarray, other: np.ndarray, what: str) -> None:
    differing = np.argwhere(one != other)
    assert not len(differing), f"{what} differ first at {differing[0].tolist()}"


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.0, 0.0, 0.02]))
def test_random_programs(seed: int, wrong: float) -> None:
    random = Random(seed)
    machine = random_machine(random)
    bank_bytes = 2 * machine.cluster.buffer_bytes
    banks = random_banks(random, machine.grid.cols, bank_bytes)
    words = ProgramWriter(random, machine, bank_bytes, wrong).write()
    note("\n".join(f"{index}: {word}" for index, word in enumerate(words)))
    reference, fast = ReferenceEngine(machine, banks.copy()), FastEngine(machine, by_word(banks))
    wanted, got = outcome(reference, words, machine), outcome(fast, words, machine)
    assert got == wanted
    assert wrong or not wanted[2]
    same_bits(fast.buffers(), reference.buffers, "buffers")
    scalars = fast.scalars.view(np.uint32).reshape(reference.scalars.shape)
    same_bits(scalars, reference.scalars.view(np.uint32), "scalars")
    same_bits(by_bank(fast.banks), reference.banks, "banks")
    same_bits(fast.global_memory.view(np.uint8), reference.global_memory, "the global memory")


def test_what_a_gather_leaves_is_what_was_loaded() -> None:
    """Where the last clusters of a line are fewer than the others, they keep the end of x."""
    m = machine(rows=1, cols=5)
    banks = random_banks(Random(0), 5, 64)
    program = words("ld [r0+0x100], r0, 16, 0, 0, 0, t0", "gather.row [r0+0x100], [r0+0x0], 8, 16, 2", "halt")
    engines = ReferenceEngine(m, banks.copy()), FastEngine(m, by_word(banks))
    for engine in engines:
        assert not outcome(engine, program, m)[2]
    assert (engines[0].buffers[0, 4, 0x108:0x110] == banks[4, 8:16]).all()
    same_bits(engines[1].buffers(), engines[0].buffers, "buffers")


MACHINE = load_machine("dcom-16x16")


def decaying(rows: int, cols: int, rank: int | None = None) -> np.ndarray:
    """Float32 with falling singular values; only so many of them where a rank is given."""
    random = np.random.default_rng(rows + cols)
    terms = rank or min(rows, cols)
    left = random.standard_normal((rows, terms)) / np.arange(1, terms + 1)
    return (left @ random.standard_normal((terms, cols))).astype(np.float32)


def assert_same(one: PromptResult, other: PromptResult) -> None:
    for name, value in vars(one.factors).items():
        assert value.dtype == getattr(other.factors, name).dtype
        assert value.tobytes() == getattr(other.factors, name).tobytes(), name
    assert one.timing == other.timing


@pytest.mark.parametrize(("rows", "cols"), [(100, 72), (60, 200), (13, 37), (300, 500)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64], ids=lambda kind: np.dtype(kind).name)
def test_kernels_on_both_engines(rows: int, cols: int, kind: type) -> None:
    kernel = compile_kernel(rows, cols, 9)
    a = (100 * decaying(rows, cols)).astype(kind)
    assert_same(run_kernel(kernel, MACHINE, a, "fast"), run_kernel(kernel, MACHINE, a))


@pytest.mark.parametrize("scale", [2.0**-149, 1e-42, 1e-38, 1e-30, 1.0, 1e30, 1e35])
def test_scaling_on_both_engines(scale: float) -> None:
    """Subnormal activations, too: the scale of a power of two reaches from 2^-113 to 2^163."""
    kernel = compile_kernel(48, 80, 5)
    a = (decaying(48, 80).astype(np.float64) * scale).astype(np.float32)
    assert_same(run_kernel(kernel, MACHINE, a, "fast"), run_kernel(kernel, MACHINE, a))


def test_order_of_the_activation_in_memory_does_not_matter() -> None:
    kernel, a = compile_kernel(48, 80, 5), decaying(48, 80)
    wide = np.repeat(a, 2, axis=1)[:, ::2]
    for other in (np.asfortranarray(a), wide):
        assert_same(run_kernel(kernel, MACHINE, other, "fast"), run_kernel(kernel, MACHINE, a))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_both_engines_refuse_what_is_not_finite(value: float) -> None:
    kernel, a = compile_kernel(20, 30, 5), decaying(20, 30)
    a[3, 4] = value
    messages: list[str] = []
    for engine in ("reference", "fast"):
        with pytest.raises(DcomError, match=r"not finite, .* at row 3, column 4") as error:
            run_kernel(kernel, MACHINE, a, engine)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 7, 9])
@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_cycles_are_those_of_stepping(rank: int, engine: str) -> None:
    """A breakdown, after any number of turns, is timed as the instructions that were executed; so is none."""
    kernel = compile_kernel(40, 56, 9)
    a = decaying(40, 56, rank) if rank else np.zeros((40, 56), np.float32)
    loaded, clock = load("reference", kernel, MACHINE, [a]), TimingReader(MACHINE, kernel.layout)
    for issue in sequence(kernel.words, 0, loaded.engine.leaves):
        loaded.engine.execute(issue)
        clock.read(issue)
    result = run_kernel(kernel, MACHINE, a, engine)
    assert rank <= result.factors.steps <= rank + (0 < rank < 9), "rounding to binary16 may pass for a step"
    assert result.timing == clock.result()
    assert run_kernel(kernel, MACHINE, a, engine).timing is result.timing, "counted once"


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_threads_change_nothing(engine: str) -> None:
    kernel = compile_kernel(24, 40, 8, rank=4)
    program = Program(MACHINE, (kernel,), (Launch(kernel.name, 3, "qkv", 7, 4, ""),), "")
    x = np.concatenate([decaying(24, 40, rank) for rank in (8, 3, 8, 2, 1, 8, 8)])
    outcomes = [Accelerator(program, engine, threads).decompose(program.launches[0], x) for threads in (1, 3, 16)]
    wanted, results = Accelerator(program).decompose(program.launches[0], x)
    assert [result.factors.steps for result in results] == [8, 4, 8, 2, 1, 8, 8], "the ranks, and a step of rounding"
    for factors, others in outcomes:
        assert all(value.tobytes() == getattr(wanted, name).tobytes() for name, value in vars(factors).items())
        for one, other in zip(results, others, strict=True):
            assert_same(one, other)


def test_a_mistake_in_one_thread_ends_the_others() -> None:
    kernel = compile_kernel(24, 40, 8, rank=4)
    program = Program(MACHINE, (kernel,), (Launch(kernel.name, 3, "qkv", 200, 4, ""),), "")
    asked: list[int] = []

    def prompt(index: int) -> np.ndarray:
        asked.append(index)
        return np.full((24, 40), np.nan if index == 1 else 1.0, np.float32)

    with pytest.raises(DcomError, match=r"layer3\.qkv: the activation has a value that is not finite"):
        list(Accelerator(program, "reference", 2).each_prompt(program.launches[0], prompt, lambda _, result: result))
    assert len(asked) < 20


def work(rows: int, cols: int, prompts: int = 1) -> Work:
    kernel = compile_kernel(rows, cols, 10)
    return Work(kernel, prompts * time_kernel(kernel, MACHINE).instructions, prompts)


def test_auto_takes_the_fast_engine_for_large_work() -> None:
    small, large = work(64, 64), work(2048, 2048, 64)
    assert plan("auto", [small], MACHINE).engine == "reference"
    assert plan("auto", [small, large], MACHINE).engine == "fast"
    assert plan("auto", [], MACHINE).engine == "reference"
    assert plan("reference", [large], MACHINE).engine == "reference"
    assert plan("fast", [small], MACHINE).engine == "fast"
    assert plan("fast", [large], MACHINE).seconds < plan("reference", [large], MACHINE).seconds


def test_threads_are_limited_by_prompts_and_by_memory() -> None:
    large = work(2048, 2048, 5)
    assert plan("fast", [large], MACHINE, threads=9).threads == 5
    four = plan("fast", [large], MACHINE, threads=4)
    less = plan("fast", [large], MACHINE, threads=4, memory_limit=four.bytes - 1)
    assert (four.threads, less.threads) == (4, 3)
    assert less.bytes < four.bytes and less.seconds > four.seconds
    one = plan("fast", [large], MACHINE, threads=1).bytes
    with pytest.raises(DcomError, match=r"one thread needs about \d+ MB of memory, but the limit is \d+ MB; give"):
        plan("fast", [large], MACHINE, memory_limit=one - 1)
    with pytest.raises(DcomError, match="or --engine fast, which needs less"):
        plan("reference", [large], MACHINE, memory_limit=one)


def test_memory_is_about_what_was_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one run; the interpreter and the libraries aside."""
    monkeypatch.setattr(fast_banks, "FREE", type(fast_banks.FREE)())
    kernel, a = compile_kernel(1024, 2048, 4), decaying(1024, 2048, 20)
    for engine in ("reference", "fast"):
        run_kernel(compile_kernel(24, 40, 1), MACHINE, decaying(24, 40, 2), engine)  # loads the libraries
        tracemalloc.start()
        run_kernel(kernel, MACHINE, a, engine)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        announced = Work(kernel, time_kernel(kernel, MACHINE).instructions, 1).bytes(engine, MACHINE)
        assert 0.3 * announced < peak < announced


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    large = work(2048, 2048, 64)
    chosen = plan("auto", [large], MACHINE)
    assert chosen.engine == "reference" and "the fast engine cannot be loaded" in str(chosen)
    with pytest.raises(DcomError, match="the fast engine cannot be loaded: "):
        plan("fast", [large], MACHINE)


def test_kernels_compile_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_folder(*, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'add': no locator available for file 'fast_kernels.py'")
        return njit(**options)

    monkeypatch.setattr(fast_compile, "njit", without_a_folder)
    assert fast_compile.compiled(lambda a, b: a + b)(2, 3) == 5


@pytest.mark.parametrize(("rows", "cols"), [(24, 40), (23, 37), (201, 130)])
def test_memory_of_a_run_serves_the_next_and_is_clean(rows: int, cols: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run after another, of the same size, finds nothing of it."""
    monkeypatch.setattr(fast_banks, "FREE", type(fast_banks.FREE)())
    kernel, a = compile_kernel(rows, cols, 8), decaying(rows, cols)
    first = load("fast", kernel, MACHINE, [a])
    for issue in sequence(kernel.words, 0, first.engine.leaves):
        first.engine.execute(issue)
    taken = first.engine.banks, first.engine.words
    first.release()
    again, fresh = (
        load("fast", kernel, MACHINE, [a[::-1].copy()]).engine,
        load("fast", kernel, MACHINE, [a[::-1].copy()]).engine,
    )
    assert (again.banks is taken[0], again.words is taken[1]) == (True, True)
    assert fresh.banks is not taken[0]
    same_bits(again.banks, fresh.banks, "banks")
    assert not again.buffers().any()


def test_an_engine_that_lacks_an_instruction_fails() -> None:
    with pytest.raises(ValueError, match=r"meanings do not match the table: .*'mv\.row'"):
        Meanings[ReferenceEngine]().check()
