"""Low-rank factors of weights, W ~ U core V, as a model's weights are prepared: the paper's section 3.1.

All in float64, by eigenvectors of the smaller Gram matrix, which is several times faster than a singular value
decomposition of a wide weight, and accurate to 1e-8 of the largest singular value: below float32's rounding.

- `truncated`: Eq. 1, the singular value decomposition cut off at a rank (Eckart and Young).
- `whitened`: the cut that is best for the products, min ||X W - X W~||_F over all W~ of the rank, from the second
  moments X^T X of a calibration text. SVD-LLM (Wang et al., arXiv 2403.07378) writes it with the Cholesky factor of
  X^T X, whose inverse a channel without energy spoils; the same W~ is W Q Q^T, with Q the leading right singular
  vectors of X W, and needs no inverse. The diagonal alone gives ASVD's scaling of channels (Yuan et al.,
  arXiv 2312.05821).
- `tucker2`: weights of one shape as slices of a tensor [G, H, N] with U and V in common, a core [P, Q] for each slice
  (Tucker-2), by higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle, 2000). The paper's reference
  [16] decomposes weights by Tucker's form; of a single matrix it is the singular value decomposition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]

HOOI_STEPS = 50
"""Alternations of higher-order orthogonal iteration at most."""

HOOI_TOLERANCE = 1e-9
"""An increase of the share of energy that is kept, below which the iteration ends."""


@dataclass(frozen=True)
class Factors:
    """A weight as u @ core @ v, float64."""

    u: Float64
    """[H, P], orthonormal columns."""
    core: Float64
    """[P, Q]"""
    v: Float64
    """[Q, N], orthonormal rows."""

    def reconstruct(self) -> Float64:
        """[H, N]"""
        return self.u @ (self.core @ self.v)


def truncated(weight: Array, rank: int) -> Factors:
    """The best approximation of `weight` [H, N] of a rank from 1 to min(H, N); the core is diagonal, descending."""
    return _project(weight.astype(np.float64), weight.astype(np.float64), rank)


def whitened(weight: Array, rank: int, moments: Array) -> Factors:
    """The approximation of `weight` [H, N] whose products with calibrated activations are nearest.

    Args:
        weight: [H, N].
        rank: from 1 to min(H, N); the core is diagonal, descending.
        moments: the second moments X^T X [H, H] of the activations, up to a factor, or their diagonal [H].
    """
    exact = weight.astype(np.float64)
    wide = moments.astype(np.float64)
    if wide.ndim == 1:
        products: Float64 = np.sqrt(wide)[:, None] * exact
    else:
        # A square root of X^T X: its product with W has the Gram matrix, and so the right singular vectors, of X W.
        energies, directions = np.linalg.eigh(wide)
        products = (np.sqrt(np.maximum(energies, 0))[:, None] * directions.T) @ exact
    return _project(exact, products, rank)


def tucker2(weights: Sequence[Array], rank: int) -> list[Factors]:
    """Factors of weights of one shape [H, N], of the same U [H, P] and V [Q, N]: P = Q = rank, from 1 to min(H, N)."""
    stack = np.stack([weight.astype(np.float64) for weight in weights])
    energy = float(np.sum(np.square(stack)))
    u = _leading(_gram(stack), rank)
    v = _leading(_gram((u.T @ stack).swapaxes(1, 2)), rank)
    kept = 0.0
    for _ in range(HOOI_STEPS):
        u = _leading(_gram(stack @ v), rank)
        v = _leading(_gram((u.T @ stack).swapaxes(1, 2)), rank)
        before, kept = kept, float(np.sum(np.square(u.T @ stack @ v)))
        if kept - before <= HOOI_TOLERANCE * energy:
            break
    return [Factors(u, u.T @ matrix @ v, v.T) for matrix in stack]


def _gram(stack: Float64) -> Float64:
    """The sum of A A^T over the slices A [H, N] of a stack [G, H, N]."""
    return np.tensordot(stack, stack, ((0, 2), (0, 2)))


def _project(weight: Float64, products: Float64, rank: int) -> Factors:
    """`weight` on the `rank` leading right singular vectors Q of `products`: the factors of W Q Q^T."""
    rows, cols = products.shape
    if cols <= rows:
        q = _leading(products.T @ products, rank)
    else:
        q, _ = np.linalg.qr(products.T @ _leading(products @ products.T, rank))
    u, scales, turned = np.linalg.svd(weight @ q, full_matrices=False)
    return Factors(u, np.diag(scales), turned @ q.T)


def _leading(gram: Float64, rank: int) -> Float64:
    """The eigenvectors [n, rank] of the largest eigenvalues of a Gram matrix, the largest first."""
    return np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
