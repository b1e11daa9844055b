"""Lanczos bidiagonalisation in floating point: the definition that the machine's program and the IR lowering follow.

Golub-Kahan-Lanczos (the paper's Algorithm 1) with full reorthogonalisation by Gram-Schmidt, in the lower bidiagonal
form of Paige and Saunders (LSQR, PROPACK). From weights s of the rows it builds orthonormal
U = [u_0 … u_k] and V = [v_0 … v_{k-1}] with A V = U B, and B lower bidiagonal of k+1 rows:

    u_0     = s / ||s||
    v_j     = (A^T u_j - V V^T A^T u_j) / alpha_j
    u_{j+1} = (A v_j   - U U^T A v_j)   / beta_j

so that A ~ A V V^T = U B V^T, having read A 2k times. The form matters at full rank: an orthonormal basis of all S (or
of all H) dimensions has no room to drift, and so k = min(S, H) steps give A itself; of equal singular values, which
activations do not have, the steps find one direction each (PROPACK restarts there with a random vector).

v_0 is the weighted mean of A's rows: the mean token is what most of an activation's energy lies near, and unequal
weights keep a matrix whose rows sum to zero from breaking down at once. Equal weights, where there is no seed, start
from the mean itself: with few steps that is nearer to what most rows have in common.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

COARSE_TOLERANCE = 2.0**-10
"""A norm at or below this share of the largest alpha or beta so far ends the iteration on the accelerator.

It is the rounding of binary16, in which the vectors lie.
"""

_SMALL_GRAM = 512
_SUBSPACE_ITERATIONS = 50


@dataclass(frozen=True)
class Bidiagonal:
    """Factors of one matrix, A ~ u @ core @ v with k steps; k is smaller than asked for after a breakdown."""

    u: Array
    """[S, m], orthonormal columns; m = k + 1, or k where the last beta broke down."""
    alpha: Array
    """[k], the diagonal of the core."""
    beta: Array
    """[m - 1], its subdiagonal."""
    v: Array
    """[k, H], orthonormal rows."""

    @property
    def steps(self) -> int:
        """k."""
        return len(self.alpha)

    @property
    def core(self) -> Array:
        """[m, k] lower bidiagonal b, float64."""
        core = np.zeros((len(self.beta) + 1, self.steps))
        np.fill_diagonal(core, self.alpha)
        np.fill_diagonal(core[1:], self.beta)
        return core


@dataclass(frozen=True)
class Factored:
    """The factors of a batch of activations: prompt b is u[b] @ core[b] @ v[b]. Arrays of NumPy, or of a back end."""

    u: Any
    """[B, S, R]"""
    core: Any
    """[B, R, R]"""
    v: Any
    """[B, R, H]"""

    def reconstruct(self) -> Any:
        """[B*S, H], multiplied in the order of the paper's Eq. 4."""
        dense = self.u @ (self.core @ self.v)
        return dense.reshape(-1, self.v.shape[-1])


def breakdown_tolerance(rows: int, cols: int, reorthogonalisation: int) -> float:
    """The share of the largest alpha or beta so far at or below which a norm ends the iteration in float32.

    What rounding leaves of a vector that is in the span already is below max(S, H) roundings, the rule of PROPACK and
    of `numpy.linalg.matrix_rank`; so the steps go on until U B V^T is A to about float32's accuracy. That takes two
    passes of Gram-Schmidt: after one alone, bases are orthogonal to little more than the square root of the rounding.
    """
    if reorthogonalisation < 2:
        return COARSE_TOLERANCE
    return min(COARSE_TOLERANCE, max(rows, cols) * float(np.finfo(np.float32).eps))


def start_weights(rows: int, seed: int | None) -> NDArray[np.float16]:
    """The weights s of the rows in the start vector, [rows] in [0.5, 1.5): a Weyl sequence, exact in binary16.

    Without a seed they are all 1.
    """
    if seed is None:
        return np.ones(rows, np.float16)
    phase = (np.arange(1, rows + 1, dtype=np.int64) * 40503 + seed * 25173 % 65536) % 65536
    return (0.5 + (phase >> 6) / 1024).astype(np.float16)


def start_vector(rows: int, seed: int | None, dtype: np.dtype[Any]) -> Array:
    """u_0 [rows]: the start weights as a unit vector, in the arithmetic of an element type."""
    weights = start_weights(rows, seed).astype(dtype)
    return weights / np.linalg.norm(weights)


def bidiagonalise(
    a: Array,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
    tolerance: float | None = None,
) -> Bidiagonal:
    """Lanczos bidiagonalisation of `a` in the arithmetic of its own element type.

    Args:
        a: [S, H], float32 or float64.
        iterations: k, at least 1 and at most min(S, H).
        seed: of the start weights, which are equal without one.
        reorthogonalisation: passes of Gram-Schmidt for each new vector.
        modified: whether a pass takes one vector after another (modified Gram-Schmidt), not all at once (classical).
        tolerance: of the breakdown, relative to the largest alpha or beta so far; that of `breakdown_tolerance`
            unless given.

    Returns:
        At most k steps; none at all for a zero matrix.
    """
    rows, cols = a.shape
    if tolerance is None:
        tolerance = breakdown_tolerance(rows, cols, reorthogonalisation)
    u = np.zeros((rows, iterations + 1), a.dtype)
    v = np.zeros((iterations, cols), a.dtype)
    alpha, beta = np.zeros(iterations, a.dtype), np.zeros(iterations, a.dtype)
    u[:, 0] = start_vector(rows, seed, a.dtype)
    largest = a.dtype.type(0)
    for j in range(iterations):
        z = a.T @ u[:, j]
        for _ in range(reorthogonalisation):
            z = one_by_one(z, v[:j]) if modified else z - (v[:j] @ z) @ v[:j]
        norm = np.linalg.norm(z)
        largest = max(largest, norm)
        if norm <= tolerance * largest:
            return Bidiagonal(u[:, : j + 1], alpha[:j], beta[:j], v[:j])
        alpha[j], v[j] = norm, z / norm
        y = a @ v[j]
        for _ in range(reorthogonalisation):
            y = one_by_one(y, u[:, : j + 1].T) if modified else y - u[:, : j + 1] @ (y @ u[:, : j + 1])
        norm = np.linalg.norm(y)
        largest = max(largest, norm)
        if norm <= tolerance * largest:
            return Bidiagonal(u[:, : j + 1], alpha[: j + 1], beta[:j], v[: j + 1])
        beta[j], u[:, j + 1] = norm, y / norm
    return Bidiagonal(u, alpha, beta, v)


