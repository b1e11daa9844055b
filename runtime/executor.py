"""The host: runs Level 0 and dcom IR with NumPy or torch.

Each function is compiled at its first call to a flat list of array operations (`runtime.executor_block`), so that
running it again costs little. They are those of a back end (`runtime.executor_arrays`). The kernels stand in
`executor_scalar` (arith, math), `executor_tensor`, `executor_linalg`, `executor_dcom` and `executor_weights`; those of
func, ml_program and scf are here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
from xdsl.dialects import func, ml_program, scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, TensorType
from xdsl.ir import Operation
from xdsl.utils.hints import isa

from dcomc.diagnostics import DcomError, did_you_mean
from runtime import executor_dcom, executor_linalg, executor_scalar, executor_tensor, executor_tracks, executor_weights
from runtime.executor_arrays import NUMPY, Array, Arrays, Value
from runtime.executor_attention import fuse_attention
from runtime.executor_block import (
    Block,
    Builder,
    Fusion,
    Host,
    Kernel,
    Observer,
    constant_value,
    element_dtype,
    failure,
    op_captures,
    static_shape,
    unsupported,
)
from runtime.executor_casts import fuse_casts
from runtime.executor_dcom import fuse_splits, host_decompose, through_numpy
from runtime.executor_split import DcomHost, Decompose

LAYER = "dcom.layer"
"""The attribute on a call that runs a decoder layer: the layer's number."""


