"""Lanczos bidiagonalisation of large matrices on the CPU, which reads them once a step, not twice.

With y = A v_j and Aᵀ y from one read, and y = U c + beta_j u_{j+1}, the next step's

    Aᵀ u_{j+1} = (Aᵀ y - Aᵀ U c) / beta_j

where the columns of Aᵀ U are those of the steps before. A rounding of theirs grows with |c| / beta_j at each step: how
far it may have grown is kept beside, and where that passes a limit Aᵀ u_{j+1} is computed from A again.

Rows are multiplied while those before them are added up, so that memory is read all the time. All of it is compiled,
and threads that help to read stay awake until the end: one that sleeps between two reads takes a tenth of a millisecond
to wake, a fifth of what a read takes.
"""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from runtime.columns import Array, Bits
from runtime.lanczos import breakdown_tolerance
from runtime.shares import pool, share_count

_GROWTH = 64.0
"""How many times a rounding may grow before Aᵀ u is computed from A again."""


def bidiagonalise(
    a: Array | Bits,
    start: Array,
    iterations: int,
    *,
    reorthogonalisation: int,
    modified: bool,
    hide: Callable[[Array], NDArray[np.bool_]] | None,
    threads: int,
) -> tuple[Array, Array, Array]:
    """Of blocks a [M, S, H]: uᵀ [M, k + 1, S], the lower bidiagonal core [M, k + 1, k] and v [M, k, H], float32.

    What comes after a block's breakdown is zero. The numbers do not depend on the threads.

    Args:
        a: contiguous; float32, or uint16, the bits of bfloat16.
        start: u_0 of each block [S].
        hide: says which columns are taken as zero [M, H], of the sums of squares of all [M, H].
    """
    from runtime import lanczos_kernel as kernel  # and numba, only where a matrix is large

    count, rows, cols = a.shape
    u, v = np.zeros((count, iterations + 1, rows), np.float32), np.zeros((count, iterations, cols), np.float32)
    core = np.zeros((count, iterations + 1, iterations), np.float32)
    u[:, 0] = start
    shares = share_count(rows)
    team = kernel.Reading(
        counters=np.zeros(kernel.COUNTERS, np.int64),
        a=a,
        x=np.empty((count, cols), np.float32),
        y=np.empty((count, rows), np.float32),
        sums=np.empty((shares, count, cols), np.float32),
        squares=np.empty((shares, count, cols), np.float32),
        backwards=np.ones(1, np.bool_),
    )
    team.y[:] = start
    z, hidden = np.empty((count, cols), np.float32), np.zeros((count, cols), np.bool_)
    team.counters[kernel.NEXT] = shares
    helpers: list[Future[None]] = []
    try:
        for _ in range(min(threads, shares) - 1):
            helpers.append(pool().submit(kernel.help_to_read, team))
        kernel.read_all(team, hidden, z)
        if hide is not None:
            hidden = hide(team.squares.sum(0))
            z[hidden] = 0
        tolerance = breakdown_tolerance(rows, cols, reorthogonalisation)
        options = (reorthogonalisation, modified, tolerance, _GROWTH)
        kernel.bidiagonalise(team, z, hidden, u, core, v, options)
    finally:
        team.counters[kernel.STOP] = 1
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return u, core, v
