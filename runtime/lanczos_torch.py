"""The decomposition of `runtime.lanczos` in torch: all blocks of a batch at once, on the CPU or a GPU."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from runtime import lanczos_large
from runtime.lanczos import Factored, breakdown_tolerance, start_vector

Tensor = torch.Tensor

_LARGE = 1 << 20
"""Elements of A from which reading it is what a step costs."""


def decompose(
    x: Tensor,
    batch: int,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
    prompts: int = 1,
    without: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
) -> Factored:
    """What `lanczos.decompose` does, but for the order of its sums, where `x` is, in float32 tensors.

    Args:
        x: [batch * S, H]; block b is rows b*S to (b+1)*S.
        prompts: P, each of as many blocks.
        without: chooses the columns that are taken as zero, from the sums of squares of each prompt's columns [P, H]:
            indices [P, C], and how many of these, the first, are meant [P].
    """

    def hide(squares: Tensor) -> Tensor:
        assert without is not None
        cols = squares.shape[1]
        return _marked(*without(squares.reshape(prompts, -1, cols).sum(1)), cols).repeat_interleave(batch // prompts, 0)

    with torch.inference_mode():
        narrow = x.dtype == torch.bfloat16 and is_large(x)
        blocks = (x if narrow else x.float()).reshape(batch, -1, x.shape[-1])
        options: Any = {"seed": seed, "reorthogonalisation": reorthogonalisation, "modified": modified}
        return Factored(*factors(blocks, rank, iterations, hide=without and hide, **options))


def _marked(indices: Tensor, counts: Tensor, cols: int) -> Tensor:
    """[P, cols] bool, true at indices [P, C], of which the first [P] are meant."""
    used = torch.arange(indices.shape[1], device=indices.device) < counts[:, None]
    return used.new_zeros(len(indices), cols + 1).scatter_(1, torch.where(used, indices, cols), True)[:, :cols]


def factors(
    blocks: Tensor,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
    hide: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """U [M, T, R], the diagonal core [M, R, R] and V [M, R, H], float32, of blocks [M, T, H].

    Args:
        blocks: float32; or bfloat16, large and on the CPU.
        hide: says which columns are taken as zero [M, H], of the sums of squares of all [M, H].
    """
    start = start_vector(blocks.shape[1], seed, np.dtype(np.float32))
    if not is_large(blocks):
        start = torch.from_numpy(start).to(blocks.device)
        hidden = None if hide is None else hide(blocks.square().sum(1))
        return _truncate(*_bidiagonalise(blocks, start, iterations, reorthogonalisation, modified, hidden), rank)
    parts = lanczos_large.bidiagonalise(
        bits(blocks),
        start,
        iterations,
        reorthogonalisation=reorthogonalisation,
        modified=modified,
        hide=None if hide is None else lambda squares: hide(torch.from_numpy(squares)).numpy(),
        threads=torch.get_num_threads(),
    )
    u, core, v = map(cast(Callable[[Any], Tensor], torch.from_numpy), parts)
    return _truncate(u, core, v, rank)


def _bidiagonalise(
    a: Tensor, start: Tensor, iterations: int, reorthogonalisation: int, modified: bool, hidden: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `lanczos_large.bidiagonalise` does, of any blocks [M, S, H], float32."""
    count, rows, cols = a.shape
    u, v = a.new_empty(count, iterations + 1, rows), a.new_empty(count, iterations, cols)
    core, largest = a.new_zeros(count, iterations + 1, iterations), a.new_zeros(count)
    tolerance = breakdown_tolerance(rows, cols, reorthogonalisation)
    going = torch.ones(count, dtype=torch.bool, device=a.device)
    u[:, 0] = start

    def step(residual: Tensor) -> tuple[Tensor, Tensor]:
        """The unit vectors and norms of residuals [M, N], zero from a breakdown on."""
        nonlocal largest, going
        norms = cast(Tensor, torch.linalg.vector_norm(residual, dim=1))
        largest = torch.maximum(largest, norms)
        going = going & (norms > tolerance * largest)
        return torch.where(going[:, None], residual / norms[:, None], 0), torch.where(going, norms, 0)

    def seen(z: Tensor) -> Tensor:
        """Aᵀ u as if A had zeros in the hidden columns; then v_j has zeros there, and A v_j does not see them."""
        return z if hidden is None else z.masked_fill(hidden, 0)

    for j in range(iterations):
        z = seen((u[:, j, None] @ a)[:, 0])
        residual = _orthogonal(z, v[:, :j], reorthogonalisation, modified)
        v[:, j], core[:, j, j] = step(residual)
        y = (a @ v[:, j, :, None])[:, :, 0]
        residual = _orthogonal(y, u[:, : j + 1], reorthogonalisation, modified)
        u[:, j + 1], core[:, j + 1, j] = step(residual)
    return u, core, v


def is_large(a: Tensor) -> bool:
    """Whether the kernels that read it once are for it: it is on the CPU, and no small one."""
    return a.device.type == "cpu" and a.numel() >= _LARGE


def bits(a: Tensor) -> NDArray[Any]:
    """float32 as it is, bfloat16 as uint16."""
    a = a.contiguous()
    return (a.view(torch.uint16) if a.dtype == torch.bfloat16 else a).numpy()


def _orthogonal(x: Tensor, basis: Tensor, passes: int, modified: bool) -> Tensor:
    """x [M, N] less its parts along the rows of `basis` [M, J, N], taken in so many passes."""
    for _ in range(passes):
        if modified:
            for row in basis.unbind(1):
                x = x - (row * x).sum(dim=1)[:, None] * row
        else:
            x = x - ((basis @ x[:, :, None]).mT @ basis)[:, 0]
    return x


def _truncate(u: Tensor, core: Tensor, v: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best rank-`rank` part of each block by the SVD of its core, zero past the block's steps."""
    left, values, right = cast(tuple[Tensor, Tensor, Tensor], torch.linalg.svd(core.double()))
    steps = core.diagonal(dim1=1, dim2=2).count_nonzero(dim=1)
    kept = torch.arange(rank, device=core.device) < steps[:, None]
    return (
        ((left[:, :, :rank] * kept[:, None]).float().mT @ u).mT,
        torch.diag_embed(values[:, :rank] * kept).float(),
        (right[:, :rank] * kept[:, :, None]).float() @ v,
    )
