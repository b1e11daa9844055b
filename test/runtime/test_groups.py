"""Groups of clusters with a matrix each, and several in flight: factors of each, on both engines, and cycles."""

import numpy as np
import pytest
from machines import compile_kernel

from dcomc.diagnostics import DcomError
from runtime.accelerator import run_together, time_kernel, time_launch
from runtime.lanczos import bidiagonalise, relative_error
from runtime.machine import load_machine

MACHINE = load_machine("dcom-16x16")


def decaying(rows: int, cols: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    left = random.standard_normal((rows, rows)) / np.arange(1, rows + 1)
    return (left @ random.standard_normal((rows, cols))).astype(np.float32)


@pytest.mark.parametrize(
    ("mapping", "in_flight", "count"),
    [("column", 1, 3), ("cluster", 1, 5), ("4x2", 1, 4), ("8x8", 3, 14), ("16x4", 2, 3), ("column", 2, 1)],
)
def test_each_matrix_of_a_run_has_its_factors(mapping: str, in_flight: int, count: int) -> None:
    """Sizes that do not divide, a zero matrix, and one of rank 2 whose breakdown ends its own steps alone."""
    kernel = compile_kernel(28, 52, 4, mapping=mapping, in_flight=in_flight)
    matrices = [decaying(28, 52, seed) for seed in range(count)]
    if count > 2:
        matrices[1] = np.zeros_like(matrices[1])
        matrices[2] = np.outer(np.arange(1, 29), matrices[2][0]).astype(np.float32)
    results = run_together(kernel, MACHINE, matrices)
    for number, (a, result) in enumerate(zip(matrices, results, strict=True)):
        f = result.factors
        wanted = bidiagonalise(a.astype(np.float64), 4)
        least = relative_error(a, wanted.u, wanted.core, wanted.v)
        assert relative_error(a, f.u, f.core, f.v) <= 1.01 * least + 2e-3, number
        for basis in (f.u.T.astype(np.float64), f.v.astype(np.float64)):
            assert np.abs(basis @ basis.T - np.eye(len(basis))).max(initial=0.0) < 2e-3
    for one, other in zip(results, run_together(kernel, MACHINE, matrices, "fast"), strict=True):
        for name, value in vars(one.factors).items():
            assert value.tobytes() == getattr(other.factors, name).tobytes(), name
        assert one.timing == other.timing


@pytest.mark.parametrize("in_flight", [2, 3, 4])
@pytest.mark.parametrize("iterations", [1, 2, 3, 6])
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_matrices_of_all_rounds_have_their_own_factors(iterations: int, in_flight: int, rounds: int) -> None:
    """Wherever the slots are cut, the first and the last round among them: each alpha is that of float64."""
    kernel = compile_kernel(28, 52, iterations, mapping="8x8", in_flight=in_flight)
    matrices = [decaying(28, 52, seed) for seed in range(max(4 * in_flight * rounds, 1))]
    for number, (a, result) in enumerate(zip(matrices, run_together(kernel, MACHINE, matrices), strict=True)):
        wanted = bidiagonalise(a.astype(np.float64), iterations)
        assert np.abs(result.factors.alpha - wanted.alpha).max() < 0.02 * wanted.alpha.max(), number


def test_rounds_take_the_same_time_each() -> None:
    kernel = compile_kernel(16, 64, 3, mapping="8x8", in_flight=2)
    cycles = [time_kernel(kernel, MACHINE, 8 * rounds).cycles for rounds in range(2, 6)]
    assert len(set(np.diff(cycles))) == 1
    assert time_launch(kernel, MACHINE, 40)[0].cycles == cycles[-1]


def test_token_blocks_of_the_largest_workload() -> None:
    """64 prompts of 4096 x 4096, a basis for each 128 tokens: at most 1.5 times the arithmetic bound."""
    kernel = compile_kernel(128, 4096, 10, mapping="8x8", passes=1, matrices=2048)
    assert kernel.layout.in_flight == 3
    assert 16 * len(kernel.words) <= 64 << 10
    a_round = 4 * kernel.layout.in_flight
    further = time_kernel(kernel, MACHINE, 3 * a_round).cycles - time_kernel(kernel, MACHINE, 2 * a_round).cycles
    rounds, bound = 64 * 32 / a_round, 2 * 10 * 64 * 4096 * 4096 / (256 * 64)
    assert bound < rounds * further < 1.5 * bound


def test_the_largest_prompts_have_a_short_program() -> None:
    assert 16 * len(compile_kernel(4096, 4096, 10).words) <= 64 << 10


@pytest.mark.parametrize(
    ("mapping", "in_flight", "message"),
    [
        ("rows", None, "unknown mapping 'rows'; one of auto, grid, column, cluster, or rows and columns of a group"),
        ("3x4", None, "groups of 3 x 4 do not fill the 16 x 16 clusters"),
        ("1x1", 3, "of buffer for each of 3 matrices in flight"),
    ],
)
def test_mappings_that_cannot_be(mapping: str, in_flight: int | None, message: str) -> None:
    with pytest.raises(DcomError, match=message):
        compile_kernel(128, 128, 3, mapping=mapping, in_flight=in_flight)
