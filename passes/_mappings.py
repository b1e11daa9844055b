"""Groups of clusters for a kernel: those that a name means, and how they cut a matrix."""

from collections.abc import Mapping
from math import ceil

from dcomc.diagnostics import DcomError
from dialects.cluster import KernelOp, MatrixOp
from passes._kernels import LONGEST, only
from passes._rounds import MOST_IN_FLIGHT, instructions
from passes._streams import ROWS_AND_COLUMNS, Sides
from passes.cluster_schedule import slot_bytes
from runtime.encoding import WORD_BYTES
from runtime.machine import Machine

_MOST_CODE = 64 << 10
"""Bytes of instructions that a kernel may have."""

Values = dict[str, int]
"""What `mapping` of a kernel holds."""


def group_of(mapping: str, machine: Machine, part: str = "") -> Sides:
    """Rows and columns of clusters in a group; `part` says in an error of what part of the machine `machine` is.

    Raises:
        DcomError: the mapping is unknown, or its groups do not fill the grid.
    """
    grid = machine.grid
    named = {"grid": (grid.rows, grid.cols), "column": (grid.rows, 1), "cluster": (1, 1)}
    match = ROWS_AND_COLUMNS.fullmatch(mapping)
    if mapping not in named and match is None:
        names = ", ".join(("auto", *named))
        raise DcomError(f"unknown mapping '{mapping}'", hint=f"one of {names}, or rows and columns of a group, as 8x8")
    rows, cols = named[mapping] if match is None else (int(match[1]), int(match[2]))
    if grid.rows % rows or grid.cols % cols:
        raise DcomError(
            f"groups of {rows} x {cols} do not fill the {grid.rows} x {grid.cols} clusters of {part}{machine.name}",
            hint="give divisors of these",
        )
    return rows, cols


def slices_of(kernel: KernelOp, group: Sides, machine: Machine) -> Values:
    """How a kernel's matrix is cut over a group, with one matrix in flight.

    Raises:
        DcomError: a slice is longer than instructions count.
    """
    rows, cols = only(kernel, MatrixOp).matrix.type.shape
    tile, grid = machine.cluster, machine.grid
    span_rows, span_cols = group
    whole = group == (grid.rows, grid.cols)
    down, across = group if whole else (1, span_rows * span_cols)
    slice_rows, slice_cols = _slice(rows, down, tile.mac_rows), _slice(cols, across, tile.mac_cols)
    if max(slice_rows, slice_cols) > LONGEST:
        raise DcomError(
            f"an activation of {rows} x {cols} gives a cluster {slice_rows} x {slice_cols} elements",
            hint=f"an instruction counts to {LONGEST}; trace a shorter sequence or use a larger grid",
        )
    return {
        "slice_rows": slice_rows,
        "slice_cols": slice_cols,
        "span_rows": span_rows % grid.rows,
        "span_cols": span_cols % grid.cols,
        "folded": int(not whole),
        "in_flight": 1,
    }


def _slice(length: int, clusters: int, tile: int) -> int:
    return tile * ceil(length / (clusters * tile))


def mapping_of(kernel: KernelOp, group: Sides, machine: Machine, matrices: int, in_flight: int | None = None) -> Values:
    """How a kernel's matrix is cut over a group, and how many are in flight.

    Args:
        matrices: of the largest launch.
        in_flight: as many as have room and are there, unless given.

    Raises:
        DcomError: a slice is longer than instructions count, or so many in flight have no room.
    """
    values = slices_of(kernel, group, machine)
    if in_flight is not None:
        values["in_flight"] = in_flight
        _check_in_flight(kernel, values, machine)
        return values
    groups = machine.grid.rows * machine.grid.cols // (group[0] * group[1])
    values["in_flight"] = min(_most_in_flight(kernel, values, machine), ceil(matrices / groups))
    return values


def _most_in_flight(kernel: KernelOp, values: Mapping[str, int], machine: Machine) -> int:
    """As many matrices of a group as have room in the buffers and leave the kernel short; 1 if need be."""
    each = slot_bytes(kernel, values, machine)
    for count in range(MOST_IN_FLIGHT if values["folded"] else 1, 1, -1):
        short = instructions(kernel, count) * WORD_BYTES <= _MOST_CODE
        if count * each <= machine.cluster.buffer_bytes and short:
            return count
    return 1


def _check_in_flight(kernel: KernelOp, values: Mapping[str, int], machine: Machine) -> None:
    """Raise `DcomError` where so many matrices have no room in the buffers."""
    each, count = slot_bytes(kernel, values, machine), values["in_flight"]
    if count > 1 and count * each > machine.cluster.buffer_bytes:
        raise DcomError(
            f"in_flight {count}: kernel @{kernel.sym_name.data} needs {each} bytes of buffer for each of {count} "
            f"matrices in flight, but {machine.name} has {machine.cluster.buffer_bytes} in a cluster",
            hint=f"at most {max(1, machine.cluster.buffer_bytes // each)} fit",
        )
