"""Lanczos bidiagonalisation in floating point: the definition itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import lanczos_torch
from runtime.lanczos import (
    Bidiagonal,
    bidiagonalise,
    decompose,
    one_by_one,
    optimal_error,
    relative_error,
    start_weights,
    truncate,
)


def decaying(rows: int, cols: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """A matrix whose singular values fall exponentially to a hundredth."""
    random = np.random.default_rng(seed)
    terms = min(rows, cols)
    left, _ = np.linalg.qr(random.standard_normal((rows, terms)))
    right, _ = np.linalg.qr(random.standard_normal((cols, terms)))
    return (left * (scale * (np.exp(-np.arange(terms) / 6) + 0.01))) @ right.T


SHAPES = [(40, 72), (72, 40), (33, 33), (1, 9), (9, 1), (100, 7)]


def off_identity(gram: np.ndarray) -> float:
    return float(np.abs(gram - np.eye(len(gram))).max())


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_bases_are_orthonormal_and_b_is_between_them(rows: int, cols: int) -> None:
    a = decaying(rows, cols)
    k = min(rows, cols, 12)
    f = bidiagonalise(a, k)
    m = min(k + 1, rows)
    assert (f.u.shape, f.alpha.shape, f.beta.shape, f.v.shape) == ((rows, m), (k,), (m - 1,), (k, cols))
    assert off_identity(f.u.T @ f.u) < 1e-13
    assert off_identity(f.v @ f.v.T) < 1e-13
    assert np.abs(f.u.T @ a @ f.v.T - f.core).max() < 1e-13
    assert (f.alpha > 0).all() and (f.beta > 0).all()


def test_relations_of_each_step() -> None:
    """A v_j = alpha_j u_j + beta_j u_{j+1}, and A^T u_j = beta_{j-1} v_{j-1} + alpha_j v_j but for the last u."""
    a = decaying(40, 72)
    f = bidiagonalise(a, 8)
    assert np.abs(a @ f.v.T - f.u @ f.core).max() < 1e-13
    residual = a.T @ f.u - f.v.T @ f.core.T
    assert np.abs(residual[:, :-1]).max() < 1e-13
    assert np.abs(residual[:, -1]).max() > 1e-4
    assert np.abs(f.v @ residual[:, -1]).max() < 1e-13


def test_start_is_the_weighted_sum_of_the_rows() -> None:
    a = decaying(20, 30)
    start = start_weights(20, 5).astype(np.float64) @ a
    assert np.allclose(bidiagonalise(a, 3, seed=5).v[0], start / np.linalg.norm(start), atol=1e-14)
    assert not np.allclose(bidiagonalise(a, 3, seed=6).v[0], bidiagonalise(a, 3, seed=5).v[0], atol=1e-3)


def test_without_a_seed_the_start_is_the_mean_of_the_rows() -> None:
    a = decaying(20, 30)
    f = bidiagonalise(a, 3, seed=None)
    mean = a.mean(0)
    assert np.allclose(f.u[:, 0], 20**-0.5, atol=1e-15)
    assert np.allclose(f.v[0], mean / np.linalg.norm(mean), atol=1e-14)
    assert off_identity(f.u.T @ f.u) < 1e-13


def test_the_mean_is_the_better_start_at_rank_one_where_rows_have_one() -> None:
    """Tokens that lie about one direction: one step from the mean is nearer to the optimum than from any seed."""
    random = np.random.default_rng(0)
    a = random.standard_normal((64, 48)) + 2 * random.standard_normal(48)

    def error(seed: int | None) -> float:
        return relative_error(a, *truncate(bidiagonalise(a, 1, seed=seed), 1)) - optimal_error(a, 1)

    assert 0 <= error(None) < min(error(seed) for seed in range(20)) / 4


def flat(rows: int, cols: int) -> np.ndarray:
    """A matrix whose singular values are much alike."""
    return np.random.default_rng(0).standard_normal((rows, cols))


def with_a_mean(rows: int, cols: int) -> np.ndarray:
    """The same about a large mean row, beside which the later coefficients of the bidiagonal are small."""
    return flat(rows, cols) + 30 * np.random.default_rng(1).standard_normal(cols)


def falling(rows: int, cols: int) -> np.ndarray:
    """A matrix whose singular values halve, below what binary16 tells apart."""
    return flat(rows, cols) * 0.5 ** np.arange(cols)


@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (8, 8)])
@pytest.mark.parametrize("matrix", [decaying, flat, with_a_mean, falling])
def test_all_steps_give_the_matrix_back(rows: int, cols: int, matrix: Callable[[int, int], np.ndarray]) -> None:
    """To a few roundings of float32 for each row or column, in both libraries: no basis drifts out of what it should
    span, and no small coefficient ends the steps."""
    a, least = matrix(rows, cols).astype(np.float32), min(rows, cols)
    most = 8 * max(rows, cols) * np.finfo(np.float32).eps
    assert relative_error(a, *truncate(bidiagonalise(a, least), least)) < most
    factors = lanczos_torch.decompose(torch.from_numpy(a), 1, least, least)
    assert relative_error(a, *(part[0].numpy() for part in (factors.u, factors.core, factors.v))) < most


@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (96, 1100)])
def test_a_matrix_of_rank_one_breaks_down_at_once(rows: int, cols: int) -> None:
    random = np.random.default_rng(0)
    a = np.outer(random.standard_normal(rows), random.standard_normal(cols)).astype(np.float32)
    f = bidiagonalise(a, min(rows, cols))
    assert f.steps == 1 and all(np.isfinite(part).all() for part in (f.u, f.core, f.v))
    assert relative_error(a, f.u, f.core, f.v) < 1e-6
    factors = lanczos_torch.decompose(torch.from_numpy(a), 1, 1, min(rows, cols))
    assert relative_error(a, *(part[0].numpy() for part in (factors.u, factors.core, factors.v))) < 1e-6


def test_one_pass_of_reorthogonalisation_ends_before_its_rounding() -> None:
    """What it leaves of a vector in the span lies in the span, and steps with it would count parts of A twice."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        left, right = (np.linalg.qr(random.standard_normal((32, 5)))[0] for _ in range(2))
        left[:, 0] = 32**-0.5
        a = left * [100.0, 0.9, 0.8, 0.7, 0.6] @ right.T
        f = bidiagonalise(a.astype(np.float32), 11, reorthogonalisation=1, seed=None)
        assert relative_error(a, f.u, f.core, f.v) < 0.02