class Executor:
    """Runs the functions of one module."""

    def __init__(
        self,
        module: ModuleOp,
        weights: Mapping[str, Array],
        *,
        arrays: Arrays = NUMPY,
        decompose: Decompose | None = None,
        skip_layers: Collection[int] = (),
        valid_rows: int | Sequence[int] | None = None,
        observer: Observer | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare `module`; functions are compiled when first called.

        Args:
            module: verified Level 0 or dcom IR.
            weights: the value of each `ml_program.global`, by symbol name.
            arrays: the back end that computes.
            decompose: called for each `dcom.decompose` with x [M*T, H], in NumPy's arrays; the back end's float32
                Lanczos without it.
            skip_layers: layers whose call returns its first argument instead (a control).
            valid_rows: tokens of each prompt (or of all) that are not padding on the right; the rows of padding are
                zero in what is split and decomposed. May be assigned between runs.
            observer: called after each operation outside of linalg bodies, with its operands and results as the back
                end has them; nothing is fused then.
            progress: called with the layer's number after each layer.
        """
        self.weights = weights
        self.arrays = arrays
        self.decompose = (
            partial(host_decompose, by=arrays.lanczos) if decompose is None else through_numpy(decompose, arrays)
        )
        self._own_lanczos = decompose is None
        self.skip_layers = frozenset(skip_layers)
        self.observer = observer
        self.progress = progress
        self._valid_rows: Sequence[int] | None = None
        self._batch = _module_integer(module, "dcom.batch") or 1
        self.valid_rows = valid_rows
        self._functions: dict[str, Block | func.FuncOp] = {}
        self._globals: dict[str, ml_program.GlobalOp] = {}
        for op in module.ops:
            if isinstance(op, func.FuncOp):
                self._functions[op.sym_name.data] = op
            elif isinstance(op, ml_program.GlobalOp):
                self._globals[op.sym_name.data] = op

    @property
    def valid_rows(self) -> Sequence[int] | None:
        """Tokens of each prompt that are not padding; None when no prompt is padded."""
        return self._valid_rows

    @valid_rows.setter
    def valid_rows(self, rows: int | Sequence[int] | None) -> None:
        self._valid_rows = [rows] * self._batch if isinstance(rows, int) else rows

    def run(self, name: str, *arguments: Value) -> tuple[Value, ...]:
        """Call a function and return its results, as NumPy arrays whatever the back end.

        Args:
            name: of the function, `main` for a whole model.
            arguments: NumPy arrays, or the back end's, of the shapes and element types of its parameters.

        Raises:
            DcomError: no such function, arguments that do not fit it, an operation that is not supported, a weight
                that is missing or does not fit, an index out of bounds, a NaN in what is decomposed.
        """
        if name not in self._functions:
            raise DcomError(f"the program has no function @{name}", hint=did_you_mean(name, self._functions))
        function = self._functions[name]
        if isinstance(function, func.FuncOp):
            _check_arguments(function, arguments)
        with np.errstate(all="ignore"):
            results = self._function(name)(*map(self.arrays.from_numpy, arguments))
        return tuple(map(self.arrays.to_numpy, results))

    def build(self, op: Operation, host: Host) -> Kernel:
        """The kernel of `op` as part of `host`; raises `DcomError` when the operation is not supported."""
        builder = _BUILDERS.get(type(op))
        if builder is None:
            raise unsupported(op)
        return builder(op, host)

    def fusions(self, operations: Sequence[Operation]) -> Mapping[Operation, Fusion]:
        """Changes of element type, splits and attentions, where the back end has kernels and nobody observes."""
        if self.arrays.attention is None or self.observer is not None:
            return {}
        attentions = fuse_attention(operations, self.arrays.attention, self.arrays)
        splits = fuse_splits(operations, cast(DcomHost, self)) if self._own_lanczos else dict[Operation, Fusion]()
        return {**fuse_casts(operations, self), **attentions, **splits}

    def call(self, op: func.CallOp, arguments: Sequence[Value]) -> Sequence[Value]:
        """What a `func.call` does."""
        layer = op.attributes.get(LAYER)
        number = layer.value.data if isinstance(layer, IntegerAttr) else None
        if number is not None and number in self.skip_layers:
            if [value.type for value in op.results] != [value.type for value in op.operands[:1]]:
                raise failure(op, f"layer {number} cannot be skipped: its result is not like its first argument")
            return (arguments[0],)
        name = op.callee.string_value()
        if name not in self._functions:
            raise failure(op, f"there is no function @{name}")
        results = self._function(name)(*arguments)
        if number is not None and self.progress is not None:
            self.progress(number)
        return results

    def global_value(self, op: ml_program.GlobalLoadConstantOp) -> Value:
        """The value of a global, in the element type that the program wants."""
        name = op.global_attr.string_value()
        if name in self.weights:
            value = self.weights[name]
        elif name in self._globals and (initial := self._globals[name].value) is not None:
            try:
                value = constant_value(initial, op)
            except DcomError as error:
                raise failure(op, f"the model has no weight '{name}'", "give the model that was traced") from error
        else:
            raise failure(op, f"there is no global @{name}")
        shape = static_shape(op.result, op)
        if value.shape != shape:
            raise failure(
                op,
                f"weight '{name}' has shape {list(value.shape)}, but the program wants {list(shape)}",
                "give the model that was traced",
            )
        return self.arrays.weight(name, value, element_dtype(op.result.type, op))

    def _function(self, name: str) -> Block:
        function = self._functions[name]
        if isinstance(function, func.FuncOp):
            function = self._functions[name] = _compile(function, self)
        return function


def _module_integer(module: ModuleOp, name: str) -> int | None:
    attribute = module.attributes.get(name)
    return attribute.value.data if isinstance(attribute, IntegerAttr) else None


def _check_arguments(function: func.FuncOp, arguments: Sequence[Value]) -> None:
    parameters = function.function_type.inputs.data
    if len(arguments) != len(parameters):
        raise failure(function, f"@{function.sym_name.data} takes {len(parameters)} arguments, got {len(arguments)}")
    for position, (argument, wanted) in enumerate(zip(arguments, parameters, strict=True)):
        if not isa(wanted, TensorType):
            continue
        # Read, not converted: what lies on a device stays there.
        element = argument.dtype if hasattr(argument, "dtype") else np.asarray(argument).dtype
        shape, dtype = np.shape(argument), str(element).removeprefix("torch.")
        if shape != wanted.get_shape() or dtype != element_dtype(wanted, function).name:
            raise failure(function, f"argument {position} is {dtype} {list(shape)}, not {wanted}")


def _compile(function: func.FuncOp, host: Host) -> Block:
    if function.is_declaration or len(function.body.blocks) != 1:
        raise unsupported(function, f"@{function.sym_name.data} has not one block")
    block = function.body.block
    last = block.last_op
    if not isinstance(last, func.ReturnOp):
        raise unsupported(function, f"@{function.sym_name.data} does not end in func.return")
    return Block(block.args, [op for op in block.ops if op is not last], last.operands, host)


def _call(op: func.CallOp, host: "Executor") -> Kernel:
    return lambda *arguments: host.call(op, arguments)


def _global_load_const(op: ml_program.GlobalLoadConstantOp, host: "Executor") -> Kernel:
    return lambda: (host.global_value(op),)


def _region(op: Operation, index: int, host: Host) -> tuple[Block, list[int]]:
    """A region of one block ending in a yield, and where its captured values are among those of `op`."""
    block = op.regions[index].block
    last = block.last_op
    assert last is not None
    compiled = Block(block.args, [inner for inner in block.ops if inner is not last], last.operands, host)
    captures = op_captures(op)
    return compiled, [captures.index(value) for value in compiled.captures]


def _for(op: scf.ForOp, host: Host) -> Kernel:
    body, where = _region(op, 0, host)
    carried = len(op.iter_args)

    def kernel(lower: Value, upper: Value, step: Value, *values: Value) -> Sequence[Value]:
        if step <= 0:
            raise failure(op, f"the step {step} is not positive")
        state: Sequence[Value] = values[:carried]
        captured = [values[carried + position] for position in where]
        kind = element_dtype(op.lb.type, op).type
        for index in range(int(lower), int(upper), int(step)):
            state = body(host.arrays.from_numpy(kind(index)), *state, *captured)
        return state

    return kernel


def _if(op: scf.IfOp, host: Host) -> Kernel:
    regions = [_region(op, index, host) for index, region in enumerate(op.regions) if region.blocks]

    def kernel(condition: Value, *captured: Value) -> Sequence[Value]:
        position = 0 if condition else 1
        if position == len(regions):
            return ()
        branch, where = regions[position]
        return branch(*(captured[index] for index in where))

    return kernel


_BUILDERS: dict[type[Operation], Builder] = {
    **executor_scalar.BUILDERS,
    **executor_tensor.BUILDERS,
    **executor_linalg.BUILDERS,
    **executor_dcom.BUILDERS,
    **executor_tracks.BUILDERS,
    **executor_weights.BUILDERS,
    func.CallOp: cast(Builder, _call),
    ml_program.GlobalLoadConstantOp: cast(Builder, _global_load_const),
    scf.ForOp: _for,
    scf.IfOp: _if,
}
