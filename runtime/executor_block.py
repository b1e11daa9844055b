"""Blocks of IR compiled once to a flat list of array operations; what every kernel of the executor is made of.

A block becomes a `Block`: a pure function of its arguments and of the values it captures from outside. Each operation
is a `Step`: its kernel, and slots of a frame that it reads and writes. A slot is cleared at its value's last use.

Values are never changed in place, so results may be views of their operands. A tensor is an array of the back end
(`runtime.executor_arrays`), whose element types are named by NumPy's: `f16`, `f32` and
`f64` are NumPy's float16, float32 and float64; `bf16` is ml_dtypes' bfloat16; `index` is int64; signless integers are
signed; `i1` is bool.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    TensorType,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Operation, SSAValue

from dcomc.diagnostics import DcomError
from dcomc.ir import describe_location
from runtime.executor_arrays import Arrays, Value

Kernel: TypeAlias = Callable[..., Sequence[Value]]
"""Takes an operation's operands, then the values captured by its regions; returns its results."""

Observer: TypeAlias = Callable[[Operation, Sequence[Value], Sequence[Value]], None]
"""Called after an operation outside of linalg bodies, with its operands and its results."""


@dataclass(frozen=True)
class Fusion:
    """One kernel for several operations of a block, run in the place of the last of them."""

    kernel: Kernel
    operands: tuple[SSAValue, ...]
    absorbed: frozenset[Operation]
    """The others, whose results nothing else uses, unless they are among these."""
    results: tuple[SSAValue, ...] | None = None
    """What the kernel gives; the results of the last operation unless given."""


class Host(Protocol):
    """What makes kernels: the executor, as the builders of kernels see it."""

    observer: Observer | None
    arrays: Arrays

    def build(self, op: Operation, host: "Host") -> Kernel:
        """The kernel of `op` as part of `host`; raises `DcomError` when the operation is not supported."""
        ...

    def fusions(self, operations: Sequence[Operation]) -> Mapping[Operation, Fusion]:
        """What of a block runs by fused kernels, by the operation in whose place each stands."""
        ...


Builder: TypeAlias = Callable[[Any, Host], Kernel]
"""Makes the kernel of an operation of the one class that it is registered for."""


def unary(function: Callable[[Any], Value]) -> Kernel:
    """The kernel of one operand and one result."""

    def kernel(x: Value) -> tuple[Value]:
        return (function(x),)

    return kernel


def binary(function: Callable[[Any, Any], Value]) -> Kernel:
    """The kernel of two operands and one result."""

    def kernel(x: Value, y: Value) -> tuple[Value]:
        return (function(x, y),)

    return kernel


def variadic(function: Callable[..., Value]) -> Kernel:
    """The kernel of any number of operands and one result."""

    def kernel(*operands: Value) -> tuple[Value]:
        return (function(*operands),)

    return kernel


def headed(function: Callable[[Any, Sequence[Any]], Value]) -> Kernel:
    """The kernel of one operand, a list of further ones, and one result."""

    def kernel(x: Value, *rest: Value) -> tuple[Value]:
        return (function(x, rest),)

    return kernel


def failure(op: Operation, what: str, hint: str | None = None) -> DcomError:
    """An error about `op`, with its name and its source location."""
    return DcomError(f"{op.name}: {what}", hint=hint, place=describe_location(op.location))


def unsupported(op: Operation, what: str = "the executor does not support this operation") -> DcomError:
    """The error for an operation, or a form of one, that the executor cannot run."""
    return failure(op, what, "the executor runs Level 0 and dcom IR")


def element_dtype(element: Attribute, op: Operation) -> np.dtype[Any]:
    """The NumPy type of an element type or of a scalar type."""
    match element:
        case BFloat16Type():
            return np.dtype(ml_dtypes.bfloat16)
        case Float16Type():
            return np.dtype(np.float16)
        case Float32Type():
            return np.dtype(np.float32)
        case Float64Type():
            return np.dtype(np.float64)
        case IndexType():
            return np.dtype(np.int64)
        case IntegerType() if element.width.data == 1:
            return np.dtype(np.bool_)
        case IntegerType() if element.width.data in (8, 16, 32, 64):
            return np.dtype(f"i{element.width.data // 8}")
        case TensorType():
            return element_dtype(element.element_type, op)
        case _:
            raise unsupported(op, f"the executor has no values of type {element}")


def static_shape(value: SSAValue, op: Operation) -> tuple[int, ...]:
    """The shape of a tensor, all of it static; () for a scalar."""
    if not isinstance(value.type, TensorType):
        return ()
    shape = value.type.get_shape()
    if any(size < 0 for size in shape):
        raise unsupported(op, f"the shape of {value.type} is not static")
    return shape