def test_float32_follows_its_own_arithmetic() -> None:
    f = bidiagonalise(decaying(40, 72).astype(np.float32), 10)
    assert {f.u.dtype, f.alpha.dtype, f.beta.dtype, f.v.dtype} == {np.dtype(np.float32)}
    assert off_identity(f.u.T @ f.u) < 1e-6


def test_orthogonality_is_what_reorthogonalisation_buys() -> None:
    a = decaying(60, 60)
    loss = [
        off_identity(f.u.T @ f.u) for f in (bidiagonalise(a, 40, reorthogonalisation=n, tolerance=0) for n in (0, 1, 2))
    ]
    assert loss[0] > 1e-3 > 1e-6 > loss[1] > 1e-12 > loss[2]


def test_modified_gram_schmidt_takes_one_vector_after_another() -> None:
    """Each sees what those before have left; of orthonormal vectors the outcome is the same but for rounding."""
    random = np.random.default_rng(0)
    x, basis = random.standard_normal(9), random.standard_normal((3, 9))  # no orthonormal ones: the order tells
    left = x
    for v in basis:
        left = left - np.dot(v, left) * v
    np.testing.assert_allclose(one_by_one(x, basis), left, rtol=1e-15)
    assert not np.allclose(one_by_one(x, basis), x - (basis @ x) @ basis)
    a = decaying(60, 90)
    classical, modified = bidiagonalise(a, 20), bidiagonalise(a, 20, modified=True)
    np.testing.assert_allclose(modified.alpha, classical.alpha, rtol=1e-9)
    np.testing.assert_allclose(np.abs(modified.u), np.abs(classical.u), atol=1e-7)
    single = bidiagonalise(a.astype(np.float32), 20, reorthogonalisation=1, modified=True)
    assert off_identity(single.u.T @ single.u) < 1e-5


def test_truncation_is_the_best_part() -> None:
    a = decaying(40, 72)
    f = bidiagonalise(a, 14)
    u, core, v = truncate(f, 5)
    left, values, right = np.linalg.svd(f.u @ f.core @ f.v)
    assert (u.dtype, core.dtype, v.dtype) == (np.float32,) * 3
    assert np.allclose(np.diag(core), values[:5], rtol=1e-6)
    assert np.count_nonzero(core) == 5
    assert off_identity(u.T @ u) < 1e-6 and off_identity(v @ v.T) < 1e-6
    assert np.allclose(u @ core @ v, (left[:, :5] * values[:5]) @ right[:5], atol=1e-6)


def test_nothing_is_lost_where_nothing_is_truncated() -> None:
    f = bidiagonalise(decaying(40, 72), 6)
    u, core, v = truncate(f, 6)
    assert np.allclose(u @ core @ v, f.u @ f.core @ f.v, atol=1e-6)


