"""What a site's input becomes when it is decomposed, in torch: the passes' definition, for prompts of any length."""

from dataclasses import dataclass
from math import ceil

import torch

from dcomc.config import EXTRA_ITERATIONS, SiteOptions
from dcomc.percentages import share_of
from runtime import lanczos_torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Basis:
    """What sites that reuse a basis take over."""

    u: Tensor
    """[B * blocks, T, R] float32, with orthonormal or zero columns."""
    exact_rows: Tensor | None
    """[B, S] bool: the tokens that were kept exact."""


@dataclass(frozen=True)
class Threshold:
    """The paper's rule for outlier channels: enough tokens of large magnitude."""

    magnitude: float
    min_tokens_percent: float


def approximate(
    x: Tensor, options: SiteOptions, threshold: Threshold | None = None, basis: Basis | None = None
) -> tuple[Tensor, Basis]:
    """The low-rank approximation of each prompt, with outlier channels and exact tokens beside it.

    Where a block has no more tokens, or no more channels, than the rank, that is the input itself.

    Args:
        x: [B, S, H], finite; rows of padding are zero.
        options: those of the compiler; percentages are of S and H and rounded up.
        threshold: that outlier channels must reach; without one, channels of largest energy are taken.
        basis: to project on, with `options.reuse`.

    Returns:
        [B, S, H] in the type of x, and the basis.
    """
    rest, exact = x.float(), torch.zeros_like(x, dtype=torch.float32)
    if options.outliers:
        rest, exact = _part(rest, exact, _outliers(rest, options.outliers, threshold)[:, None])
    rows = basis.exact_rows if basis is not None and options.reuse else None
    if rows is None:
        rows = _rows(rest, options.exact_rows)
    if rows is not None:
        rest, exact = _part(rest, exact, rows[:, :, None])
    if basis is not None and options.reuse:
        u = basis.u
        low = u @ (u.mT @ _in_blocks(rest, u.shape[1]))
    else:
        u, low = _decompose(_in_blocks(rest, options.block), options)
    low = low.reshape(len(x), -1, x.shape[-1])[:, : x.shape[1]]
    return (low + exact).to(x.dtype), Basis(u, rows)


def _part(rest: Tensor, exact: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Move what is chosen from `rest` to `exact`."""
    return rest.masked_fill(chosen, 0), exact + rest.masked_fill(~chosen, 0)


def _outliers(x: Tensor, percent: float, threshold: Threshold | None) -> Tensor:
    """[B, H] bool: the outlier channels of prompts [B, S, H]."""
    capacity, cutoff = ceil(share_of(percent, x.shape[2])), 0
    if threshold is None:
        scores = x.square().sum(1)
    else:
        scores = (x.abs() > threshold.magnitude).sum(1)
        cutoff = max(1, ceil(share_of(threshold.min_tokens_percent, x.shape[1]))) - 1
    return _highest(scores, capacity, cutoff)


def _rows(x: Tensor, percent: float) -> Tensor | None:
    """[B, S] bool: the tokens of largest energy, as `dcom.token_split` rounds it, of prompts [B, S, H]."""
    energies = x.square().sum(2).bfloat16()
    return _highest(energies, ceil(share_of(percent, x.shape[1])), 0) if percent else None


def _highest(scores: Tensor, count: int, cutoff: int) -> Tensor:
    """The highest of scores [B, N] above the cutoff, the first among equals, as [B, N] bool."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, scores.gather(1, order) > cutoff)


def _in_blocks(x: Tensor, block: int | None) -> Tensor:
    """[B, S, H] as [B * blocks, T, H], each prompt filled up with zero rows to whole blocks."""
    size = min(block or x.shape[1], x.shape[1])
    return torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % size)).reshape(-1, size, x.shape[2])


def _decompose(blocks: Tensor, options: SiteOptions) -> tuple[Tensor, Tensor]:
    """U [M, T, R] and the approximation [M, T, H] of blocks [M, T, H]."""
    most = min(blocks.shape[1:])
    rank = min(options.rank, most)
    iterations = min(options.iterations or options.rank + EXTRA_ITERATIONS, most)
    if rank == blocks.shape[1] and options.energy is None:
        return torch.eye(rank, device=blocks.device).expand(len(blocks), rank, rank), blocks
    u, core, v = lanczos_torch.factors(
        blocks,
        rank,
        iterations,
        seed=options.start_seed,
        reorthogonalisation=options.reorthogonalisation,
        modified=options.gram_schmidt == "modified",
    )
    if options.energy is not None:
        squares = core.diagonal(dim1=1, dim2=2).square()
        total = blocks.double().square().sum((1, 2))
        kept = squares.cumsum(1) - squares < options.energy * total[:, None]
        u = u * kept[:, None]
    return u, u @ (core @ v)
