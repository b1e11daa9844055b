"""Loops over some rows of a large matrix, for numba: those of `runtime.read_once`, and products of `lanczos_kernel`."""

from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from runtime.atomics import intrinsic
from runtime.fast_compile import compiled


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


def _back(
    a: NDArray[Any], u: NDArray[np.float32], w: NDArray[np.float32], sums: NDArray[np.float32], start: int, stop: int
) -> None:
    """w += Aᵀ u and sums [M, H] += the squares of the elements, of the rows from `start` to `stop` of each block."""
    blocks, _, cols = a.shape
    for m in range(blocks):
        z, t = w[m], sums[m]
        for i in range(start, stop - 3, 4):
            p, q, r, s = a[m, i], a[m, i + 1], a[m, i + 2], a[m, i + 3]
            b, c, d, e = u[m, i], u[m, i + 1], u[m, i + 2], u[m, i + 3]
            for j in range(cols):
                f, g, h, k = single(p[j]), single(q[j]), single(r[j]), single(s[j])
                z[j] += (b * f + c * g) + (d * h + e * k)
                t[j] += (f * f + g * g) + (h * h + k * k)
        for i in range(stop - (stop - start) % 4, stop):
            p, b = a[m, i], u[m, i]
            for j in range(cols):
                z[j] += b * single(p[j])
                t[j] += single(p[j]) * single(p[j])


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


back = compiled(_back, reassociate=True)
read = compiled(_read, reassociate=True)
take = compiled(_take)
squares = compiled(_squares, reassociate=True)
