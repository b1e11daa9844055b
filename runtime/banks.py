"""A launch's data in the banks: activations scaled, rounded and cut into tiles, and factors read back."""

from collections.abc import Callable, Sequence
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError
from runtime.deal import rounds
from runtime.groups import Groups
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


def pack(
    matrices: Sequence[NDArray[np.float16]], layout: KernelLayout, seed: int | None, machine: Machine
) -> NDArray[np.uint8]:
    """The banks before a run, [grid columns, bytes]: the activations in tiles and the start vector.

    Args:
        matrices: [S, H] each; matrix t * groups + g is that of group g in turn t.
    """
    cluster, groups = machine.cluster, Groups.of(layout, machine.grid)
    turns = layout.in_flight * rounds(len(matrices), layout, machine)
    banks = np.zeros((machine.grid.cols, turns, layout.bank_bytes), np.uint8)
    down, across = groups.cut
    for index, a in enumerate(matrices):
        padded = np.zeros((down * layout.slice_rows, across * layout.slice_cols), np.float16)
        padded[: layout.rows, : layout.cols] = a
        tiles = padded.reshape(
            down,
            layout.slice_rows // cluster.mac_rows,
            cluster.mac_rows,
            across,
            layout.slice_cols // cluster.mac_cols,
            cluster.mac_cols,
        ).transpose(0, 3, 1, 4, 2, 5)
        blocks = np.ascontiguousarray(tiles).reshape(groups.rows, groups.cols, -1).view(np.uint8)
        turn, group = divmod(index, groups.count)
        top, left = groups.corner(group)
        for row in range(groups.rows_filled(layout)):
            start = layout.a_offset + (top + row) * layout.a_stride
            banks[left : left + groups.cols, turn, start : start + blocks.shape[2]] = blocks[row]
    start = start_of_rows(layout, seed, machine)
    banks[:, :, layout.start_offset : layout.start_offset + start.nbytes] = start.view(np.uint8)
    return banks.reshape(machine.grid.cols, -1)


def start_of_rows(layout: KernelLayout, seed: int | None, machine: Machine) -> NDArray[np.float16]:
    """What each row of the grid holds of the start vector, one after another; zero for rows of padding."""
    groups = Groups.of(layout, machine.grid)
    start = np.zeros(groups.cut[0] * layout.slice_rows, np.float16)
    start[: layout.rows] = start_vector(layout.rows, seed, np.dtype(np.float32))
    return np.tile(start, machine.grid.rows // groups.cut[0])[: groups.rows_used(layout) * layout.slice_rows]


def unpack(read: ReadBank, layout: KernelLayout, machine: Machine, index: int = 0) -> Bidiagonal:
    """The factors that a kernel left in the banks of one of its matrices, by its number in the run.

    Raises:
        DcomError: they are none: a kernel that was not compiled from a decomposition.
    """
    k, groups = layout.iterations, Groups.of(layout, machine.grid)
    turn, group = divmod(index, groups.count)
    top, left = groups.corner(group)
    base = turn * layout.bank_bytes

    def values(bank: int, offset: int, count: int, kind: type[np.generic]) -> Array:
        return read(left + bank, base + offset, count * np.dtype(kind).itemsize).copy().view(kind)

    def place(offset: int, row: int, stride: int) -> int:
        return offset + (top + row) * stride

    scalars = values(0, place(layout.alpha_offset, 0, 8 * k), 2 * k, np.float32)
    alpha, beta = scalars[:k], scalars[k:]
    steps, grown = int(np.count_nonzero(alpha)), int(np.count_nonzero(beta))
    if not steps - 1 <= grown <= steps:
        raise DcomError(f"a kernel left {steps} alphas and {grown} betas, which are no bidiagonal", hint=_AGAIN)
    u = [
        values(0, place(layout.u_offset, row, layout.u_stride), (k + 1) * layout.slice_rows, np.float16).reshape(
            k + 1, -1
        )
        for row in range(groups.rows_held(layout))
    ]
    v = [
        values(bank, place(layout.v_offset, row, 2 * k * layout.slice_cols), k * layout.slice_cols, np.float16).reshape(
            k, -1
        )
        for row, bank in groups.columns_held(layout)
    ]
    basis_u = np.concatenate(u, axis=1)[: grown + 1, : layout.rows].T
    basis_v = np.concatenate(v, axis=1)[:steps, : layout.cols]
    if not (np.isfinite(basis_u).all() and np.isfinite(basis_v).all()):
        raise DcomError("a kernel left a basis with values that are not finite", hint=_AGAIN)
    return Bidiagonal(basis_u, alpha[:steps], beta[:grown], basis_v)
