"""The decomposition of `runtime.lanczos` in torch: all blocks of a batch at once, on the CPU or a GPU.

On the CPU a large A is read once a step, not twice: with y = A v_j and Aᵀ y from one read (`runtime.read_once`),
and y = U c + beta_j u_{j+1}, the next step's

    Aᵀ u_{j+1} = (Aᵀ y - Aᵀ U c) / beta_j

where the columns of Aᵀ U are those of the steps before. A rounding of theirs grows with |c| / beta_j at each step: how
far it may have grown is kept beside, and where that passes a limit Aᵀ u_{j+1} is computed from A again.
"""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from runtime import read_once
from runtime.lanczos import BREAKDOWN_TOLERANCE, Factored, start_vector

Tensor = torch.Tensor

_LARGE = 1 << 20
"""Elements of A from which reading it is what a step costs."""

_GROWTH = 64.0
"""How many times a rounding may grow before Aᵀ u is computed from A again."""


def decompose(
    x: Tensor,
    batch: int,
    rank: int,
    iterations: int,
    *,
    seed: int | None = 0,
    reorthogonalisation: int = 2,
    modified: bool = False,
    without: tuple[Tensor, Tensor] | None = None,
) -> Factored:
    """What `lanczos.decompose` does, but for the order of its sums, where `x` is, in float32 tensors.

    Args:
        x: [batch * S, H]; block b is rows b*S to (b+1)*S.
        without: columns of `x` that are taken as zero: indices [P, C] for each of P prompts, and how many of these,
            the first, are meant [P].
    """
    with torch.inference_mode():
        narrow = x.dtype == torch.bfloat16 and is_read_once(x)
        blocks = (x if narrow else x.float()).reshape(batch, -1, x.shape[-1])
        hidden = (
            None if without is None else _marked(*without, x.shape[-1]).repeat_interleave(batch // len(without[0]), 0)
        )
        options: Any = {"seed": seed, "reorthogonalisation": reorthogonalisation, "modified": modified}
        return Factored(*factors(blocks, rank, iterations, hidden=hidden, **options))


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
    hidden: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """U [M, T, R], the diagonal core [M, R, R] and V [M, R, H], float32, of blocks [M, T, H].

    Args:
        blocks: float32; or bfloat16, large and on the CPU.
        hidden: [M, H] bool, the columns that are taken as zero.
    """
    return _truncate(*_bidiagonalise(blocks, iterations, seed, reorthogonalisation, modified, hidden), rank)


def _bidiagonalise(
    a: Tensor, iterations: int, seed: int | None, reorthogonalisation: int, modified: bool, hidden: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of blocks [M, S, H]: uᵀ [M, k + 1, S], the lower bidiagonal core [M, k + 1, k] and v [M, k, H].

    What comes after a block's breakdown is zero.
    """
    count, rows, cols = a.shape
    none = a.new_zeros(0, dtype=torch.float32)
    u, v = none.new_empty(count, iterations + 1, rows), none.new_empty(count, iterations, cols)
    core = none.new_zeros(count, iterations + 1, iterations)
    largest = none.new_zeros(count)
    going = torch.ones(count, dtype=torch.bool, device=a.device)
    u[:, 0] = torch.from_numpy(start_vector(rows, seed, np.dtype(np.float32))).to(a.device)

    def step(residual: Tensor) -> tuple[Tensor, Tensor]:
        """The unit vectors and norms of residuals [M, N], zero from a breakdown on."""
        nonlocal largest, going
        norms = cast(Tensor, torch.linalg.vector_norm(residual, dim=1))
        largest = torch.maximum(largest, norms)
        going = going & (norms > BREAKDOWN_TOLERANCE * largest)
        return torch.where(going[:, None], residual / norms[:, None], 0), torch.where(going, norms, 0)

    def seen(z: Tensor) -> Tensor:
        """Aᵀ u as if A had zeros in the hidden columns; then v_j has zeros there, and A v_j does not see them."""
        return z if hidden is None else z.masked_fill(hidden, 0)

    reader = _Reader(a, iterations) if is_read_once(a) else None
    orthogonal = _orthogonal if reader is None else reader.orthogonal
    z = seen(_left(u[:, 0], a))
    for j in range(iterations):
        residual, _ = orthogonal(z, v[:, :j], reorthogonalisation, modified)
        v[:, j], core[:, j, j] = step(residual)
        y = (a @ v[:, j, :, None])[:, :, 0] if reader is None else reader.right(v[:, j], z)
        residual, known = orthogonal(y, u[:, : j + 1], reorthogonalisation, modified)
        u[:, j + 1], core[:, j + 1, j] = step(residual)
        if j + 1 < iterations:
            z = None if reader is None else reader.left(known, core[:, j + 1, j])
            z = seen(_left(u[:, j + 1], a) if z is None else z)
    return u, core, v


def is_read_once(a: Tensor) -> bool:
    """Whether the kernels of `runtime.read_once` are for it: it is on the CPU, and no small one."""
    return a.device.type == "cpu" and a.numel() >= _LARGE


def _left(u: Tensor, a: Tensor) -> Tensor:
    """Aᵀ u [M, H], float32."""
    if a.dtype == torch.float32:
        return (u[:, None] @ a)[:, 0]
    return torch.from_numpy(read_once.read_back(bits(a), u.contiguous().numpy(), torch.get_num_threads()))


def bits(a: Tensor) -> NDArray[Any]:
    """float32 as it is, bfloat16 as uint16."""
    a = a.contiguous()
    return (a.view(torch.uint16) if a.dtype == torch.bfloat16 else a).numpy()


def _orthogonal(x: Tensor, basis: Tensor, passes: int, modified: bool) -> tuple[Tensor, Tensor]:
    """x [M, N] less its parts along the rows of `basis` [M, J, N], taken in so many passes, and those parts [M, J]."""
    known = x.new_zeros(basis.shape[:2])
    for _ in range(passes):
        if modified:
            parts: list[Tensor] = []
            for row in basis.unbind(1):
                parts.append((row * x).sum(dim=1))
                x = x - parts[-1][:, None] * row
            known = known + torch.stack(parts, 1) if parts else known
        else:
            shares = (basis @ x[:, :, None])[:, :, 0]
            x = x - (shares[:, None] @ basis)[:, 0]
            known = known + shares
    return x, known


class _Reader:
    """The products of the steps with A [M, S, H] and its transpose, in about one read of A a step; in NumPy."""

    def __init__(self, a: Tensor, iterations: int) -> None:
        count, _, cols = a.shape
        self._a, self._threads = bits(a), torch.get_num_threads()
        self._steps = 0
        self._backs = np.empty((count, iterations, cols), np.float32)
        """Aᵀ U."""
        self._growth = np.ones((count, iterations), np.float32)
        """How many times a rounding of each column may have grown."""
        self._back = self._backs[:, 0]

    def right(self, v: Tensor, z: Tensor) -> Tensor:
        """y = A v_j [M, S] of v_j [M, H] and z = Aᵀ u_j."""
        self._backs[:, self._steps] = z.numpy()
        y, self._back = read_once.read_once(self._a, v.contiguous().numpy(), self._threads)
        self._steps += 1
        return torch.from_numpy(y)

    @staticmethod
    def orthogonal(x: Tensor, basis: Tensor, passes: int, modified: bool) -> tuple[Tensor, Tensor]:
        """What `_orthogonal` does, on one thread: the library's, once awake, keep the cores from those that read A."""
        rest, known = read_once.orthogonal(x.numpy(), basis.numpy(), passes, modified)
        return torch.from_numpy(rest), torch.from_numpy(known)

    def left(self, known: Tensor, norms: Tensor) -> Tensor | None:
        """Aᵀ u_{j+1} [M, H] of y = U known + beta u_{j+1}; zero after a breakdown, None where it is too uncertain."""
        steps, beta = self._steps, norms.numpy()[:, None]
        going = beta > 0
        share = np.divide(known.numpy(), beta, where=going, out=np.zeros((len(beta), steps), np.float32))
        growth = 1 + np.sum(np.abs(share) * (1 + self._growth[:, :steps]), 1)
        if growth.max() > _GROWTH:
            return None
        self._growth[:, steps] = growth
        z = np.divide(self._back, beta, where=going, out=np.zeros_like(self._back))
        return torch.from_numpy(read_once.less(z, share, self._backs[:, :steps]))


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
