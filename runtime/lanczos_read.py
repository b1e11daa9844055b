"""Both products of a Lanczos step, A v and Aᵀ (A v), in one read of A: compiled, on all cores.

A matrix that no cache holds costs what reading it costs, so a step that reads it once takes half the time of one that
reads it for each product.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_ROWS = 32
"""The fewest rows of a block that are a thread's."""


def read_once(a: Array, v: Array, threads: int) -> tuple[Array, Array]:
    """y = A v [M, S] and Aᵀ y [M, H] of blocks a [M, S, H], contiguous, and vectors v [M, H], all float32."""
    count, rows, cols = a.shape
    parts = max(min(threads, rows // _ROWS), 1)
    y, sums = np.empty((count, rows), np.float32), np.zeros((parts, count, cols), np.float32)
    bounds = [rows * part // parts for part in range(parts + 1)]
    kernel = _compiled()

    def read(part: int) -> None:
        kernel(a, v, y, sums[part], bounds[part], bounds[part + 1])

    for _ in _pool().map(read, range(parts)):
        pass
    return y, sums.sum(0)


def _read(a: Array, v: Array, y: Array, w: Array, start: int, stop: int) -> None:
    """y = A v of the rows from `start` to `stop` of each block; w += Aᵀ y of those. Four rows stay in the cache."""
    blocks, _, cols = a.shape
    zero = np.float32(0)
    for m in range(blocks):
        x, z = v[m], w[m]
        for i in range(start, stop - 3, 4):
            p, q, r, s = a[m, i], a[m, i + 1], a[m, i + 2], a[m, i + 3]
            b, c, d, e = zero, zero, zero, zero
            for j in range(cols):
                b += p[j] * x[j]
                c += q[j] * x[j]
                d += r[j] * x[j]
                e += s[j] * x[j]
            y[m, i], y[m, i + 1], y[m, i + 2], y[m, i + 3] = b, c, d, e
            for j in range(cols):
                z[j] += (b * p[j] + c * q[j]) + (d * r[j] + e * s[j])
        for i in range(stop - (stop - start) % 4, stop):
            b = zero
            for j in range(cols):
                b += a[m, i, j] * x[j]
            y[m, i] = b
            for j in range(cols):
                z[j] += b * a[m, i, j]


@cache
def _compiled() -> Callable[..., None]:
    """`_read` in machine code; numba is imported only where a matrix is large."""
    from runtime.fast_compile import compiled

    return compiled(_read, reassociate=True)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "lanczos")
