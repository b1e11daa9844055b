"""The kernels that a host runs for a module: what a GPU's libraries make of the operations, with their dependences.

Views, and changes of element type, cost nothing of their own; a chain of elementwise operations is one kernel;
attention is one kernel or three; the projections that read one input are one matrix product, cut over GPUs by columns
(q, k, v, gate, up) or by the rows that are summed (o, down), which needs an all-reduce; a sum of low-rank and exact
tracks is accumulated by the product of the last.
"""

from collections.abc import Mapping
from dataclasses import replace

from xdsl.dialects import func, ml_program
from xdsl.dialects.builtin import ModuleOp

from dcomc.costs import bytes_of
from dcomc.diagnostics import DcomError
from dcomc.gpu_model import Kernel
from dcomc.host_body import Body, Step
from dcomc.host_values import element_size
from passes._sites import NOT_TRACED, Layers


def layer_kernels(module: ModuleOp, layer: int, *, fused_attention: bool = True) -> tuple[Kernel, ...]:
    """The kernels of one layer; its input and other arguments need nothing.

    Raises:
        DcomError: the module has no such layer.
    """
    layers = Layers.of(module)
    layers.check([layer])
    body = _Walker(layers.functions, fused_attention).body(layers.calls[layer][0].callee.root_reference.data)
    return tuple(replace(s.kernel, needs=tuple(n for n in s.kernel.needs if n >= 0)) for s in body.steps)


def module_steps(module: ModuleOp, *, fused_attention: bool = True, dense: bool = False) -> tuple[Step, ...]:
    """All kernels of a model in their order, with their dependences over the whole of it.

    Args:
        fused_attention: one kernel an attention, or its two products and softmax.
        dense: let every layer be like the first that decomposes nothing.

    Raises:
        DcomError: the module is not of a traced model; or no layer is dense where one is wanted.
    """
    layers = Layers.of(module)
    walker = _Walker(layers.functions, fused_attention)
    if dense:
        walker.dense = _dense_function(layers)
    steps = walker.body("main").steps
    return tuple(replace(s, kernel=replace(s.kernel, needs=tuple(n for n in s.kernel.needs if n >= 0))) for s in steps)


def element_bytes(module: ModuleOp) -> int:
    """Bytes of an element of the weights of a module."""
    types = (op.type for op in module.ops if isinstance(op, ml_program.GlobalOp))
    return min((element_size(type_) for type_ in types), default=4)


def weight_bytes(module: ModuleOp, *, dense: bool = False) -> int:
    """Bytes of all weights of a module.

    Args:
        dense: let every layer have those of the first that decomposes nothing.

    Raises:
        DcomError: no layer is dense where one is wanted.
    """
    sizes = {op.sym_name.data: bytes_of(op.type) for op in module.ops if isinstance(op, ml_program.GlobalOp)}
    if not dense:
        return sum(sizes.values())
    layers = Layers.of(module)
    wanted = _dense_function(layers)
    calls = {call: _weights_of(call) for of_layer in layers.calls.values() for call in of_layer}
    example = next(names for call, names in calls.items() if call.callee.root_reference.data == wanted)
    outside = set(sizes).difference(*calls.values())
    return sum(sizes[name] for name in outside) + len(calls) * sum(sizes[name] for name in example)


def _weights_of(call: func.CallOp) -> set[str]:
    """The names of the weights that a call of a layer gives it."""
    loads = (value.owner for value in call.arguments)
    return {op.global_attr.string_value() for op in loads if isinstance(op, ml_program.GlobalLoadConstantOp)}


def decomposed_layers(module: ModuleOp) -> tuple[int, ...]:
    """The layers that decompose something, in ascending order."""
    layers = Layers.of(module)
    functions = {name for name, function in layers.functions.items() if _decomposes(function)}
    return tuple(sorted(n for n, calls in layers.calls.items() if calls[0].callee.root_reference.data in functions))


def _decomposes(function: func.FuncOp) -> bool:
    return any(op.name.startswith("dcom.") for op in function.walk())


def _dense_function(layers: Layers) -> str:
    for _, calls in sorted(layers.calls.items()):
        name = calls[0].callee.root_reference.data
        if not _decomposes(layers.functions[name]):
            return name
    raise DcomError("every layer is decomposed: there is none to compare with", hint="leave one layer dense")


class _Walker:
    """Makes the kernels of functions, each once."""

    def __init__(self, functions: Mapping[str, func.FuncOp], fused: bool) -> None:
        self.functions = functions
        self.fused = fused
        self.dense: str | None = None
        """The function that every layer calls, whatever the module says."""
        self._made: dict[str, Body] = {}

    def body(self, name: str) -> Body:
        """The kernels of a function; raises `DcomError` where it has no body."""
        if name not in self._made:
            found = self.functions.get(name)
            if found is None or found.is_declaration:
                raise DcomError(f"the module has no function @{name}", hint=NOT_TRACED)
            self._made[name] = Body(found, self)
        return self._made[name]