def test_missing_columns_are_zero() -> None:
    f = bidiagonalise(decaying(40, 72), 4)
    u, core, v = truncate(f, 7)
    assert (u.shape, core.shape, v.shape) == ((40, 7), (7, 7), (7, 72))
    assert not u[:, 4:].any() and not core[4:].any() and not core[:, 4:].any() and not v[4:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_matrix_takes_no_step(dtype: type) -> None:
    f = bidiagonalise(np.zeros((8, 12), dtype), 5)
    assert (f.u.shape, f.alpha.shape, f.beta.shape, f.v.shape) == ((8, 1), (0,), (0,), (0, 12))
    u, core, v = truncate(f, 3)
    assert not u.any() and not core.any() and not v.any()
    assert relative_error(np.zeros((8, 12)), u, core, v) == 0.0 == optimal_error(np.zeros((8, 12)), 3)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_rank_deficient_matrix_ends_early(rank: int) -> None:
    random = np.random.default_rng(rank)
    a = random.standard_normal((30, rank)) @ random.standard_normal((rank, 50))
    f = bidiagonalise(a, 9)
    assert len(f.alpha) == rank
    assert relative_error(a, *truncate(f, 9)) < 1e-6


def test_rows_that_sum_to_zero_do_not_break_down() -> None:
    a = decaying(30, 50)
    a -= a.mean(axis=0)
    assert len(bidiagonalise(a, 6).alpha) == 6


def test_core_of_few_steps() -> None:
    ones, none = np.ones((3, 2)), np.array([])
    assert Bidiagonal(ones, np.array([3.0]), np.array([4.0]), ones[:1]).core.tolist() == [[3.0], [4.0]]
    assert Bidiagonal(ones[:, :1], np.array([3.0]), none, ones[:1]).core.tolist() == [[3.0]]
    assert Bidiagonal(ones[:, :1], none, none, ones[:0]).core.shape == (1, 0)


@settings(deadline=None)
@given(rows=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1))
def test_start_weights_are_exact_in_binary16_and_unequal(rows: int, seed: int) -> None:
    weights = start_weights(rows, seed)
    assert weights.dtype == np.float16 and weights.shape == (rows,)
    phase = [(((i + 1) * 40503 + seed * 25173) % 65536) >> 6 for i in range(rows)]
    assert weights.astype(np.float64).tolist() == [0.5 + p / 1024 for p in phase]
    assert weights.min() >= 0.5 and weights.max() < 1.5
    assert rows < 20 or weights.std() > 0.2


def test_decompose_works_on_each_prompt_alone() -> None:
    x = np.concatenate([decaying(24, 40, seed) for seed in range(3)])
    f = decompose(x, 3, 4, 8)
    assert (f.u.shape, f.core.shape, f.v.shape) == ((3, 24, 4), (3, 4, 4), (3, 4, 40))
    for b, prompt in enumerate(np.split(x, 3)):
        alone = decompose(prompt, 1, 4, 8)
        assert (f.u[b] == alone.u[0]).all() and (f.core[b] == alone.core[0]).all() and (f.v[b] == alone.v[0]).all()
        assert relative_error(prompt, f.u[b], f.core[b], f.v[b]) < 1.05 * optimal_error(prompt, 4)
    assert f.reconstruct().shape == (72, 40)


@pytest.mark.parametrize(("rows", "cols"), [(20, 50), (50, 20)])
def test_optimal_error_is_that_of_the_truncated_svd(rows: int, cols: int) -> None:
    a = np.random.default_rng(0).standard_normal((rows, cols))
    left, values, right = np.linalg.svd(a, full_matrices=False)
    for rank in (1, 7, 19):
        error = relative_error(a, left[:, :rank], np.diag(values[:rank]), right[:rank])
        assert optimal_error(a, rank) == pytest.approx(error, rel=1e-9)
    assert optimal_error(a, 20) == pytest.approx(0, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 40), cols=st.integers(2, 40), seed=st.integers(0, 1000))
def test_no_factors_beat_the_optimum(rows: int, cols: int, seed: int) -> None:
    a = decaying(rows, cols, seed)
    k = min(rows, cols)
    rank = max(1, k // 3)
    error = relative_error(a, *truncate(bidiagonalise(a, min(k, rank + 5), seed=seed), rank))
    assert optimal_error(a, rank) * (1 - 1e-6) <= error <= 1.0


def spectrum(rows: int, cols: int, values: np.ndarray) -> np.ndarray:
    """A matrix of these singular values."""
    random = np.random.default_rng(0)
    left, _ = np.linalg.qr(random.standard_normal((rows, len(values))))
    right, _ = np.linalg.qr(random.standard_normal((cols, len(values))))
    return (left * values) @ right.T


@pytest.mark.parametrize("fall", [3.0, 1.0, 0.2, 0.0])
@pytest.mark.parametrize(("rows", "cols"), [(600, 700), (700, 600)])
def test_optimal_error_of_large_matrices(rows: int, cols: int, fall: float) -> None:
    """Found by iteration where that settles, as for the steep spectra, else in whole."""
    values = np.arange(1, 601) ** -fall
    wanted = np.linalg.norm(values[5:]) / np.linalg.norm(values)
    assert optimal_error(spectrum(rows, cols, values), 5) == pytest.approx(wanted, rel=1e-8)


def test_optimal_error_of_a_large_matrix_of_that_rank() -> None:
    assert optimal_error(spectrum(600, 700, np.arange(1.0, 6.0)), 5) < 1e-6
