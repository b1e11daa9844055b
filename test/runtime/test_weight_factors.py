"""Factors of weights against their definitions: best at their rank, exact at full rank, shared where they say so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.weight_factors import Factors, truncated, tucker2, whitened

Float64 = NDArray[np.float64]


def matrix(rows: int, cols: int, seed: int) -> Float64:
    """Of decaying singular values, as weights have."""
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, rows)) @ (0.8 ** np.arange(rows)[:, None] * random.normal(size=(rows, cols)))


def tail(matrix: Float64, rank: int) -> float:
    """The least error of any matrix of the rank (Eckart and Young)."""
    return float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[rank:]))


def orthonormal(factors: Factors) -> bool:
    p, q = factors.core.shape
    return np.allclose(factors.u.T @ factors.u, np.eye(p)) and np.allclose(factors.v @ factors.v.T, np.eye(q))


sizes = st.tuples(st.integers(1, 24), st.integers(1, 24), st.floats(0, 1), st.integers(0, 99))


@given(sizes)
def test_truncated_is_the_best_of_its_rank(size: tuple[int, int, float, int]) -> None:
    rows, cols, share, seed = size
    weight, rank = matrix(rows, cols, seed), 1 + round(share * (min(rows, cols) - 1))
    factors = truncated(weight, rank)
    assert factors.core.shape == (rank, rank)
    assert orthonormal(factors)
    scales = np.diag(factors.core)
    assert np.array_equal(factors.core, np.diag(scales)) and np.all(np.diff(scales) <= 0)
    error = float(np.linalg.norm(weight - factors.reconstruct()))
    assert error <= tail(weight, rank) + 1e-7 * float(np.linalg.norm(weight))


@given(sizes, st.integers(1, 40))
def test_whitened_is_the_best_for_the_products(size: tuple[int, int, float, int], tokens: int) -> None:
    """Also where there are fewer tokens than channels, and the second moments have no inverse."""
    rows, cols, share, seed = size
    weight, rank = matrix(rows, cols, seed), 1 + round(share * (min(rows, cols) - 1))
    x = np.random.default_rng(seed + 1).normal(size=(tokens, rows)) * np.linspace(0, 9, rows)
    factors = whitened(weight, rank, x.T @ x)
    assert orthonormal(factors)
    error = float(np.linalg.norm(x @ (weight - factors.reconstruct())))
    assert error <= tail(x @ weight, rank) + 1e-6 * float(np.linalg.norm(x @ weight))


def test_whitening_pays_where_channels_differ() -> None:
    weight = matrix(24, 20, 0)
    x = np.random.default_rng(1).normal(size=(200, 24)) @ matrix(24, 24, 2)
    plain, diagonal, full = (
        float(np.linalg.norm(x @ (weight - factors.reconstruct())))
        for factors in (truncated(weight, 4), whitened(weight, 4, np.sum(x * x, 0)), whitened(weight, 4, x.T @ x))
    )
    assert full < diagonal < plain


def test_whitening_by_equal_energies_is_truncation() -> None:
    weight = matrix(12, 9, 3)
    for moments in (np.full(12, 7.0), 7 * np.eye(12)):
        assert np.allclose(whitened(weight, 4, moments).reconstruct(), truncated(weight, 4).reconstruct())


@pytest.mark.parametrize(("rows", "cols"), [(20, 30), (30, 20)])
def test_tucker2_of_one_weight_is_its_truncation(rows: int, cols: int) -> None:
    weight = matrix(rows, cols, 5)
    (factors,) = tucker2([weight], 6)
    assert np.allclose(factors.reconstruct(), truncated(weight, 6).reconstruct())


def test_tucker2_shares_u_and_v() -> None:
    """Slices of one U and V are found again; of others, better than by the bases of the first slice alone."""
    random = np.random.default_rng(6)
    u, v = (np.linalg.qr(random.normal(size=(side, 5)))[0] for side in (30, 24))
    shared = [u @ random.normal(size=(5, 5)) @ v.T for _ in range(3)]
    found = tucker2(shared, 5)
    for weight, factors in zip(shared, found, strict=True):
        assert np.shares_memory(factors.u, found[0].u) and np.shares_memory(factors.v, found[0].v)
        assert orthonormal(factors)
        assert np.allclose(factors.reconstruct(), weight)
    others = [matrix(30, 24, seed) for seed in range(3)]
    error = sum(np.linalg.norm(w - f.reconstruct()) ** 2 for w, f in zip(others, tucker2(others, 5), strict=True))
    first = truncated(others[0], 5)
    naive = sum(np.linalg.norm(w - first.u @ first.u.T @ w @ first.v.T @ first.v) ** 2 for w in others)
    assert error < naive


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_full_rank_is_the_weight(dtype: type) -> None:
    weight = matrix(16, 24, 8).astype(dtype)
    moments = np.diag(np.arange(1.0, 17))
    for factors in (truncated(weight, 16), whitened(weight, 16, moments), tucker2([weight, weight], 16)[1]):
        assert factors.u.dtype == np.float64
        assert np.abs(factors.reconstruct() - weight).max() < 1e-6 * np.abs(weight).max()
