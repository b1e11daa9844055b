"""What takes one read of a large matrix A: both products of a Lanczos step, A v and Aᵀ (A v), and squares by column.

Compiled, on all cores. A matrix that no cache holds costs what reading it costs, so a step that reads it once takes
half the time of one that reads it for each product.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bits = NDArray[np.uint16]

_ROWS = 32
"""The fewest rows of a block that are a thread's."""


def read_once(a: Array | Bits, v: Array, threads: int) -> tuple[Array, Array]:
    """y = A v [M, S] and Aᵀ y [M, H], float32, of blocks a [M, S, H], contiguous, and vectors v [M, H] float32.

    Args:
        a: float32, or uint16, the bits of bfloat16: half of the bytes to be read, and the same numbers.
    """
    from runtime.read_once_kernel import read  # and numba, only where a matrix is large

    y = np.empty(a.shape[:2], np.float32)
    return y, _by_rows(partial(read, a, v, y), a, threads)


def read_back(a: Array | Bits, u: Array, threads: int) -> Array:
    """Aᵀ u [M, H] of vectors u [M, S]; see `read_once`."""
    from runtime.read_once_kernel import back

    return _by_rows(partial(back, a, u), a, threads)


def column_squares(a: Array | Bits, threads: int) -> Array:
    """The sums of squares of the columns [M, H]; see `read_once`."""
    from runtime.read_once_kernel import squares

    return _by_rows(partial(squares, a), a, threads)


def _by_rows(kernel: Callable[[Array, int, int], None], a: Array | Bits, threads: int) -> Array:
    """The sum of what a kernel adds to zeros [M, H] for each share of the rows."""
    count, rows, cols = a.shape
    parts = max(min(threads, rows // _ROWS), 1)
    sums = np.zeros((parts, count, cols), np.float32)
    bounds = [rows * part // parts for part in range(parts + 1)]

    def read(part: int) -> None:
        kernel(sums[part], bounds[part], bounds[part + 1])

    for _ in _pool().map(read, range(parts)):
        pass
    return sums.sum(0)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "lanczos")
