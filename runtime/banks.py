"""A launch's data in the banks: activations scaled, rounded and cut into tiles, and factors read back."""

from collections.abc import Callable
from math import ceil, frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError
from runtime.lanczos import Bidiagonal, start_vector
from runtime.machine import Machine
from runtime.program import KernelLayout

Array = NDArray[Any]
ReadBank = Callable[[int, int, int], NDArray[np.uint8]]
"""Bytes of a bank: its number, the first byte's address, their number."""

_AGAIN = "compile the program again"
_HALF_EXPONENT = 15
"""Activations are scaled so that the largest magnitude is in [2^14, 2^15): binary16 reaches 65504."""


def half_exponent(x: Array, largest: float) -> int:
    """e such that x * 2^-e, whose largest magnitude is given, has it just below 2^15; 0 for zeros.

    Raises:
        DcomError: x has a NaN or an infinity.
    """
    if not np.isfinite(largest):
        row, col = np.argwhere(~np.isfinite(x))[0]
        raise DcomError(
            f"the activation has a value that is not finite, {x[row, col]} at row {row}, column {col}",
            hint="look for an overflow in the layers before, or for damage in the input",
        )
    return frexp(largest)[1] - _HALF_EXPONENT if largest else 0


def to_half_scaled(x: Array) -> tuple[NDArray[np.float16], int]:
    """x * 2^-e in binary16, and e, so that the largest magnitude is just below 2^15; e = 0 for zeros.

    Raises:
        DcomError: x has a NaN or an infinity.
    """
    exponent = half_exponent(x, float(np.abs(x).max()) if x.size else 0.0)
    return np.ldexp(x, -exponent).astype(np.float16), exponent


def pack(a: NDArray[np.float16], layout: KernelLayout, seed: int, machine: Machine) -> NDArray[np.uint8]:
    """The banks before a launch, [grid columns, bank_bytes]: the activation in tiles and the start vector.

    Args:
        a: [S, H].
    """
    grid, cluster = machine.grid, machine.cluster
    banks = np.zeros((grid.cols, layout.bank_bytes), np.uint8)
    padded = np.zeros((grid.rows * layout.slice_rows, grid.cols * layout.slice_cols), np.float16)
    padded[: layout.rows, : layout.cols] = a
    tiles = padded.reshape(
        grid.rows,
        layout.slice_rows // cluster.mac_rows,
        cluster.mac_rows,
        grid.cols,
        layout.slice_cols // cluster.mac_cols,
        cluster.mac_cols,
    ).transpose(3, 0, 1, 4, 2, 5)
    blocks = np.ascontiguousarray(tiles).reshape(grid.cols, grid.rows, -1).view(np.uint8)
    for row in range(filled_rows(layout)):
        start = layout.a_offset + row * layout.a_stride
        banks[:, start : start + blocks.shape[2]] = blocks[:, row]
    start = padded_start(layout, seed)
    banks[:, layout.start_offset : layout.start_offset + start.nbytes] = start.view(np.uint8)
    return banks


def filled_rows(layout: KernelLayout) -> int:
    """Rows of clusters that hold any row of the activation."""
    return ceil(layout.rows / layout.slice_rows)


def padded_start(layout: KernelLayout, seed: int) -> NDArray[np.float16]:
    """The start vector over all rows in these clusters, zero for those of padding."""
    start = np.zeros(filled_rows(layout) * layout.slice_rows, np.float16)
    start[: layout.rows] = start_vector(layout.rows, seed, np.dtype(np.float32))
    return start


def unpack(read: ReadBank, layout: KernelLayout) -> Bidiagonal:
    """The factors that a kernel left in the banks.

    Raises:
        DcomError: they are none: a kernel that was not compiled from a decomposition.
    """
    k = layout.iterations

    def values(bank: int, offset: int, count: int, kind: type[np.generic]) -> Array:
        return read(bank, offset, count * np.dtype(kind).itemsize).copy().view(kind)

    alpha = values(0, layout.alpha_offset, k, np.float32)
    beta = values(0, layout.alpha_offset + alpha.nbytes, k, np.float32)
    steps, grown = np.count_nonzero(alpha), np.count_nonzero(beta)
    if not steps - 1 <= grown <= steps:
        raise DcomError(f"a kernel left {steps} alphas and {grown} betas, which are no bidiagonal", hint=_AGAIN)
    u = [
        values(0, layout.u_offset + row * layout.u_stride, (k + 1) * layout.slice_rows, np.float16).reshape(k + 1, -1)
        for row in range(filled_rows(layout))
    ]
    v = [
        values(bank, layout.v_offset, k * layout.slice_cols, np.float16).reshape(k, -1)
        for bank in range(ceil(layout.cols / layout.slice_cols))
    ]
    left = np.concatenate(u, axis=1)[: grown + 1, : layout.rows].T
    right = np.concatenate(v, axis=1)[:steps, : layout.cols]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise DcomError("a kernel left a basis with values that are not finite", hint=_AGAIN)
    return Bidiagonal(left, alpha[:steps], beta[:grown], right)
