"""The decomposition of `runtime.lanczos` in torch: all blocks of a batch at once, on the CPU or a GPU."""

from typing import Any, cast

import numpy as np
import torch

from runtime.lanczos import BREAKDOWN_TOLERANCE, Factored, start_vector

Tensor = torch.Tensor


def decompose(
    x: Tensor,
    batch: int,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
) -> Factored:
    """What `lanczos.decompose` does, but for the order of its sums, where `x` is, in float32 tensors.

    Args:
        x: [batch * S, H]; block b is rows b*S to (b+1)*S.
    """
    with torch.inference_mode():
        blocks = x.float().reshape(batch, -1, x.shape[-1])
        options: Any = {"seed": seed, "reorthogonalisation": reorthogonalisation, "modified": modified}
        return Factored(*factors(blocks, rank, iterations, **options))


def factors(
    blocks: Tensor,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """U [M, T, R], the diagonal core [M, R, R] and V [M, R, H], float32, of blocks [M, T, H] float32."""
    return _truncate(*_bidiagonalise(blocks, iterations, seed, reorthogonalisation, modified), rank)


def _bidiagonalise(
    a: Tensor, iterations: int, seed: int | None, reorthogonalisation: int, modified: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Of blocks [M, S, H]: u [M, S, k + 1], the lower bidiagonal core [M, k + 1, k] and v [M, k, H].

    What comes after a block's breakdown is zero.
    """
    count, rows, cols = a.shape
    u, v = a.new_zeros(count, rows, iterations + 1), a.new_zeros(count, iterations, cols)
    core = a.new_zeros(count, iterations + 1, iterations)
    largest = a.new_zeros(count)
    going = torch.ones(count, dtype=torch.bool, device=a.device)
    u[:, :, 0] = torch.from_numpy(start_vector(rows, seed, np.dtype(np.float32))).to(a.device)

    def step(residual: Tensor) -> tuple[Tensor, Tensor]:
        """Of residuals [M, N]: unit vectors and norms, zero from a breakdown on."""
        nonlocal largest, going
        norms = cast(Tensor, torch.linalg.vector_norm(residual, dim=1))
        largest = torch.maximum(largest, norms)
        going = going & (norms > BREAKDOWN_TOLERANCE * largest)
        return torch.where(going[:, None], residual / norms[:, None], 0), torch.where(going, norms, 0)

    for j in range(iterations):
        z = (u[:, None, :, j] @ a)[:, 0]
        for _ in range(reorthogonalisation):
            z = _one_by_one(z, v[:, :j]) if modified else z - ((v[:, :j] @ z[:, :, None]).mT @ v[:, :j])[:, 0]
        v[:, j], core[:, j, j] = step(z)
        y = (a @ v[:, j, :, None])[:, :, 0]
        for _ in range(reorthogonalisation):
            known = u[:, :, : j + 1]
            y = _one_by_one(y, known.mT) if modified else y - (known @ (y[:, None] @ known).mT)[:, :, 0]
        u[:, :, j + 1], core[:, j + 1, j] = step(y)
    return u, core, v


def _one_by_one(x: Tensor, basis: Tensor) -> Tensor:
    """x [M, N] less its parts along the rows of `basis` [M, J, N], as `lanczos.one_by_one`."""
    for row in basis.unbind(1):
        x = x - (row * x).sum(dim=1, keepdim=True) * row
    return x


def _truncate(u: Tensor, core: Tensor, v: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best rank-`rank` part of each block by the SVD of its core, zero past the block's steps."""
    left, values, right = cast(tuple[Tensor, Tensor, Tensor], torch.linalg.svd(core.double()))
    steps = core.diagonal(dim1=1, dim2=2).count_nonzero(dim=1)
    kept = torch.arange(rank, device=core.device) < steps[:, None]
    return (
        u @ (left[:, :, :rank] * kept[:, None]).float(),
        torch.diag_embed(values[:, :rank] * kept).float(),
        (right[:, :rank] * kept[:, :, None]).float() @ v,
    )
