"""The decomposition of `runtime.lanczos` in torch: all blocks of a batch at once, on the CPU or a GPU."""

from typing import cast

import torch

from runtime.lanczos import BREAKDOWN_TOLERANCE, Array, Factored, start_weights

Tensor = torch.Tensor


def decompose(
    x: Array,
    batch: int,
    rank: int,
    iterations: int,
    *,
    seed: int = 0,
    reorthogonalisation: int = 2,
    device: torch.device | str = "cpu",
) -> Factored:
    """What `lanczos.decompose` does, but for the order of its sums.

    Args:
        x: [batch * S, H]; block b is rows b*S to (b+1)*S.
        device: where to compute.
    """
    with torch.inference_mode():
        blocks = torch.from_numpy(x).to(device).float().reshape(batch, -1, x.shape[-1])
        u, alpha, beta, v, steps = _bidiagonalise(blocks, iterations, seed, reorthogonalisation)
        return Factored(*(part.cpu().numpy() for part in _truncate(u, alpha, beta, v, steps, rank)))


def _bidiagonalise(
    a: Tensor, iterations: int, seed: int, reorthogonalisation: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of blocks [M, S, H]: u [M, S, k], alpha and beta [M, k], v [M, k, H] and the number of steps [M].

    beta[:, j] leads to v[:, j], and beta[:, 0] is the norm of the start. What comes after a block's breakdown is zero.
    """
    count, rows, cols = a.shape
    u, v = a.new_zeros(count, rows, iterations), a.new_zeros(count, iterations, cols)
    alpha, beta = a.new_zeros(count, iterations), a.new_zeros(count, iterations)
    largest, steps = a.new_zeros(count), torch.zeros(count, dtype=torch.int64, device=a.device)
    going = torch.ones(count, dtype=torch.bool, device=a.device)
    start = torch.from_numpy(start_weights(rows, seed)).to(a.device, a.dtype).expand(count, rows)
    for j in range(iterations):
        z = ((u[:, :, j - 1] if j else start)[:, None] @ a)[:, 0]
        for _ in range(reorthogonalisation):
            z = z - ((v[:, :j] @ z[:, :, None]).mT @ v[:, :j])[:, 0]
        length = _norms(z)
        begun = going & (length > BREAKDOWN_TOLERANCE * largest)
        direction = torch.where(begun[:, None], z / length[:, None], 0)
        y = (a @ direction[:, :, None])[:, :, 0]
        for _ in range(reorthogonalisation):
            y = y - (u[:, :, :j] @ (y[:, None] @ u[:, :, :j]).mT)[:, :, 0]
        height = _norms(y)
        largest = torch.maximum(largest, height)
        going = begun & (height > BREAKDOWN_TOLERANCE * largest)
        beta[:, j], alpha[:, j] = torch.where(begun, length, 0), torch.where(going, height, 0)
        v[:, j] = direction
        u[:, :, j] = torch.where(going[:, None], y / height[:, None], 0)
        steps += begun
    return u, alpha, beta, v, steps


def _norms(x: Tensor) -> Tensor:
    """Of each row of [M, N]."""
    return cast(Tensor, torch.linalg.vector_norm(x, dim=1))


def _truncate(
    u: Tensor, alpha: Tensor, beta: Tensor, v: Tensor, steps: Tensor, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best rank-`rank` part of each block by the SVD of its bidiagonal, where it has more than `rank` steps."""
    core = torch.diag_embed(alpha.double()) + torch.diag_embed(beta[:, 1:].double(), offset=1)
    left, values, right = cast(tuple[Tensor, Tensor, Tensor], torch.linalg.svd(core))
    whole = (steps <= rank)[:, None, None]
    return (
        torch.where(whole, u[:, :, :rank], u @ left[:, :, :rank].float()),
        torch.where(whole, core[:, :rank, :rank], torch.diag_embed(values[:, :rank])).float(),
        torch.where(whole, v[:, :rank], right[:, :rank].float() @ v),
    )
