"""Structured operations of `linalg` as kernels see them: loops, maps, views of operands, and the body compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from xdsl.dialects import tensor
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.abstract_ops import LinalgStructuredOperation
from xdsl.ir import Block as IrBlock
from xdsl.ir import Operation, SSAValue
from xdsl.ir.affine import AffineMap

from runtime.executor_arrays import NUMPY, Arrays, Value
from runtime.executor_block import Block, Fusion, Host, Kernel, Observer, op_captures, static_shape, unsupported
from runtime.executor_casts import fuse_arithmetic
from runtime.executor_scalar import BUILDERS as SCALAR
from runtime.executor_views import View, iteration_space, loop_axis, loop_dims, view
from runtime.loops import Nest

_BODY = (linalg.IndexOp, linalg.YieldOp, tensor.ExtractOp)
"""What a body may hold beside scalar operations."""


@dataclass
class _BodyHost:
    """The host as bodies see it: nothing inside them is observed."""

    host: Host
    arrays: Arrays
    observer: Observer | None = None

    def build(self, op: Operation, host: Host) -> Kernel:
        return self.host.build(op, host)

    def fusions(self, operations: Sequence[Operation]) -> Mapping[Operation, Fusion]:
        return {} if self.arrays.attention is None else fuse_arithmetic(operations, self.arrays)


@dataclass(frozen=True)
class Form:
    """A structured operation, with what every way of running it needs."""

    op: LinalgStructuredOperation
    host: _BodyHost
    body: IrBlock
    maps: tuple[AffineMap, ...]
    """How each operand is indexed by the loops."""
    space: tuple[int, ...]
    """The size of each loop."""
    inputs: int
    """The number of input operands; the rest are outputs, accumulated into."""

    @classmethod
    def of(cls, op: LinalgStructuredOperation, host: Host) -> Self:
        """An operation on tensors; raises `DcomError` for one on buffers, or whose loops follow from no operand."""
        if len(op.results) != len(op.outputs):
            raise unsupported(op, "the executor works on tensors, not on buffers")
        maps = tuple(attribute.data for attribute in op.get_indexing_maps())
        space = iteration_space(maps, [static_shape(operand, op) for operand in op.operands], op)
        return cls(op, _BodyHost(host, host.arrays), op.body.block, maps, space, len(op.inputs))

    @property
    def arrays(self) -> Arrays:
        """The back end that computes."""
        return self.host.arrays

    @property
    def accumulators(self) -> tuple[SSAValue, ...]:
        """The arguments of the body that stand for the outputs."""
        return tuple(self.body.args[self.inputs :])

    @property
    def yielded(self) -> tuple[SSAValue, ...]:
        """What the body gives for each output."""
        assert self.body.last_op is not None
        return tuple(self.body.last_op.operands)

    def argument_position(self, value: SSAValue) -> int | None:
        """Which operand `value` is an element of, when it is an argument of the body."""
        return next((position for position, argument in enumerate(self.body.args) if argument is value), None)

    def view(self, operand: int) -> View:
        """How an operand looks from the loops."""
        shape = static_shape(self.op.operands[operand], self.op)
        return view(self.maps[operand], self.space, shape, self.op, self.arrays)

    def views(self) -> list[View]:
        """How each operand looks from the loops."""
        return [self.view(operand) for operand in range(len(self.maps))]

    def nest(self, parallel: Sequence[int]) -> Nest:
        """The operation as a loop nest to be compiled; `parallel` are the loops that are not reduced."""
        shapes = tuple(static_shape(operand, self.op) for operand in self.op.operands[: len(self.maps)])
        return Nest(self.space, self.maps, shapes, self.body, tuple(parallel))

    def loop_values(self, loops: Sequence[int]) -> list[Value]:
        """The index of each of some loops."""
        return [self.arrays.from_numpy(loop_axis(self.space, loop)) for loop in loops]

    def output_loops(self) -> list[list[int]] | None:
        """The loops of each output, when every output is indexed by the same distinct loops."""
        loops = [dims for dims in (loop_dims(map_) for map_ in self.maps[self.inputs :]) if dims is not None]
        same = len(loops) == len(self.accumulators) and all(set(dims) == set(loops[0]) for dims in loops)
        return loops if same else None

    def is_elementwise(self) -> bool:
        """Whether the body means the same for arrays as for scalars."""
        return all(type(op) in SCALAR or isinstance(op, _BODY) for op in self.body.ops)

    def in_numpy(self) -> Self:
        """The same operation, to be run by NumPy."""
        return replace(self, host=replace(self.host, arrays=NUMPY))


class Body:
    """The part of a body that computes `results`, as a function of operands, loop indices and captured values."""

    def __init__(self, form: Form, results: Sequence[SSAValue]) -> None:
        indices = [op for op in form.body.ops if isinstance(op, linalg.IndexOp)]
        arguments = [*form.body.args, *(op.result for op in indices)]
        needed = set(results)
        operations: list[Operation] = []
        for op in reversed([op for op in form.body.ops if not isinstance(op, linalg.IndexOp | linalg.YieldOp)]):
            if needed.intersection(op.results):
                operations.insert(0, op)
                needed.update(op.operands, op_captures(op))
        self._block = Block(arguments, operations, results, form.host)
        self.loops = [op.dim.value.data for op in indices]
        captured = op_captures(form.op)
        self._captures = [captured.index(value) for value in self._block.captures]
        self.only_arguments = all(form.argument_position(value) is not None for value in results)
        self.reads_output = any(argument in needed for argument in form.accumulators)

    def __call__(self, operands: Sequence[Value], indices: Sequence[Value], captured: Sequence[Value]) -> list[Value]:
        return self._block(*operands, *indices, *(captured[position] for position in self._captures))
