"""cluster-map: which clusters work on a matrix together, and how much of it each of them holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from dcomc.diagnostics import DcomError
from dcomc.ir import errors_at
from dialects.cluster import KernelOp, MatrixOp
from passes._kernels import LONGEST, dictionary, only
from passes._rounds import MOST_IN_FLIGHT, instructions
from passes.cluster_schedule import slot_bytes
from runtime.encoding import WORD_BYTES
from runtime.machine import Machine, load_machine

_GROUP = re.compile(r"([1-9]\d*)x([1-9]\d*)", re.ASCII)
_MOST_CODE = 64 << 10
"""Bytes of instructions that a kernel may have."""


@dataclass(frozen=True)
class ClusterMapPass(ModulePass):
    """Cut the grid into equal groups of clusters, which decompose a matrix each, and the matrix over its group.

    A cluster's slice is a whole number of tiles; what does not divide is padded with zeros, which change no result.
    `mapping` is `grid`: one group of all clusters, the matrix cut by rows and columns; `column` or `cluster`: a group
    is a cluster column, or a cluster; or the rows and columns of a group, such as `8x8`. A group that is not all of
    the grid holds its matrix folded: cut by its columns alone, over all clusters of the group, so that A^T u needs no
    reduction, and vectors along the rows are whole in each cluster. `in_flight` matrices go through a group at a time,
    their instructions interleaved: as many as find room in the buffers and as instructions for, unless given.

    Before:

        cluster.kernel @k attributes {…} { %a = cluster.matrix : !cluster.matrix<512x576> … }

    After, on 16 x 16 clusters of 8 x 8:

        cluster.kernel @k attributes {mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 40 : i64,
          slice_rows = 32 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, …} { … }
    """

    name = "cluster-map"

    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""
    mapping: str = "grid"
    """Groups: `grid`, `column`, `cluster`, or rows and columns of clusters, such as `8x8`."""
    in_flight: int | None = None
    """Matrices of a group at a time: as many as fit, unless given."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where the groups do not fill the grid, or a kernel's matrix is too long for it."""
        machine = load_machine(self.machine)
        group = _group(self.mapping, machine)
        for kernel in op.body.block.ops:
            if isinstance(kernel, KernelOp):
                with errors_at(kernel.location):
                    kernel.properties["mapping"] = dictionary(self._mapping(kernel, group, machine))

    def _mapping(self, kernel: KernelOp, group: tuple[int, int], machine: Machine) -> dict[str, int]:
        rows, cols = only(kernel, MatrixOp).matrix.type.shape
        tile, grid = machine.cluster, machine.grid
        span_rows, span_cols = group
        whole = (span_rows, span_cols) == (grid.rows, grid.cols)
        down, across = (span_rows, span_cols) if whole else (1, span_rows * span_cols)
        slice_rows, slice_cols = _slice(rows, down, tile.mac_rows), _slice(cols, across, tile.mac_cols)
        if max(slice_rows, slice_cols) > LONGEST:
            raise DcomError(
                f"an activation of {rows} x {cols} gives a cluster {slice_rows} x {slice_cols} elements",
                hint=f"an instruction counts to {LONGEST}; trace a shorter sequence or use a larger grid",
            )
        values = {
            "slice_rows": slice_rows,
            "slice_cols": slice_cols,
            "span_rows": span_rows % grid.rows,
            "span_cols": span_cols % grid.cols,
            "folded": int(not whole),
        }
        default = 1 if whole else _most_in_flight(kernel, values, machine)
        return {**values, "in_flight": default if self.in_flight is None else self.in_flight}


def _group(mapping: str, machine: Machine) -> tuple[int, int]:
    """Rows and columns of clusters in a group."""
    grid = machine.grid
    named = {"grid": (grid.rows, grid.cols), "column": (grid.rows, 1), "cluster": (1, 1)}
    match = _GROUP.fullmatch(mapping)
    if mapping not in named and match is None:
        raise DcomError(
            f"unknown mapping '{mapping}'", hint=f"one of {', '.join(named)}, or rows and columns of a group, as 8x8"
        )
    rows, cols = named[mapping] if match is None else (int(match[1]), int(match[2]))
    if grid.rows % rows or grid.cols % cols:
        raise DcomError(
            f"groups of {rows} x {cols} do not fill the {grid.rows} x {grid.cols} clusters of {machine.name}",
            hint="give divisors of these",
        )
    return rows, cols


def _most_in_flight(kernel: KernelOp, values: Mapping[str, int], machine: Machine) -> int:
    """As many matrices as have room in the buffers and leave the kernel short; 1 if need be."""
    each = slot_bytes(kernel, values, machine)
    for count in range(MOST_IN_FLIGHT, 1, -1):
        short = instructions(kernel, count) * WORD_BYTES <= _MOST_CODE
        if count * each <= machine.cluster.buffer_bytes and short:
            return count
    return 1


def _slice(length: int, clusters: int, tile: int) -> int:
    return tile * ceil(length / (clusters * tile))