def constant_value(attribute: Attribute, op: Operation) -> Value:
    """The value of a constant attribute: a NumPy scalar, or an array that does not allow writing."""
    match attribute:
        case IntegerAttr() | FloatAttr():
            return element_dtype(attribute.type, op).type(attribute.value.data)
        case DenseIntOrFPElementsAttr():
            dtype = element_dtype(attribute.get_element_type(), op)
            values = np.array(attribute.get_values(), dtype)
            shape = attribute.get_shape()
            return np.broadcast_to(values, shape) if values.size == 1 else values.reshape(shape)
        case _:
            raise unsupported(op, f"the executor cannot read the constant {attribute}")


def filled_with(value: SSAValue) -> float | None:
    """The number that a tensor is known to be filled with."""
    fill = value.owner
    scalar = fill.operands[0].owner if isinstance(fill, linalg.FillOp) else None
    number = scalar.value if isinstance(scalar, arith.ConstantOp) else None
    return float(number.value.data) if isinstance(number, IntegerAttr | FloatAttr) else None


def captured_values(operations: Sequence[Operation], arguments: Sequence[SSAValue]) -> list[SSAValue]:
    """The values that `operations` and all inside them use, but that are neither defined there nor in `arguments`."""
    defined = set(arguments)
    captured: dict[SSAValue, None] = {}

    def visit(op: Operation) -> None:
        captured.update(dict.fromkeys(operand for operand in op.operands if operand not in defined))
        for region in op.regions:
            for block in region.blocks:
                defined.update(block.args)
                for inner in block.ops:
                    visit(inner)
        defined.update(op.results)

    for op in operations:
        visit(op)
    return list(captured)


def op_captures(op: Operation) -> list[SSAValue]:
    """The values that the regions of `op` capture, in the order in which its kernel receives them."""
    inner = [nested for region in op.regions for block in region.blocks for nested in block.ops]
    return captured_values(
        inner, [argument for region in op.regions for block in region.blocks for argument in block.args]
    )


@dataclass(frozen=True)
class Step:
    """One operation: `writes = kernel(*reads)`, after which the slots in `dead` are cleared."""

    op: Operation
    kernel: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    dead: tuple[int, ...]


class Block:
    """A compiled block, called with its arguments and then its captured values."""

    def __init__(
        self, arguments: Sequence[SSAValue], operations: Sequence[Operation], results: Sequence[SSAValue], host: Host
    ) -> None:
        """Compile `operations` (without the terminator).

        Raises:
            DcomError: an operation is not supported.
        """
        outside = captured_values(operations, arguments)
        local = {*arguments, *(result for op in operations for result in op.results)}
        outside += [value for value in dict.fromkeys(results) if value not in local and value not in outside]
        self.captures = outside
        slots = {value: slot for slot, value in enumerate([*arguments, *outside])}
        self._inputs = len(slots)
        for op in operations:
            for result in op.results:
                slots[result] = len(slots)
        self._size = len(slots)
        self._results = tuple(slots[value] for value in results)
        self._host = host
        self._steps = list(_steps(operations, slots, set(self._results), host))

    def __call__(self, *values: Value) -> list[Value]:
        frame: list[Value] = [None] * self._size
        frame[: self._inputs] = values
        del values
        observer = self._host.observer
        for step in self._steps:
            results = step.kernel(*[frame[slot] for slot in step.reads])
            if observer is not None:
                observer(step.op, [frame[slot] for slot in step.reads], results)
            for slot, result in zip(step.writes, results, strict=True):
                frame[slot] = result
            del results
            for slot in step.dead:
                frame[slot] = None
        return [frame[slot] for slot in self._results]


def _steps(operations: Sequence[Operation], slots: dict[SSAValue, int], live: set[int], host: Host) -> Iterator[Step]:
    """The steps in order; a slot dies in the step that touches it last, unless it is in `live`."""
    touched: list[tuple[Operation, tuple[int, ...], tuple[int, ...]]] = []
    last: dict[int, int] = {}
    fusions = host.fusions(operations)
    absorbed = {op for fusion in fusions.values() for op in fusion.absorbed}
    for op in operations:
        if op in absorbed:
            continue
        operands = fusions[op].operands if op in fusions else (*op.operands, *op_captures(op))
        reads = tuple(slots[value] for value in operands)
        results = fusions[op].results if op in fusions else None
        writes = tuple(slots[value] for value in results or op.results)
        last |= dict.fromkeys((*reads, *writes), len(touched))
        touched.append((op, reads, writes))
    for position, (op, reads, writes) in enumerate(touched):
        dead = {slot for slot in (*reads, *writes) if last[slot] == position and slot not in live}
        kernel = fusions[op].kernel if op in fusions else host.build(op, host)
        yield Step(op, kernel, reads, writes, tuple(sorted(dead)))
