"""lower-cluster-to-isa: the instructions of each scheduled kernel."""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from dcomc.diagnostics import DcomError
from dcomc.ir import errors_at
from dialects import cluster, isa
from passes._kernel_check import check_body, check_slices, refuse
from passes._kernels import BANKS, MAPPING, numbers, only
from passes._partial_sums import PartialSumsLowering
from passes._rounds import RoundsLowering
from passes._streams import part_of_mapped, rectangles
from runtime.machine import Machine, load_machine

_PLACED = cluster.MatrixOp | cluster.AllocOp | cluster.BankRoomOp


@dataclass(frozen=True)
class LowerClusterToIsaPass(ModulePass):
    """Replace each `cluster.kernel` by an `isa.kernel` of instructions.

    A loop over turns becomes a hardware loop. An address that moves with the turn is a register, advanced at the end
    of the turn by the bytes of one vector. A product with a streamed matrix becomes a loop over pairs of chunks: while
    one is multiplied, the bank fills the other, and at the end of a pass the next pass's first. Where several matrices
    are in flight, the instructions for each are written out and interleaved, and the loop is over rounds; as it is
    where the kernel has several streams, which all begin at the same place.

    Before:

        cluster.all_reduce %z across "rows" : !cluster.vector<576, cols>

    After:

        isa.reduce.col [r0+0x120], 40
        isa.bcast.col [r0+0x120], 40
    """

    name = "lower-cluster-to-isa"

    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where a kernel is not scheduled, or the machine cannot do what it says."""
        machine = load_machine(self.machine)
        for kernel in list(op.body.block.ops):
            if isinstance(kernel, cluster.KernelOp):
                with errors_at(kernel.location):
                    lowered = lower_kernel(kernel, part_of_mapped(kernel, machine), rectangles(kernel, machine))
                Rewriter.replace_op(kernel, lowered)


def lower_kernel(kernel: cluster.KernelOp, machine: Machine, streams: Sequence[isa.Rectangle] = ()) -> isa.KernelOp:
    """The instructions of a scheduled kernel.

    Args:
        machine: the rectangle of its stream.
        streams: the rectangles of several, which all run the same instructions.

    Raises:
        DcomError: it is not scheduled, or the machine cannot do what it says.
    """
    name = f"kernel @{kernel.sym_name.data}"
    if kernel.mapping is None or kernel.banks is None:
        raise DcomError(f"{name} is not scheduled", hint="run cluster-map and cluster-schedule")
    if any(op.offset is None for op in kernel.body.block.ops if isinstance(op, _PLACED)):
        raise DcomError(f"{name} has something without an offset", hint="run cluster-schedule")
    slices, banks = numbers(kernel, kernel.mapping, MAPPING), numbers(kernel, kernel.banks, BANKS)
    matrix = only(kernel, cluster.MatrixOp)
    check_slices(kernel, matrix, slices, machine)
    check_body(kernel, only(kernel, cluster.ForOp))
    _check_chunks(matrix, slices["slice_rows"] // machine.cluster.mac_rows)
    lowering = RoundsLowering if slices["in_flight"] > 1 else PartialSumsLowering
    if streams:
        for op in kernel.walk():
            if isinstance(op, cluster.ExchangeOp):
                refuse(op, "several streams would exchange sums at the same place of the global memory", "map to one")
    return lowering(kernel, slices, banks, machine).kernel(streams)


def _check_chunks(matrix: cluster.MatrixOp, tile_rows: int) -> None:
    if matrix.chunks is None:
        refuse(matrix, "the matrix has no number of chunks", "run cluster-schedule")
    chunks = matrix.chunks.value.data
    if chunks != 1 and (chunks < 2 or chunks % 2 or tile_rows % chunks):
        refuse(matrix, f"{chunks} chunks of {tile_rows} tile rows", "1, or an even number of equal ones")
