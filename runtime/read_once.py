"""What is asked of the columns of a large matrix, from one read of it: compiled, on all cores.

A matrix that no cache holds costs what reading it costs. Its rows are shared out to threads; see also
`runtime.lanczos_large`.
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


def column_squares(a: Array | Bits, threads: int) -> Array:
    """The sums of squares of the columns [M, H], float32, of blocks a [M, S, H], contiguous.

    Args:
        a: float32, or uint16, the bits of bfloat16.
    """
    from runtime.read_once_kernel import squares

    return _by_rows(partial(squares, a), a, threads)


def take_columns(a: NDArray[Any], columns: NDArray[np.int64], taken: NDArray[Any], threads: int) -> None:
    """taken [C, S] = the columns [C] of a [S, H], as rows; of one element type, `taken` of any layout."""
    from runtime.read_once_kernel import take

    places = np.argsort(columns)
    ordered = columns[places]

    def work(_: int, start: int, stop: int) -> None:
        take(a, ordered, places, taken, start, stop)

    _for_shares(work, len(a), threads)


def _by_rows(kernel: Callable[[Array, int, int], None], a: Array | Bits, threads: int) -> Array:
    """The sum of what a kernel adds to zeros [M, H] for each share of the rows."""
    count, rows, cols = a.shape
    sums = np.zeros((share_count(rows), count, cols), np.float32)

    def work(share: int, start: int, stop: int) -> None:
        kernel(sums[share], start, stop)

    _for_shares(work, rows, threads)
    return sums.sum(0)


def _for_shares(work: Callable[[int, int, int], None], rows: int, threads: int) -> None:
    """Call `work(share, start, stop)` for each share of some rows, on so many threads, this one among them.

    The shares do not depend on the threads, and so neither do sums. Each thread takes the next share when it is done
    with one: one that wakes late does less, and one that has not begun when all is done is not waited for.
    """
    shares = share_count(rows)
    left = iter(range(shares))

    def work_on() -> None:
        for share in left:
            work(share, rows * share // shares, rows * (share + 1) // shares)

    others = [pool().submit(work_on) for _ in range(min(threads, shares) - 1)]
    work_on()
    for other in others:
        if not other.cancel():
            other.result()


def share_count(rows: int) -> int:
    """The number of shares that so many rows are cut into, share i from rows * i // shares on."""
    return max(min(_SHARES, rows // _ROWS), 1)


@cache
def pool() -> ThreadPoolExecutor:
    """Threads that run compiled loops, without the interpreter's lock."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "read")
