"""Decompositions by simulated instructions: numbers against float64, the same bits on every schedule, breakdowns."""

from pathlib import Path

import numpy as np
import pytest
from machines import compile_kernel, machine_file

from dcomc.diagnostics import DcomError
from runtime.accelerator import Accelerator, PromptResult, run_kernel
from runtime.banks import start_of_rows, to_half_scaled
from runtime.encoding import Word
from runtime.lanczos import Bidiagonal, bidiagonalise, optimal_error, relative_error, start_weights, truncate
from runtime.machine import load_machine
from runtime.program import Kernel, Launch, Program
from runtime.sequencer import MachineFault

MACHINE = load_machine("dcom-16x16")
HALF = 2.0**-9
"""Two roundings to binary16, in which vectors of norm 1 are kept, are at most this."""


def decaying(rows: int, cols: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Float32 with exponentially falling singular values over a floor, as activations have."""
    random = np.random.default_rng(seed)
    terms = min(rows, cols)
    left = random.standard_normal((rows, terms)) * (np.exp(-np.arange(terms) / 8) + 0.01)
    return (scale * left @ random.standard_normal((terms, cols)) / np.sqrt(terms)).astype(np.float32)


def low_rank(rows: int, cols: int, rank: int) -> np.ndarray:
    """Exactly of this rank, with small integers, which binary16 holds."""
    random = np.random.default_rng(rank)
    return (random.integers(-4, 5, (rows, rank)) @ random.integers(-4, 5, (rank, cols))).astype(np.float32)


def assert_sound(a: np.ndarray, kernel: Kernel, result: PromptResult, rank: int) -> None:
    """The factors are as good as those of the same Lanczos in float64, and orthonormal within binary16."""
    f = result.factors
    steps, columns = f.steps, f.u.shape[1]
    exact = bidiagonalise(a.astype(np.float64), kernel.layout.iterations, seed=kernel.seed)
    assert steps == len(exact.alpha)
    error, wanted = relative_error(a, *truncate(f, rank)), relative_error(a, *truncate(exact, rank))
    assert error == pytest.approx(wanted, rel=0.01)
    assert error >= optimal_error(a, rank) * (1 - 1e-3)
    assert np.abs(f.u.astype(np.float64).T @ f.u - np.eye(columns)).max() < HALF
    assert np.abs(f.v.astype(np.float64) @ f.v.T - np.eye(steps)).max() < HALF
    assert f.alpha[:3] == pytest.approx(exact.alpha[:3], rel=1e-2)


SHAPES = [(100, 72), (60, 200), (200, 60), (13, 37), (37, 13), (128, 128), (17, 300), (513, 65)]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_factors_of_odd_shapes(rows: int, cols: int) -> None:
    k = min(rows, cols, 12)
    kernel = compile_kernel(rows, cols, k)
    a = decaying(rows, cols)
    result = run_kernel(kernel, MACHINE, a)
    assert (result.factors.u.shape, result.factors.v.shape) == ((rows, min(k + 1, rows)), (k, cols))
    assert (result.factors.u.dtype, result.factors.v.dtype) == (np.float16, np.float16)
    assert (result.factors.alpha.dtype, result.factors.beta.dtype) == (np.float32, np.float32)
    assert_sound(a, kernel, result, min(8, k - 1))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 1.0, 1e4, 1e6, 1e30])
def test_factors_of_every_size_of_activation(scale: float) -> None:
    """Scaling by a power of two keeps small values from vanishing and large ones, beyond 65504, from overflow."""
    kernel = compile_kernel(48, 80, 12)
    a = decaying(48, 80, scale)
    assert_sound(a, kernel, run_kernel(kernel, MACHINE, a), 8)


def test_power_of_two_changes_the_core_alone() -> None:
    kernel, a = compile_kernel(48, 80, 8), decaying(48, 80)
    one, other = (run_kernel(kernel, MACHINE, x).factors for x in (a, np.ldexp(a, 7)))
    assert (one.u == other.u).all() and (one.v == other.v).all()
    assert (np.ldexp(one.alpha, 7) == other.alpha).all() and (np.ldexp(one.beta, 7) == other.beta).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_element_types(kind: type) -> None:
    kernel, a = compile_kernel(24, 40, 6), decaying(24, 40).astype(np.float16)
    f = run_kernel(kernel, MACHINE, a.astype(kind)).factors
    assert (f.u == run_kernel(kernel, MACHINE, a).factors.u).all()


def test_integers_are_numbers_too() -> None:
    kernel, a = compile_kernel(24, 40, 3), low_rank(24, 40, 3)
    f = run_kernel(kernel, MACHINE, a.astype(np.int64)).factors
    assert (f.u == run_kernel(kernel, MACHINE, a).factors.u).all()


@pytest.mark.parametrize("seed", [1, 12345, 2**40])
def test_seed_of_the_start(seed: int) -> None:
    kernel, a = compile_kernel(48, 80, 12, seed=seed), decaying(48, 80)
    result = run_kernel(kernel, MACHINE, a)
    assert_sound(a, kernel, result, 8)
    start = start_weights(48, seed).astype(np.float64) @ a
    assert result.factors.v[0] == pytest.approx(start / np.linalg.norm(start), abs=1e-3)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_the_mean_as_start(engine: str) -> None:
    """Rows of padding, which fill the 48 up to whole tiles, hold none of it."""
    kernel, a = compile_kernel(44, 80, 12, seed=None), decaying(44, 80) + np.float32(0.2)
    assert kernel.name.endswith("_mean")
    result = run_kernel(kernel, MACHINE, a, engine)
    assert_sound(a, kernel, result, 8)
    mean = a.astype(np.float64).mean(0)
    assert result.factors.u[:, 0] == pytest.approx(44**-0.5, abs=1e-4)
    assert result.factors.v[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-3)
    start = start_of_rows(kernel.layout, None, MACHINE)
    assert np.count_nonzero(start) == 44 and not start[44:].any()


def test_zero_matrix_takes_no_step() -> None:
    result = run_kernel(compile_kernel(20, 30, 5), MACHINE, np.zeros((20, 30), np.float32))
    f = result.factors
    assert (f.u.shape, f.alpha.shape, f.beta.shape, f.v.shape) == ((20, 1), (0,), (0,), (0, 30))
    assert not any(part.any() for part in truncate(f, 3))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("rows", "cols"), [(48, 80), (80, 48)])
def test_rank_deficient_matrix_ends_early(rows: int, cols: int, rank: int) -> None:
    a = low_rank(rows, cols, rank)
    f = run_kernel(compile_kernel(rows, cols, 12), MACHINE, a).factors
    # Rounding to binary16 leaves a residue near the tolerance, which may pass for a step or two.
    assert rank <= f.steps <= rank + 2
    assert relative_error(a, *truncate(f, 10)) < 5e-3
    assert np.abs(f.u.astype(np.float64).T @ f.u - np.eye(f.u.shape[1])).max() < HALF


@pytest.mark.parametrize(("rows", "cols"), [(16, 64), (64, 16), (24, 24)])
def test_all_steps_give_the_matrix_back(rows: int, cols: int) -> None:
    """Where all singular values are alike, rounding would grow step by step in a basis that has room to drift."""
    k = min(rows, cols)
    a = np.random.default_rng(0).standard_normal((rows, cols))
    f = run_kernel(compile_kernel(rows, cols, k), MACHINE, a).factors
    assert (f.steps, f.u.shape[1]) == (k, min(k + 1, rows))
    assert relative_error(a, *truncate(f, k)) < 1e-3


@pytest.mark.parametrize(
    "a",
    [
        np.outer(np.ones(20), np.arange(1, 31)),
        np.outer(np.arange(1, 21), np.ones(30)),
        np.eye(20, 30)[[3] * 20],
        np.eye(20, 30)[:, [3] * 30],
        np.eye(20, 30) * (np.arange(20) == 7)[:, None],
    ],
    ids=["one row repeated", "one column repeated", "one channel", "one token", "one value"],
)
def test_rank_one(a: np.ndarray) -> None:
    f = run_kernel(compile_kernel(20, 30, 6), MACHINE, a).factors
    assert 1 <= len(f.alpha) <= 2
    assert relative_error(a, *truncate(f, 5)) < 1e-3


def test_rows_that_sum_to_zero_do_not_break_down() -> None:
    a = decaying(48, 80)
    a[24:] = -a[:24]
    kernel = compile_kernel(48, 80, 12)
    result = run_kernel(kernel, MACHINE, a)
    assert_sound(a, kernel, result, 8)


def test_single_row_and_single_column() -> None:
    for rows, cols in ((1, 50), (50, 1), (1, 1)):
        a = decaying(rows, cols)
        f = run_kernel(compile_kernel(rows, cols, 1), MACHINE, a).factors
        assert relative_error(a, *truncate(f, 1)) < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite(value: float) -> None:
    a = decaying(20, 30)
    a[7, 9] = value
    with pytest.raises(DcomError, match=rf"a value that is not finite, {value} at row 7, column 9"):
        run_kernel(compile_kernel(20, 30, 5), MACHINE, a)


@pytest.mark.parametrize("value", [1e60, 3e38])
def test_norm_beyond_binary32(value: float) -> None:
    """The factors' core is binary32."""
    with pytest.raises(DcomError, match="the activation's norm is beyond binary32"):
        run_kernel(compile_kernel(20, 30, 5), MACHINE, np.full((20, 30), value))


@pytest.mark.parametrize("value", [1e-60, 1e-46])
def test_norm_below_binary32(value: float) -> None:
    """No breakdown, which would leave the factors of a zero matrix."""
    with pytest.raises(DcomError, match="the activation's norm is too small for binary32; scale it up"):
        run_kernel(compile_kernel(20, 30, 5), MACHINE, decaying(20, 30).astype(np.float64) * value)


def test_wrong_shape() -> None:
    with pytest.raises(DcomError, match="kernel lanczos_20x30_k5_r2_s0 takes 20 x 30, not 30 x 20"):
        run_kernel(compile_kernel(20, 30, 5), MACHINE, decaying(30, 20))


@pytest.mark.parametrize(
    "a", [np.zeros((3, 4)), np.full((3, 4), 65504.0), np.array([[2.0**15, 1.0]]), np.array([[0.1]])]
)
def test_scaling_to_binary16(a: np.ndarray) -> None:
    half, exponent = to_half_scaled(a)
    largest = float(np.abs(half).max())
    assert largest == 0 or 2**14 <= largest <= 2**15
    assert np.ldexp(half.astype(np.float64), exponent) == pytest.approx(a, rel=2**-11)


def bits(f: Bidiagonal) -> list[bytes]:
    return [np.ascontiguousarray(part).tobytes() for part in (f.u, f.alpha, f.beta, f.v)]


def is_streamed(kernel: Kernel) -> bool:
    """Whether it loads more than the activation and the start weights."""
    return sum(word.instruction.mnemonic == "ld" for word in kernel.words) > 2


GRIDS = {
    "16x16 of 8x8": ({}, 3072, (1000, 200)),
    "4x4 of 4x4": ({"rows": 4, "cols": 4, "mac_rows": 4, "mac_cols": 4}, 1536, (125, 72)),
    "3x5 of 4x2": ({"rows": 3, "cols": 5, "mac_rows": 4, "mac_cols": 2}, 1536, (95, 71)),
    "1x1 of 8x8": ({"rows": 1, "cols": 1}, 8192, (100, 60)),
    "1x1 of 1x1": ({"rows": 1, "cols": 1, "mac_rows": 1, "mac_cols": 1}, 2048, (30, 20)),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_streamed_and_resident_kernels_give_the_same_bits(tmp_path: Path, grid: str) -> None:
    """Where every cluster holds the same rows: a slice that is padded to whole chunks moves rows between clusters."""
    values, small, (rows, cols) = GRIDS[grid]
    a = decaying(rows, cols)
    resident, streamed = (machine_file(tmp_path, buffer_bytes=size, **values) for size in (65536, small))
    kernels = [compile_kernel(rows, cols, 6, path) for path in (resident, streamed)]
    assert [is_streamed(kernel) for kernel in kernels] == [False, True]
    results = [
        run_kernel(kernel, load_machine(path), a) for kernel, path in zip(kernels, (resident, streamed), strict=True)
    ]
    assert_sound(a, kernels[1], results[1], 4)
    assert values.get("rows") == 1 or kernels[0].layout.slice_rows == kernels[1].layout.slice_rows
    assert bits(results[0].factors) == bits(results[1].factors)
    assert results[0].timing.bank_bytes < results[1].timing.bank_bytes


def test_slices_padded_to_whole_chunks_are_sound(tmp_path: Path) -> None:
    path = machine_file(tmp_path, buffer_bytes=3072)
    a = decaying(1100, 200)  # 69 rows a cluster: 9 tile rows, streamed in an even number of chunks
    kernel = compile_kernel(1100, 200, 6, path)
    assert is_streamed(kernel) and kernel.layout.slice_rows > 72
    assert_sound(a, kernel, run_kernel(kernel, load_machine(path), a), 4)


def test_every_number_of_chunks_gives_the_same_bits(tmp_path: Path) -> None:
    """Buffers of many sizes stream in many numbers of chunks: 24 tile rows by 2, 4, 6, 8 or 12 of them."""
    a = decaying(192, 24)
    values = {"rows": 1, "cols": 1}
    seen: dict[str, list[bytes]] = {}
    for buffer_bytes in range(4096, 16000, 512):
        path = machine_file(tmp_path, buffer_bytes=buffer_bytes, **values)
        try:
            kernel = compile_kernel(192, 24, 4, path)
        except DcomError as error:
            assert "needs" in error.what
            continue
        first_load = str(kernel.words[1])
        seen[first_load] = bits(run_kernel(kernel, load_machine(path), a).factors)
    assert len(seen) >= 4
    assert len({tuple(parts) for parts in seen.values()}) == 1


def test_kernel_too_large_for_the_buffer(tmp_path: Path) -> None:
    path = machine_file(tmp_path, buffer_bytes=1024)
    with pytest.raises(DcomError) as error:
        compile_kernel(512, 576, 15, path)
    # U: 16 x 32, V: 15 x 40 in binary16; y: 32, z: 40, dots, alpha, beta: 15 each, norm, largest in binary32.
    needed = 2 * (16 * 32 + 15 * 40) + 4 * (32 + 40 + 3 * 15 + 2)
    assert str(error.value) == (
        f"kernel.mlir:2: error: kernel @lanczos_512x576_k15_r2_s0 needs {needed} bytes of buffer for vectors and bases "
        f"and {2 * 5 * 128} for two tile rows of the activation, but dcom-16x16 has 1024 in a cluster; use fewer "
        "iterations, a shorter sequence, or a machine with larger buffers or more clusters"
    )


@pytest.mark.parametrize("buffer_bytes", [1 << 20, 1 << 22])
def test_buffers_larger_than_instructions_reach(tmp_path: Path, buffer_bytes: int) -> None:
    """A stream has at most 1 MiB, so that this block of 1.1 MiB streams whatever the buffer holds."""
    path = machine_file(tmp_path, rows=1, cols=1, buffer_bytes=buffer_bytes)
    a = decaying(800, 720)
    kernel = compile_kernel(800, 720, 2, path)
    assert is_streamed(kernel)
    assert_sound(a, kernel, run_kernel(kernel, load_machine(path), a), 1)


def test_vectors_beyond_the_reach_of_instructions(tmp_path: Path) -> None:
    path = machine_file(tmp_path, rows=1, cols=1, buffer_bytes=1 << 24)
    with pytest.raises(DcomError, match=r"bytes of buffer for vectors and bases .*, but instructions reach 524288"):
        compile_kernel(20000, 64, 15, path)
    # Padded to whole chunks a slice of 32760 rows would pass what a count holds.
    with pytest.raises(DcomError, match=r"instructions reach 524288"):
        compile_kernel(32760, 4096, 1, path)


def test_batch_of_prompts() -> None:
    kernel = compile_kernel(24, 40, 8)
    program = Program(MACHINE, (kernel,), (Launch(kernel.name, 3, "qkv", 3, 4, "?"),), "module {}\n")
    accelerator = Accelerator(program)
    prompts = [decaying(24, 40, scale, seed) for seed, scale in enumerate((1.0, 1000.0, 1e-5))]
    factors, results = accelerator.decompose(accelerator.launch(3, "qkv"), np.concatenate(prompts))
    assert (factors.u.shape, factors.core.shape, factors.v.shape) == ((3, 24, 4), (3, 4, 4), (3, 4, 40))
    for b, prompt in enumerate(prompts):
        alone = run_kernel(kernel, MACHINE, prompt)
        assert bits(results[b].factors) == bits(alone.factors)
        u, core, v = truncate(alone.factors, 4)
        assert (factors.u[b] == u).all() and (factors.core[b] == core).all() and (factors.v[b] == v).all()
        assert results[b].timing == alone.timing
    assert factors.reconstruct() == pytest.approx(
        np.concatenate([u @ c @ v for u, c, v in zip(factors.u, factors.core, factors.v, strict=True)]),
        rel=1e-4,
        abs=1e-3,
    )


def test_errors_of_a_launch_name_layer_and_site() -> None:
    kernel = compile_kernel(24, 40, 8)
    launch = Launch(kernel.name, 3, "qkv", 2, 4, "?")
    accelerator = Accelerator(Program(MACHINE, (kernel,), (launch,), "module {}\n"))
    with pytest.raises(DcomError, match=r"error: the program has no launch for layer3\.down"):
        accelerator.launch(3, "down")
    with pytest.raises(DcomError, match=r"error: layer3\.qkv takes activations of 48 x 40, not \(24, 40\)"):
        accelerator.decompose(launch, decaying(24, 40))
    x = decaying(48, 40)
    x[30, 2] = np.nan
    with pytest.raises(DcomError, match=r"error: layer3\.qkv: .* not finite, nan at row 6, column 2"):
        accelerator.decompose(launch, x)


def test_fault_of_a_kernel_names_it() -> None:
    kernel = compile_kernel(24, 40, 8)
    broken = Kernel(kernel.name, (Word.of("fill", x=65535 << 5, bytes=9),), {}, ("?",), kernel.layout, 0)
    with pytest.raises(MachineFault) as fault:
        run_kernel(broken, MACHINE, decaying(24, 40))
    assert str(fault.value).startswith(
        f"kernel {kernel.name}: error: instruction 0, fill [r0+0xffff], 9: bytes 65535 to"
    )


def test_a_breakdown_of_alpha_keeps_the_vector_that_was_found() -> None:
    """A v_1 has all its length along u_0, so alpha_1 is nothing while beta_0 is half of the matrix."""
    random = np.random.default_rng(0)
    u0, u1 = np.linalg.qr(np.stack([random.standard_normal(48), random.standard_normal(48)], axis=1))[0].T
    v0, v1 = np.linalg.qr(random.standard_normal((80, 2)))[0].T
    weights = start_weights(48, 0).astype(np.float64)
    u0 = u0 - weights * (u0 @ weights) / (weights @ weights) * (1 - 2e-4)  # all but orthogonal to the start
    u0 /= np.linalg.norm(u0)
    u1 = u1 - u0 * (u0 @ u1)
    a = np.outer(u0, v0 + v1) + 9e-4 * np.outer(u1, v1)
    for factors in (bidiagonalise(a, 6), run_kernel(compile_kernel(48, 80, 6), MACHINE, a).factors):
        assert relative_error(a, *truncate(factors, 6)) < 4e-3
