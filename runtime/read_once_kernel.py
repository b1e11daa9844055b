"""The loops of `runtime.read_once`, for numba."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic as numba_intrinsic
from numpy.typing import NDArray

from runtime.fast_compile import compiled

intrinsic = cast(Callable[[Callable[..., object]], Callable[..., Any]], numba_intrinsic)


@intrinsic
def single(typing: object, number: Any) -> object:
    """A float32 as it is; the 16 bits of a bfloat16, a uint16, as the float32 that they begin."""

    def generate(context: object, builder: Any, signature: object, arguments: list[Any]) -> object:
        if number == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(arguments[0], word), word(16)), ir.FloatType())

    return cast(object, types.float32(number)), generate


def _read(
    a: NDArray[Any], v: NDArray[np.float32], y: NDArray[np.float32], w: NDArray[np.float32], start: int, stop: int
) -> None:
    """y = A v of the rows from `start` to `stop` of each block; w += Aᵀ y of those. Four rows stay in the cache.

    Args:
        a: float32, or uint16, the bits of bfloat16.
    """
    blocks, _, cols = a.shape
    zero = np.float32(0)
    for m in range(blocks):
        x, z = v[m], w[m]
        for i in range(start, stop - 3, 4):
            p, q, r, s = a[m, i], a[m, i + 1], a[m, i + 2], a[m, i + 3]
            b, c, d, e = zero, zero, zero, zero
            for j in range(cols):
                b += single(p[j]) * x[j]
                c += single(q[j]) * x[j]
                d += single(r[j]) * x[j]
                e += single(s[j]) * x[j]
            y[m, i], y[m, i + 1], y[m, i + 2], y[m, i + 3] = b, c, d, e
            for j in range(cols):
                z[j] += (b * single(p[j]) + c * single(q[j])) + (d * single(r[j]) + e * single(s[j]))
        for i in range(stop - (stop - start) % 4, stop):
            b = zero
            for j in range(cols):
                b += single(a[m, i, j]) * x[j]
            y[m, i] = b
            for j in range(cols):
                z[j] += b * single(a[m, i, j])


def _back(a: NDArray[Any], u: NDArray[np.float32], w: NDArray[np.float32], start: int, stop: int) -> None:
    """w += Aᵀ u of the rows from `start` to `stop` of each block."""
    blocks, _, cols = a.shape
    for m in range(blocks):
        z = w[m]
        for i in range(start, stop - 3, 4):
            p, q, r, s = a[m, i], a[m, i + 1], a[m, i + 2], a[m, i + 3]
            b, c, d, e = u[m, i], u[m, i + 1], u[m, i + 2], u[m, i + 3]
            for j in range(cols):
                z[j] += (b * single(p[j]) + c * single(q[j])) + (d * single(r[j]) + e * single(s[j]))
        for i in range(stop - (stop - start) % 4, stop):
            p, b = a[m, i], u[m, i]
            for j in range(cols):
                z[j] += b * single(p[j])


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
    a: NDArray[Any], columns: NDArray[np.int64], order: NDArray[np.int64], taken: NDArray[Any], start: int, stop: int
) -> None:
    """taken [C, S] = the columns [C] of a [S, H], of the rows from `start` to `stop`, some rows at a time.

    Args:
        order: of the columns in memory.
    """
    few = np.empty((len(columns), 32), a.dtype)
    for first in range(start, stop, 32):
        count = min(32, stop - first)
        for i in range(count):
            row = a[first + i]
            for j in order:
                few[j, i] = row[columns[j]]
        for j in range(len(columns)):
            taken[j, first : first + count] = few[j, :count]


def _orthogonalise(
    x: NDArray[np.float32], basis: NDArray[np.float32], known: NDArray[np.float32], passes: int, modified: bool
) -> None:
    """x [M, N] less its parts along the rows of `basis` [M, J, N], taken in so many passes; known [M, J] += the parts.

    Args:
        modified: whether each part is taken off before the next one is computed.
    """
    blocks, rows, cols = basis.shape
    shares = np.zeros((1, rows), np.float32)
    for m in range(blocks):
        z = x[m : m + 1]
        for _ in range(passes):
            for i in range(rows):
                p, share = basis[m, i], np.float32(0)
                for j in range(cols):
                    share += p[j] * z[0, j]
                shares[0, i] = share
                if modified:
                    subtract(z, shares[:, i : i + 1], basis[m : m + 1, i : i + 1])
            if not modified:
                subtract(z, shares, basis[m : m + 1])
            known[m] += shares[0]


def _subtract(x: NDArray[np.float32], shares: NDArray[np.float32], basis: NDArray[np.float32]) -> None:
    """x [M, N] -= shares [M, J] times the rows of `basis` [M, J, N]."""
    blocks, rows, cols = basis.shape
    for m in range(blocks):
        z = x[m]
        for i in range(rows):
            p, share = basis[m, i], shares[m, i]
            for j in range(cols):
                z[j] -= share * p[j]


subtract = compiled(_subtract, reassociate=True)
back = compiled(_back, reassociate=True)
orthogonalise = compiled(_orthogonalise, reassociate=True)
read = compiled(_read, reassociate=True)
take = compiled(_take)
squares = compiled(_squares, reassociate=True)
