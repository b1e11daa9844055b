"""Loops over some rows of a large matrix, for numba: those of `runtime.columns`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.fast_compile import compiled
from runtime.intrinsics import single


def _squares(a: NDArray[Any], sums: NDArray[np.float32], start: int, stop: int) -> None:
    """sums [M, H] += the squares of the elements of the rows from `start` to `stop` of each block, column by column."""
    blocks, _, cols = a.shape
    for m in range(blocks):
        z = sums[m]
        for i in range(start, stop):
            p = a[m, i]
            for j in range(cols):
                z[j] += single(p[j]) * single(p[j])


def _take(
    a: NDArray[Any], columns: NDArray[np.int64], places: NDArray[np.int64], taken: NDArray[Any], start: int, stop: int
) -> None:
    """taken[places] = the columns [C] of a [S, H], as rows, of the rows from `start` to `stop`, some rows at a time.

    Args:
        columns: in the order in which they lie.
    """
    for first in range(start, stop, 8):
        last = min(first + 8, stop)
        for j in range(len(columns)):
            column, row = columns[j], taken[places[j]]
            for i in range(first, last):
                row[i] = a[i, column]


take = compiled(_take)
squares = compiled(_squares, reassociate=True)
