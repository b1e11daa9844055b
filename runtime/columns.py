"""What is asked of the columns of a large matrix, from one read of it: compiled, on all cores.

A matrix that no cache holds costs what reading it costs. Its rows are shared out to threads; see also
`runtime.lanczos_large`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.shares import for_shares, share_count

Array = NDArray[np.float32]
Bits = NDArray[np.uint16]


def column_squares(a: Array | Bits, threads: int) -> Array:
    """The sums of squares of the columns [M, H], float32, of blocks a [M, S, H], contiguous.

    Args:
        a: float32, or uint16, the bits of bfloat16.
    """
    from runtime.columns_kernel import squares

    count, rows, cols = a.shape
    sums = np.zeros((share_count(rows), count, cols), np.float32)

    def work(share: int, start: int, stop: int) -> None:
        squares(a, sums[share], start, stop)

    for_shares(work, rows, len(sums), threads)
    return sums.sum(0)


def take_columns(a: NDArray[Any], columns: NDArray[np.int64], taken: NDArray[Any], threads: int) -> None:
    """taken [C, S] = the columns [C] of a [S, H], as rows; of one element type, `taken` of any layout."""
    from runtime.columns_kernel import take

    places = np.argsort(columns)
    ordered = columns[places]

    def work(_: int, start: int, stop: int) -> None:
        take(a, ordered, places, taken, start, stop)

    for_shares(work, len(a), share_count(len(a)), threads)
