"""A launch's data in the banks as the fast engine keeps them: [16-bit word, grid column]."""

from collections.abc import Sequence
from math import ceil, ldexp
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import fast_kernels as kernels
from runtime.banks import ReadBank, half_exponent, pack, start_of_rows, to_half_scaled
from runtime.deal import rounds
from runtime.fast_compile import compiled
from runtime.groups import Groups
from runtime.machine import Machine
from runtime.program import KernelLayout

Array = NDArray[Any]
Words = NDArray[np.uint16]


@compiled
def _largest_bits(values: NDArray[np.uint32]) -> np.uint32:
    """The largest magnitude among bits of binary32; 0x7F800000 and above is no finite number."""
    largest = np.uint32(0)
    for index in range(values.size):  # by index, and kept in 32 bits: so whole vectors are compared
        magnitude = np.uint32(values[index] & np.uint32(0x7FFFFFFF))
        if magnitude > largest:
            largest = magnitude
    return largest


class _Free:
    """Arrays of finished runs, kept for later ones: clearing used memory takes less time than touching fresh memory."""

    def __init__(self) -> None:
        self._arrays: list[Words] = []
        self._lock = Lock()

    def take(self, rows: int, cols: int) -> Words:
        """An array [rows, cols] with anything in it."""
        with self._lock:
            for index, array in enumerate(self._arrays):
                if array.shape == (rows, cols):
                    return self._arrays.pop(index)
            self._arrays.clear()  # of other work
        return np.empty((rows, cols), np.uint16)

    def zeros(self, rows: int, cols: int) -> Words:
        """An array [rows, cols] of zeros."""
        array = self.take(rows, cols)
        array.fill(0)
        return array

    def give(self, *arrays: Words) -> None:
        """Arrays that nobody uses any more."""
        with self._lock:
            self._arrays.extend(arrays)


FREE = _Free()


def by_word(banks: NDArray[np.uint8]) -> Words:
    """Banks of an even number of bytes, [grid columns, bytes], as [16-bit word, grid column]."""
    return np.ascontiguousarray(banks.view(np.uint16).T)


def by_bank(banks: Words) -> NDArray[np.uint8]:
    """Banks as [grid columns, bytes] again."""
    return np.ascontiguousarray(banks.T).view(np.uint8)


def reader(banks: Words) -> ReadBank:
    """Reads bytes of a bank; addresses and numbers must be even."""

    def read(bank: int, start: int, count: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(banks[start // 2 : (start + count) // 2, bank]).view(np.uint8)

    return read


def pack_scaled(
    matrices: Sequence[Array], layout: KernelLayout, seed: int | None, machine: Machine
) -> tuple[Words, tuple[int, ...]]:
    """`to_half_scaled` and `pack`; of binary32 matrices in two passes over each.

    Args:
        matrices: [S, H] each.

    Returns:
        The banks before a run, and the exponent of each matrix's scale.

    Raises:
        DcomError: a matrix has a NaN or an infinity.
    """
    if any(matrix.dtype != np.float32 for matrix in matrices):
        halves, exponents = zip(*map(to_half_scaled, matrices), strict=True)
        return by_word(pack(halves, layout, seed, machine)), exponents
    groups = Groups.of(layout, machine.grid)
    banks = _cleared(layout, machine, layout.in_flight * rounds(len(matrices), layout, machine))
    exponents = tuple(
        _tile(np.ascontiguousarray(matrix), layout, groups, machine, banks, index)
        for index, matrix in enumerate(matrices)
    )
    start, first = start_of_rows(layout, seed, machine), layout.start_offset // 2
    turns = banks.reshape(-1, layout.bank_bytes // 2, machine.grid.cols)
    turns[:, first : first + start.size] = start.view(np.uint16)[:, None]
    return banks, exponents


def _cleared(layout: KernelLayout, machine: Machine, turns: int) -> Words:
    """Banks of zeros; but of one matrix on the whole grid, what `_tile` writes in full may be anything."""
    if turns > 1 or layout.folded or layout.span_rows or layout.span_cols:
        return FREE.zeros(turns * layout.bank_bytes // 2, machine.grid.cols)
    banks = FREE.take(layout.bank_bytes // 2, machine.grid.cols)
    begin, end = layout.a_offset // 2, layout.a_offset // 2
    if layout.a_stride == 2 * layout.slice_rows * layout.slice_cols:
        end += ceil(layout.rows / machine.cluster.mac_rows) * machine.cluster.mac_rows * layout.slice_cols
    banks[:begin] = 0
    banks[end:] = 0
    return banks


def _tile(
    matrix: NDArray[np.float32], layout: KernelLayout, groups: Groups, machine: Machine, banks: Words, index: int
) -> int:
    """Put a run's matrix of that number in its place, in binary16 and tiles; the exponent of its scale."""
    largest = np.uint32(_largest_bits(matrix.view(np.uint32).reshape(-1))).view(np.float32)
    exponent = half_exponent(matrix, float(largest))
    turn, group = divmod(index, groups.count)
    top, left = groups.corner(group)
    slices, cluster = (layout.slice_rows, layout.slice_cols), machine.cluster
    # In binary64 the scale and the product are exact, so that binary32 rounds once, as ldexp does.
    scale = ldexp(1.0, -exponent)
    tile = kernels.tile(min(cluster.mac_cols, kernels.BLOCK))
    for row in range(groups.rows_filled(layout) if groups.folded else 1):
        start = turn * layout.bank_bytes + layout.a_offset + (top + row) * layout.a_stride
        place = (start // 2, layout.a_stride // 2, *slices, cluster.mac_rows, cluster.mac_cols)
        tile(matrix, scale, banks, *place, left, groups.cols, row * groups.cols * layout.slice_cols)
    return exponent
