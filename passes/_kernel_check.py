"""What must hold of a kernel, beyond what its operations verify by themselves, for instructions to do what it says."""

from collections.abc import Mapping
from typing import NoReturn

from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Block, Operation, SSAValue

from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects import cluster
from dialects.cluster_types import COLS, ROWS, BasisType, CellsType, VectorType, parts_of, shift_of
from passes._kernels import LONGEST
from runtime.machine import Machine
from runtime.operands import SCALAR_REGISTERS

_OUTPUTS = {"u": ROWS, "v": COLS, "alpha": None, "beta": None}
"""The axis of the basis that an output takes; None takes cells."""
_OF_SLICES = (
    cluster.AllReduceOp
    | cluster.DotsOp
    | cluster.LoadStartOp
    | cluster.MatvecOp
    | cluster.MatvecTransposedOp
    | cluster.Norm2Op
    | cluster.OutputOp
    | cluster.ScaleOp
    | cluster.SubtractOp
)
_OF_EACH = (
    cluster.AllReduceOp,
    cluster.DotOp,
    cluster.ExchangeOp,
    cluster.GatherOp,
    cluster.GroupReduceOp,
    cluster.MinusOp,
    cluster.MultiplyOp,
    cluster.PartOp,
    cluster.ProjectOutOp,
    cluster.ReadOp,
    cluster.ReplicaReduceOp,
    cluster.SumOp,
    cluster.WriteOp,
)
"""What may be done for each vector of a turn."""
_COUNTED = cluster.DotsOp | cluster.SubtractOp | cluster.AllReduceOp


def refuse(op: Operation, what: str, hint: str | None = None) -> NoReturn:
    """Raise `DcomError` at the place that an operation comes from."""
    raise DcomError(what, hint=hint, place=place_of(op.location))


def check_slices(
    kernel: cluster.KernelOp, matrix: cluster.MatrixOp, slices: Mapping[str, int], machine: Machine
) -> None:
    """Raise `DcomError` unless the slices are whole tiles that together hold the matrix, and vectors lie along it."""
    rows, cols = (
        slices[f"span_{axis}"] or side for axis, side in ((ROWS, machine.grid.rows), (COLS, machine.grid.cols))
    )
    if machine.grid.rows % rows or machine.grid.cols % cols or slices["folded"] > 1 or not slices["in_flight"]:
        what = f"groups of {rows} x {cols} clusters, folded = {slices['folded']}, in_flight = {slices['in_flight']}"
        refuse(kernel, f"kernel @{kernel.sym_name.data}: {what}", "let cluster-map write it")
    down, across = (1, rows * cols) if slices["folded"] else (rows, cols)
    sides = ((ROWS, down, machine.cluster.mac_rows), (COLS, across, machine.cluster.mac_cols))
    for axis, clusters, tile in sides:
        size, length = slices[f"slice_{axis}"], matrix.matrix.type.length(axis)
        if size < 1 or size % tile or size * clusters < length or size > LONGEST:
            what = f"slice_{axis} = {size} are no whole tiles of {tile} in which {clusters} clusters hold {length}"
            refuse(kernel, f"kernel @{kernel.sym_name.data}: {what}", "let cluster-map write it")
    for op in kernel.body.block.ops:
        if isinstance(op, cluster.AllocOp | cluster.BankRoomOp) and isinstance(op.room.type, BasisType | VectorType):
            axis = op.room.type.axis.data
            length = op.room.type.length if isinstance(op.room.type, VectorType) else op.room.type.shape[1]
            _check_parts(op, slices, machine.grid.rows if axis == COLS else machine.grid.cols)
            if length != matrix.matrix.type.length(axis):
                refuse(op, f"{length} elements along the {axis} of a matrix of {matrix.matrix.type.length(axis)}")


def _check_parts(op: cluster.AllocOp | cluster.BankRoomOp, slices: Mapping[str, int], line: int) -> None:
    """Check what is cut once more over the line of clusters that would hold a slice."""
    if not isinstance(op.room.type, BasisType | VectorType) or not len(op.room.type.parts):
        return
    held, of = parts_of(op.room.type)
    if slices["folded"] or slices["span_rows"] or slices["span_cols"] or slices["in_flight"] > 1:
        refuse(op, "vectors in parts need all clusters for one matrix", "cluster-map{mapping=grid in_flight=1}")
    if of != line or line % held:
        refuse(op, f"{held} of {of} parts on a line of {line} clusters", "as many parts as clusters, in equal runs")


def check_body(kernel: cluster.KernelOp, loop: cluster.ForOp) -> None:
    """Raise `DcomError` for the first operation that cannot be where it is, or reaches past what is allocated."""
    if kernel.body.block.args:
        refuse(kernel, f"kernel @{kernel.sym_name.data} takes arguments", "a kernel has none")
    if kernel.seed is not None and not 0 <= kernel.seed.value.data < 1 << 63:
        refuse(kernel, f"seed {kernel.seed.value.data} is not between 0 and 2^63 - 1")
    defined: set[SSAValue] = set()
    scalars = _check_block(kernel.body.block, defined, loop, inside=False)
    own = set(kernel.walk())
    for user in (use.operation for value in defined for use in value.uses):
        if user not in own:
            refuse(user, f"{user.name} reads a value of kernel @{kernel.sym_name.data} from outside")
    if scalars > SCALAR_REGISTERS:
        refuse(
            kernel, f"kernel @{kernel.sym_name.data} has {scalars} scalars, but {SCALAR_REGISTERS} registers for them"
        )


