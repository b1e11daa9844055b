"""Kernels for large matrices that read them once: both products of a Lanczos step, A v and Aᵀ (A v), and columns.

Compiled, on all cores. A matrix that no cache holds costs what reading it costs, so a step that reads it once takes
half the time of one that reads it for each product. What comes between the reads is compiled, too: a library's threads,
once awake, would keep the cores from those here.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bits = NDArray[np.uint16]

_ROWS = 32
"""The fewest rows of a share."""

_SHARES = 8
"""Shares of a matrix's rows, at most."""


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


def orthogonal(x: Array, basis: Array, passes: int, modified: bool) -> tuple[Array, Array]:
    """x [M, N] less its parts along the rows of `basis` [M, J, N], taken in so many passes, and those parts [M, J]."""
    from runtime.read_once_kernel import orthogonalise

    rest, known = x.copy(), np.zeros(basis.shape[:2], np.float32)
    orthogonalise(rest, basis, known, passes, modified)
    return rest, known


def less(x: Array, shares: Array, basis: Array) -> Array:
    """x [M, N] less shares [M, J] times the rows of `basis` [M, J, N]."""
    from runtime.read_once_kernel import subtract

    rest = x.copy()
    subtract(rest, shares, basis)
    return rest


def column_squares(a: Array | Bits, threads: int) -> Array:
    """The sums of squares of the columns [M, H]; see `read_once`."""
    from runtime.read_once_kernel import squares

    return _by_rows(partial(squares, a), a, threads)


def take_columns(a: NDArray[Any], columns: NDArray[np.int64], threads: int) -> NDArray[Any]:
    """The columns [C] of a [S, H], numbers of any type, as rows [C, S]."""
    from runtime.read_once_kernel import take

    taken = np.empty((len(columns), len(a)), a.dtype)
    order = np.argsort(columns)

    def work(_: int, start: int, stop: int) -> None:
        take(a, columns, order, taken, start, stop)

    _for_shares(work, len(a), threads)
    return taken


def _by_rows(kernel: Callable[[Array, int, int], None], a: Array | Bits, threads: int) -> Array:
    """The sum of what a kernel adds to zeros [M, H] for each share of the rows."""
    count, rows, cols = a.shape
    sums = np.zeros((_shares(rows), count, cols), np.float32)

    def work(share: int, start: int, stop: int) -> None:
        kernel(sums[share], start, stop)

    _for_shares(work, rows, threads)
    return sums.sum(0)


def _for_shares(work: Callable[[int, int, int], None], rows: int, threads: int) -> None:
    """Call `work(share, start, stop)` for each share of some rows, on so many threads, this one among them.

    The shares do not depend on the threads, and so neither do sums. Each thread takes the next share when it is done
    with one: one that wakes late does less, and one that has not begun when all is done is not waited for.
    """
    shares = _shares(rows)
    left = iter(range(shares))

    def work_on() -> None:
        for share in left:
            work(share, rows * share // shares, rows * (share + 1) // shares)

    others = [_pool().submit(work_on) for _ in range(min(threads, shares) - 1)]
    work_on()
    for other in others:
        if not other.cancel():
            other.result()


def _shares(rows: int) -> int:
    """The number of shares of so many rows."""
    return max(min(_SHARES, rows // _ROWS), 1)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "read")
