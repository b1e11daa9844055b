"""What the passes over `cluster.kernel` look for in one; what a hand-written kernel lacks is an error that names it."""

from collections.abc import Mapping
from typing import TypeVar

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, i64
from xdsl.ir import Operation
from xdsl.utils.hints import isa

from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects.cluster import AllocOp, KernelOp
from dialects.cluster_types import BasisType
from runtime.operands import COUNT

_Op = TypeVar("_Op", bound=Operation)

LONGEST = (1 << (COUNT.bits - 1)) - 1
"""Elements of a vector in a cluster: an instruction counts to that."""

MAPPING = ("folded", "in_flight", "slice_cols", "slice_rows", "span_cols", "span_rows")
BANKS = (
    "a_offset",
    "a_stride",
    "alpha_offset",
    "bank_bytes",
    "start_offset",
    "u_offset",
    "u_stride",
    "v_offset",
)


def only(kernel: KernelOp, kind: type[_Op]) -> _Op:
    """The one operation of a kind at the top of a kernel; raises `DcomError` where there are none or several."""
    found = [op for op in kernel.body.block.ops if isinstance(op, kind)]
    if len(found) != 1:
        what = f"kernel @{kernel.sym_name.data} has {len(found)} {kind.name}"
        raise DcomError(what, hint="it needs one", place=place_of(kernel.location))
    return found[0]


def basis_along(kernel: KernelOp, axis: str) -> BasisType:
    """The type of the first basis along an axis; raises `DcomError` where there is none."""
    for op in kernel.body.block.ops:
        if isinstance(op, AllocOp) and isinstance(op.room.type, BasisType) and op.room.type.axis.data == axis:
            return op.room.type
    what = f"kernel @{kernel.sym_name.data} has no basis along its {axis}"
    raise DcomError(what, hint="it needs one for U and V", place=place_of(kernel.location))


def numbers(kernel: KernelOp, attribute: DictionaryAttr, keys: tuple[str, ...]) -> dict[str, int]:
    """A dictionary attribute of a kernel as numbers; raises `DcomError` unless it has these keys, each 0 or more."""
    values: dict[str, int] = {}
    for key, value in attribute.data.items():
        if isa(value, IntegerAttr):
            values[key] = value.value.data
    if tuple(sorted(values)) != keys or len(attribute.data) != len(keys) or min(values.values()) < 0:
        raise DcomError(
            f"kernel @{kernel.sym_name.data} has a mapping or banks other than {', '.join(keys)}, each 0 or more",
            hint="let cluster-map and cluster-schedule write them",
            place=place_of(kernel.location),
        )
    return values


def dictionary(values: Mapping[str, int]) -> DictionaryAttr:
    """Numbers as a dictionary attribute of i64."""
    return DictionaryAttr({key: IntegerAttr(value, i64) for key, value in sorted(values.items())})
