"""Lanczos bidiagonalisation on a GPU, kernel by kernel, as a library runs it (the paper's Algorithm 1, figure 3).

Each step reads the matrix twice, orthogonalises the new vector of either basis by modified Gram-Schmidt, one dot
product and one correction for each vector before it, and normalises it. The dot products depend on one another, so that
a kernel does little more than start: launches, not arithmetic, are what the inner loop costs.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from dcomc.gpu_model import Host, LanczosWork

Method = Literal["modified", "classical"]


@dataclass(frozen=True)
class Part:
    """Kernels of one operation of the algorithm."""

    name: str
    launches: int
    seconds: float


def lanczos_parts(
    host: Host, work: LanczosWork, *, batched: bool = False, method: Method = "modified"
) -> tuple[Part, ...]:
    """The operations of decomposing all matrices on one GPU.

    Args:
        host: of which one GPU works.
        work: the matrices [S, H].
        batched: whether a kernel does its part for all matrices, or the matrices come one after another.
        method: of Gram-Schmidt; classical takes two kernels a pass, whatever the number of vectors.
    """
    prompts = 1 if batched else work.matrices
    width = work.matrices if batched else 1
    size = host.gpu.lanczos.element_bytes
    matrix, row, col = (width * size * n for n in (work.rows * work.cols, work.cols, work.rows))
    k = work.iterations

    def part(name: str, *kernels: tuple[int, int], fixed: float = 0.0) -> Part:
        """A part made of kernels, each as (launches, bytes of each)."""
        seconds = sum(count * host.launched(moved / host.bytes_per_second) for count, moved in kernels)
        return Part(name, prompts * sum(count for count, _ in kernels), prompts * (seconds + fixed))

    def reorthogonalisation(name: str, before: range, vector: int) -> Part:
        """The part that makes a new vector orthogonal to each count of vectors in `before`."""
        if method == "modified":
            pairs = work.passes * sum(before)
            return part(name, (pairs, 2 * vector), (pairs, 3 * vector))
        kernels = [(2 * work.passes, (count + 2) * vector) for count in before if count]
        return part(name, *kernels)

    # A batched routine gives each core a multiprocessor of its own.
    svd = host.gpu.lanczos.small_svd_seconds.at(1 - host.optimism) * ceil(width / host.gpu.sms)
    return (
        part("A^T u", (k, matrix + row + col)),
        part("A v", (k, matrix + row + col)),
        reorthogonalisation("V reorthogonalisation", range(k), row),
        reorthogonalisation("U reorthogonalisation", range(1, k + 1), col),
        part("norms and scaling", (k + 1, col), (k + 1, 2 * col), (k, row), (k, 2 * row)),
        part("SVD of the core, truncation", (1, (k + 1) * col), (1, k * row), fixed=svd),
    )


def lanczos_seconds(host: Host, work: LanczosWork, *, batched: bool = False, method: Method = "modified") -> float:
    """What decomposing all matrices takes on one GPU."""
    return sum(part.seconds for part in lanczos_parts(host, work, batched=batched, method=method))