def one_by_one(x: Array, basis: Array) -> Array:
    """x [N] less its part along each row of `basis` [J, N], taken from what the rows before have left."""
    for v in basis:
        x = x - (v @ x) * v
    return x


def truncate(factors: Bidiagonal, rank: int) -> tuple[Array, Array, Array]:
    """The best rank-`rank` part of u core v by the SVD of the small core (the last lines of Algorithm 1).

    Where there are fewer steps than `rank`, the missing columns are zero.

    Returns:
        u [S, rank], core [rank, rank] diagonal, v [rank, H], float32.
    """
    u = np.zeros((factors.u.shape[0], rank), np.float32)
    core = np.zeros((rank, rank), np.float32)
    v = np.zeros((rank, factors.v.shape[1]), np.float32)
    kept = min(rank, factors.steps)
    left, values, right = np.linalg.svd(factors.core)
    u[:, :kept] = factors.u.astype(np.float32) @ left[:, :kept].astype(np.float32)
    np.fill_diagonal(core[:kept], values[:kept])
    v[:kept] = right[:kept].astype(np.float32) @ factors.v.astype(np.float32)
    return u, core, v


def decompose(
    x: Array,
    batch: int,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
) -> Factored:
    """Decompose each prompt of a batch, in float32.

    Args:
        x: [batch * S, H]; prompt b is rows b*S to (b+1)*S.
    """
    prompts = x.reshape(batch, -1, x.shape[-1]).astype(np.float32)
    options: Any = {"seed": seed, "reorthogonalisation": reorthogonalisation, "modified": modified}
    factors = [truncate(bidiagonalise(a, iterations, **options), rank) for a in prompts]
    return Factored(*(np.stack(parts) for parts in zip(*factors, strict=True)))


def keep_energy(factors: Factored, x: Array, energy: float) -> Factored:
    """The factors of the SVD, without the columns past those that hold a share of each block's energy.

    Args:
        factors: with orthonormal or zero columns of U and rows of V.
        x: what they approximate, [B*S, H].
        energy: in (0, 1]: the fewest singular values whose squares come to at least this share of the block's sum of
            squares are kept, all where they do not reach it.
    """
    left, values, right = np.linalg.svd(factors.core)
    squares = np.square(values)
    before = np.cumsum(squares, axis=1) - squares
    total = np.square(x.reshape(len(values), -1), dtype=np.float64).sum(axis=1)
    kept = before < energy * total[:, None]
    return Factored(
        factors.u @ left * kept[:, None],
        values[:, :, None] * kept[:, None] * np.eye(values.shape[1], dtype=factors.core.dtype),
        right @ factors.v * kept[:, :, None],
    )


def relative_error(a: Array, u: Array, core: Array, v: Array) -> float:
    """||a - u core v|| / ||a|| in the Frobenius norm, float64; 0 for a zero matrix."""
    exact = a.astype(np.float64)
    norm = float(np.linalg.norm(exact))
    difference = exact - u.astype(np.float64) @ (core.astype(np.float64) @ v.astype(np.float64))
    return float(np.linalg.norm(difference)) / norm if norm else 0.0


def optimal_error(a: Array, rank: int) -> float:
    """The least relative error of any rank-`rank` matrix (Eckart-Young): the energy of the cut singular values.

    The singular values come from the smaller Gram matrix in float64, whose rounding is far below binary16's; where that
    is large, by subspace iteration on it, to ten digits.
    """
    exact = a.astype(np.float64, copy=False)
    wide = exact if exact.shape[0] <= exact.shape[1] else exact.T
    total = float(np.square(exact).sum())
    if not total:
        return 0.0
    kept = _leading_energy(wide, rank, total) if wide.shape[0] > _SMALL_GRAM else None
    if kept is None:
        energies = np.linalg.eigvalsh(wide @ wide.T)[::-1].clip(min=0.0)
        return float(np.sqrt(energies[rank:].sum() / energies.sum()))
    return float(np.sqrt(max(total - kept, 0.0) / total))


def _leading_energy(wide: Array, rank: int, total: float) -> float | None:
    """The sum of the `rank` largest eigenvalues of wide @ wide.T; None where they do not settle soon."""
    block = 2 * rank + 10
    if block > wide.shape[0] // 4:
        return None
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((wide.shape[0], block)))[0]
    last = 0.0
    for _ in range(_SUBSPACE_ITERATIONS):
        projected = basis.T @ wide
        kept = float(np.linalg.eigvalsh(projected @ projected.T)[-rank:].sum())
        if kept - last <= 1e-10 * max(total - kept, 1e-6 * total):
            return kept
        last = kept
        basis = np.linalg.qr(wide @ projected.T)[0]
    return None
