"""cluster-map: how much of the matrix each cluster holds."""

from dataclasses import dataclass
from math import ceil

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from dcomc.diagnostics import DcomError
from dialects.cluster import KernelOp, MatrixOp
from passes._kernels import LONGEST, dictionary, only
from runtime.machine import load_machine


@dataclass(frozen=True)
class ClusterMapPass(ModulePass):
    """Cut the matrix of each kernel over all clusters: one prompt at a time on the whole grid.

    A cluster's slice is a whole number of tiles; what does not divide is padded with zeros, which change no result.

    Before:

        cluster.kernel @k attributes {…} { %a = cluster.matrix : !cluster.matrix<512x576> … }

    After, on 16 x 16 clusters of 8 x 8:

        cluster.kernel @k attributes {mapping = {slice_cols = 40 : i64, slice_rows = 32 : i64}, …} { … }
    """

    name = "cluster-map"

    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        machine = load_machine(self.machine)
        for kernel in op.body.block.ops:
            if isinstance(kernel, KernelOp):
                rows, cols = only(kernel, MatrixOp).matrix.type.shape
                slice_rows = _slice(rows, machine.grid.rows, machine.cluster.mac_rows)
                slice_cols = _slice(cols, machine.grid.cols, machine.cluster.mac_cols)
                if max(slice_rows, slice_cols) > LONGEST:
                    raise DcomError(
                        f"an activation of {rows} x {cols} gives a cluster {slice_rows} x {slice_cols} elements",
                        hint=f"an instruction counts to {LONGEST}; trace a shorter sequence or use a larger grid",
                    )
                kernel.properties["mapping"] = dictionary({"slice_rows": slice_rows, "slice_cols": slice_cols})


def _slice(length: int, clusters: int, tile: int) -> int:
    return tile * ceil(length / (clusters * tile))