def _check_block(block: Block, defined: set[SSAValue], loop: cluster.ForOp, *, inside: bool) -> int:
    """Check the operations of a block in order; returns the number of scalars that they give."""
    scalars = 0
    for op in block.ops:
        if op.dialect_name() != cluster.Cluster.name:
            refuse(op, f"{op.name} has no lowering to instructions")
        for operand in op.operands:
            if operand not in defined:
                refuse(op, f"{op.name} reads a value that is not there yet")
        if inside and isinstance(op, cluster.MatrixOp | cluster.AllocOp | cluster.BankRoomOp | cluster.ForOp):
            refuse(op, f"{op.name} stands in a loop", "move it to the top of the kernel")
        if op is loop:
            defined.update(loop.body.block.args)
            scalars += _check_block(loop.body.block, defined, loop, inside=True)
        if isinstance(op, cluster.EachOp):
            if not inside:
                refuse(op, f"{op.name} stands outside of the loop", "it counts the vectors of a turn")
            defined.update(op.body.block.args)
            scalars += _check_block(op.body.block, defined, loop, inside=True)
            _check_each(op, loop.count.value.data)
        _check_places(op)
        _check_reach(op, loop.count.value.data)
        defined.update(op.results)
        scalars += sum(not isinstance(op, cluster.MatrixOp | cluster.AllocOp | cluster.BankRoomOp) for _ in op.results)
    return scalars


def _check_places(op: Operation) -> None:
    """Check that an operation finds its operands where it looks: in the buffers, whole slices unless it takes parts."""
    for operand in op.operands:
        if isinstance(operand.owner, cluster.BankRoomOp) and operand is not getattr(op, "room", None):
            refuse(op, f"{op.name} takes what is in the banks", "read it into a buffer")
        kind = operand.type
        if isinstance(op, _OF_SLICES) and isinstance(kind, BasisType | VectorType) and len(kind.parts):
            refuse(op, f"{op.name} takes whole slices, not {kind}")


def _check_each(each: cluster.EachOp, turns: int) -> None:
    """Check that vectors of each turn are there, and that what counts them stands in no second such loop."""
    shift = shift_of(each.shift)
    if not 0 <= shift <= 1:
        refuse(each, f"{each.name} reaches {shift} past the turn", "at most one")
    (number,) = each.body.block.args
    for op in each.body.block.ops:
        if isinstance(op, cluster.EachOp):
            refuse(op, f"{op.name} stands in another", "one after another")
        if not isinstance(op, _OF_EACH):
            refuse(op, f"{op.name} stands in {each.name}", f"it holds {', '.join(kind.name for kind in _OF_EACH)}")
        if getattr(op, "index", number) not in (None, number):
            refuse(op, f"{op.name} takes the number of the turn in {each.name}", "take that of the vector")
        last, there = turns + shift - 1, _numbered(op)
        if there is not None and last > there:
            refuse(op, f"{op.name} reaches {last} vectors in {turns} turns, but there are {there}")


def _numbered(op: Operation) -> int | None:
    """Vectors among which an operation takes one by its number; None for one that does not."""
    match op:
        case cluster.DotOp() | cluster.ProjectOutOp() if op.index is not None:
            kind = op.basis.type
        case cluster.PartOp() if op.index is not None:
            kind = op.source.type
        case cluster.ReadOp() | cluster.WriteOp() if op.index is not None:
            kind = op.room.type
        case _:
            return None
    return kind.shape[0] if isinstance(kind, BasisType) else 1


def _check_reach(op: Operation, turns: int) -> None:
    """Check that an operation stays within its bases and cells in every turn."""
    match op:
        case cluster.DotsOp() | cluster.SubtractOp():
            cells = op.out if isinstance(op, cluster.DotsOp) else op.cells
            rooms = (op.basis.type.shape[0], cells.type.count)
        case cluster.AllReduceOp() if op.count is not None and isinstance(op.data.type, CellsType):
            rooms = (op.data.type.count,)
        case cluster.MatvecOp() | cluster.MatvecTransposedOp() | cluster.ScaleOp():
            rooms = (op.basis.type.shape[0],)
        case cluster.StoreOp() if op.index is not None:
            rooms = (op.cells.type.count,)
        case cluster.OutputOp():
            axis = op.data.type.axis.data if isinstance(op.data.type, BasisType) else None
            if axis != _OUTPUTS[op.output.data]:
                refuse(op, f"output {op.output.data} is {op.data.type}", "u and v are bases, alpha and beta cells")
            return
        case _:
            there = _numbered(op)
            if there is None or isinstance(op.parent_op(), cluster.EachOp):
                return
            rooms = (there,)
    attribute = op.properties.get("shift")
    shift = attribute.value.data if isinstance(attribute, IntegerAttr) else 0
    if not 0 <= shift <= 1:
        refuse(op, f"{op.name} reaches {shift} past the turn", "at most one")
    last = turns + shift - (1 if isinstance(op, _COUNTED) else 0)
    if last > min(rooms):
        refuse(op, f"{op.name} reaches {last} vectors or cells in {turns} turns, but there are {min(rooms)}")
