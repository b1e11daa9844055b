"""cluster-schedule: where everything lies in the buffers and banks, and whether the matrix stays or streams."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, lcm

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.passes import ModulePass

from dcomc.diagnostics import DcomError
from dcomc.ir import errors_at
from dialects.cluster import AllocOp, KernelOp, MatrixOp
from dialects.cluster_partial import BankRoomOp
from dialects.cluster_types import COLS, ROWS, BasisType, CellsType, VectorType, length_in
from passes._kernel_check import check_slices
from passes._kernels import LONGEST, MAPPING, basis_along, dictionary, numbers, only
from passes._streams import part_of_mapped
from runtime.machine import Machine, load_machine
from runtime.operands import BYTES, AddressKind

_REACH = 1 << AddressKind.OFFSET_BITS
"""Everything that an instruction names begins below this buffer address."""
_LONGEST_STREAM = (1 << BYTES.bits) - 1
_ELEMENT_BYTES = 2
"""Bank addresses are a multiple of these."""


@dataclass(frozen=True)
class ClusterSchedulePass(ModulePass):
    """Allocate the buffers and the banks of each mapped kernel.

    Vectors, bases and scalars come first in the buffer. If a cluster's block of the matrix fits into what remains, it
    stays there for the whole kernel. Otherwise each pass streams it in an even number of equal chunks of tile rows,
    one loading while the other is used, and the slice is padded to whole chunks. Where several matrices are in flight,
    each has a part of the buffer like the first's, and its block stays.

    Before:

        cluster.kernel @k attributes {mapping = {…}, …} { %a = cluster.matrix : … %u = cluster.alloc : … }

    After:

        cluster.kernel @k attributes {banks = {a_offset = 0 : i64, …}, mapping = {…}, …} {
          %a = cluster.matrix {chunks = 1 : i64, offset = 12288 : i64} : …
          %u = cluster.alloc {offset = 0 : i64} : …
        }
    """

    name = "cluster-schedule"

    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where a kernel has no mapping, or no room in the buffers or banks."""
        machine = load_machine(self.machine)
        for kernel in op.body.block.ops:
            if isinstance(kernel, KernelOp):
                with errors_at(kernel.location):
                    schedule(kernel, part_of_mapped(kernel, machine))


def schedule(kernel: KernelOp, machine: Machine) -> None:
    """Allocate the buffers and banks of a mapped kernel on the rectangle of its stream; raises `DcomError`."""
    if kernel.mapping is None:
        raise DcomError(f"kernel @{kernel.sym_name.data} has no mapping", hint="run cluster-map first")
    slices = numbers(kernel, kernel.mapping, MAPPING)
    matrix = only(kernel, MatrixOp)
    check_slices(kernel, matrix, slices, machine)
    allocs = [op for op in kernel.body.block.ops if isinstance(op, AllocOp)]
    tile_rows, tile_cols = (
        slices["slice_rows"] // machine.cluster.mac_rows,
        slices["slice_cols"] // machine.cluster.mac_cols,
    )
    if slices["in_flight"] > 1:
        _check_in_flight(kernel, slices, machine)
        chunks, rows_in_chunk = 1, tile_rows
    else:
        chunks, rows_in_chunk = _chunks(kernel, allocs, slices, tile_rows, tile_cols, machine)
    slices["slice_rows"] = chunks * rows_in_chunk * machine.cluster.mac_rows

    used = 0
    for alloc in allocs:
        alloc.properties["offset"] = IntegerAttr(used, i64)
        used += _align(alloc_bytes(alloc.room.type, slices), 4)
    matrix.properties["chunks"] = IntegerAttr(chunks, i64)
    matrix.properties["offset"] = IntegerAttr(_align(used, machine.tile_bytes), i64)
    kernel.properties["mapping"] = dictionary(slices)
    kernel.properties["banks"] = dictionary(_banks(kernel, slices, machine))


def slot_bytes(kernel: KernelOp, slices: Mapping[str, int], machine: Machine) -> int:
    """Bytes of buffer for one matrix in flight: its vectors, bases and scalars, and a cluster's block of it."""
    allocs = [op for op in kernel.body.block.ops if isinstance(op, AllocOp)]
    used = sum(_align(alloc_bytes(alloc.room.type, slices), 4) for alloc in allocs)
    return _align(
        _align(used, machine.tile_bytes) + 2 * slices["slice_rows"] * slices["slice_cols"], machine.tile_bytes
    )


def _check_in_flight(kernel: KernelOp, slices: Mapping[str, int], machine: Machine) -> None:
    each, count = slot_bytes(kernel, slices, machine), slices["in_flight"]
    capacity = min(machine.cluster.buffer_bytes, _REACH)
    if count * each > capacity:
        raise DcomError(
            f"kernel @{kernel.sym_name.data} needs {each} bytes of buffer for each of {count} matrices in flight, but "
            f"{machine.name} has {capacity} in a cluster",
            hint=f"at most {capacity // each} fit" if each <= capacity else "give it larger groups of clusters",
        )


def _chunks(
    kernel: KernelOp,
    allocs: list[AllocOp],
    slices: Mapping[str, int],
    tile_rows: int,
    tile_cols: int,
    machine: Machine,
) -> tuple[int, int]:
    """Number of chunks, 1 where the block is resident, and tile rows in each.

    Of what fits it is what reads the fewest rows of padding, then the fewest chunks. Padding to whole chunks lengthens
    the vectors along the rows, so the room is looked at for each candidate. Of a buffer larger than instructions reach
    a part stays unused.
    """
    capacity = machine.cluster.buffer_bytes
    candidates = sorted(range(2, tile_rows + 2, 2), key=lambda chunks: chunks * ceil(tile_rows / chunks))
    for chunks in (1, *candidates):
        rows_in_chunk = ceil(tile_rows / chunks)
        padded = {**slices, "slice_rows": chunks * rows_in_chunk * machine.cluster.mac_rows}
        used = sum(_align(alloc_bytes(alloc.room.type, padded), 4) for alloc in allocs)
        chunk = rows_in_chunk * tile_cols * machine.tile_bytes
        last = _align(used, machine.tile_bytes) + (0 if chunks == 1 else chunk)
        encodable = last < _REACH and chunk <= _LONGEST_STREAM and padded["slice_rows"] <= LONGEST
        if encodable and last + chunk <= capacity:
            return chunks, rows_in_chunk
    used = sum(_align(alloc_bytes(alloc.room.type, slices), 4) for alloc in allocs)
    raise DcomError(
        f"kernel @{kernel.sym_name.data} needs {used} bytes of buffer for vectors and bases and "
        f"{2 * tile_cols * machine.tile_bytes} for two tile rows of the activation, but "
        + (f"{machine.name} has {capacity} in a cluster" if capacity <= _REACH else f"instructions reach {_REACH}"),
        hint="use fewer iterations, a shorter sequence, or a machine with larger buffers or more clusters",
    )


def _banks(kernel: KernelOp, slices: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """Bank addresses from the launch's base on, each on a whole transfer of the bank, and a whole element."""
    line = lcm(machine.bank.stream_bytes_per_cycle, _ELEMENT_BYTES)
    u_vectors = basis_along(kernel, ROWS).shape[0]
    v_vectors = basis_along(kernel, COLS).shape[0]
    block = 2 * slices["slice_rows"] * slices["slice_cols"]
    several_down = 0 < slices["span_rows"] < machine.grid.rows
    rows_of_v = machine.grid.rows if slices["folded"] or several_down else 1
    u_stride = _align(2 * u_vectors * slices["slice_rows"], line)
    sizes = {
        "a_offset": block * machine.grid.rows,
        "start_offset": 2 * slices["slice_rows"] * machine.grid.rows,
        "u_offset": u_stride * machine.grid.rows,
        "v_offset": 2 * v_vectors * slices["slice_cols"] * rows_of_v,
        "alpha_offset": 8 * v_vectors * (machine.grid.rows if several_down else 1),
    }
    layout: dict[str, int] = {"a_stride": block, "u_stride": u_stride}
    end = 0
    for name, size in sizes.items():
        layout[name] = end
        end = _align(end + size, line)
    for op in kernel.body.block.ops:
        if isinstance(op, BankRoomOp):
            op.properties["offset"] = IntegerAttr(end, i64)
            end = _align(end + alloc_bytes(op.room.type, slices) * machine.grid.rows, line)
    layout["bank_bytes"] = end
    if end > machine.bank.capacity_bytes:
        raise DcomError(
            f"kernel @{kernel.sym_name.data} needs {end} bytes of each bank, but {machine.name} has "
            f"{machine.bank.capacity_bytes}",
            hint="trace a shorter sequence",
        )
    return layout


def alloc_bytes(room: object, slices: Mapping[str, int]) -> int:
    """Bytes of an allocation in one cluster."""
    match room:
        case BasisType():
            return 2 * room.shape[0] * length_in(room, slices[f"slice_{room.axis.data}"])
        case VectorType():
            return 4 * length_in(room, slices[f"slice_{room.axis.data}"])
        case CellsType():
            return 4 * room.count
        case _:
            raise TypeError(f"{room} is no allocation")


def _align(size: int, to: int) -> int:
    return ceil(size / to) * to
