"""Programs of any number of operations, each large in a way of its own, for `pass_scaling.py`."""

from collections.abc import Callable
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, FunctionType, IntegerAttr, ModuleOp, TensorType, i64
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.dialects.linalg.ops import MatmulOp
from xdsl.dialects.ml_program import GlobalLoadConstantOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint

from dcomc.ir import parse_module
from dialects.dcom import Element
from passes._build import add, building, structured
from passes._weights import Globals

Shape = Callable[[str, Context, int], tuple[ModuleOp, int]]
"""From the text of a traced model, a context and a number of operations to about as many, and how many layers those
are, all to be decomposed."""


def count(module: ModuleOp) -> int:
    """Operations of a module, those inside others too."""
    return sum(1 for _ in module.walk())


def many_layers(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """As many layers as come to so many operations once each has its function; each has its own weights."""
    module, last = _one_layer(text, context)
    layers = max(operations // sum(1 for _ in _layer_function(module).walk()), 1)
    weights = Globals.of(module)
    original, block = last, last.parent_block()
    assert block is not None
    _bind_own_weights(weights, original, "model.layers.0")
    for layer in range(1, layers):
        clone = original.clone()
        clone.attributes["dcom.layer"] = IntegerAttr(layer, i64)
        block.insert_op_after(clone, last)
        last.results[0].replace_all_uses_with(clone.results[0])
        clone.operands = [last.results[0], *original.operands[1:]]
        _bind_own_weights(weights, clone, f"model.layers.{layer}")
        last = clone
    return module, layers


def long_layer(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """One layer, whose body is repeated: a long function, with very many sites."""
    return _repeated(text, context, operations, own_weights=False), 1


def many_weights(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """The same, each repetition with weights of its own: a function with very many parameters."""
    return _repeated(text, context, operations, own_weights=True), 1


def one_input(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """One layer, in which very many products read one activation; they are summed one after another."""
    module, _ = _one_layer(text, context)
    product = next(
        op
        for op in _layer_function(module).body.ops
        if isinstance(op, MatmulOp) and str(op.attributes.get("dcom.role")) == '"q_proj"'
    )
    total = product.res[0]
    readers = list(total.uses)
    element = cast(TensorType[Element], total.type).element_type
    with building(InsertPoint.after(product), product.location):
        for _ in range(operations // 7):  # a product, and a sum of six operations
            other = MatmulOp(product.inputs, product.outputs, attributes=product.attributes)
            total = structured("sn,sn->sn", [total, other.res[0]], element, add)
    for use in readers:
        use.operation.operands[use.index] = total
    return module, 1


def many_kernels(text: str, context: Context, operations: int) -> tuple[ModuleOp, int]:
    """Decompositions that have a kernel each, of about 100 operations and 120 instructions; no layers."""
    site, kind = 'layer = 0 : i64, site = "qkv", iterations = 4 : i64', 'gram_schmidt = "modified"'
    options = f"{site}, reorthogonalisation = 1 : i64, {kind}"
    types = "tensor<64x64xf32> -> !dcom.factored<1x64x64, rank 4, f32>"
    lines = (
        f"%f{seed} = dcom.decompose %x {{{options}, seed = {seed} : i64}} : {types}"
        for seed in range(operations // 120)
    )
    body = "\n".join(lines)
    return parse_module(f"func.func @main(%x: tensor<64x64xf32>) {{\n{body}\nfunc.return\n}}", "kernels", context), 0


def _one_layer(text: str, context: Context) -> tuple[ModuleOp, CallOp]:
    """The traced model with its last layer alone, and the call of that."""
    module = parse_module(text, "tiny.mlir", context)
    *others, last = _calls_of(module)
    for call in others:
        call.results[0].replace_all_uses_with(call.operands[0])
        call.detach()
        call.erase()
    last.attributes["dcom.layer"] = IntegerAttr(0, i64)
    return module, last


def _calls_of(module: ModuleOp) -> list[CallOp]:
    return [op for op in module.walk() if isinstance(op, CallOp) and "dcom.layer" in op.attributes]


def _layer_function(module: ModuleOp) -> FuncOp:
    (function,) = (op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data != "main")
    return function


def _bind_own_weights(weights: Globals, call: CallOp, prefix: str) -> None:
    """Let a call load weights that nothing else does, in the place of those that it has."""
    operands = list(call.operands)
    for index, value in enumerate(operands):
        if isinstance(value.owner, GlobalLoadConstantOp):
            like = value.owner.global_attr.string_value()
            name = f"{prefix}.{'.'.join(like.split('.')[3:])}"
            if name not in weights.by_name:
                weights.add(name, cast(TensorType[Element], value.type), like)
            operands[index] = weights.load(name, InsertPoint.before(call))
    call.operands = operands


def _repeated(text: str, context: Context, operations: int, *, own_weights: bool) -> ModuleOp:
    """A module with one layer, whose body is repeated to so many operations."""
    module, call = _one_layer(text, context)
    function, weights = _layer_function(module), Globals.of(module)
    block = function.body.block
    returned = block.last_op
    assert isinstance(returned, ReturnOp) and function.arg_attrs is not None
    body = list(block.ops)[:-1]
    each = sum(1 for op in body for _ in op.walk())
    first_result, hidden = returned.operands[0], block.args[0]
    attributes, operands = list(function.arg_attrs), list(call.operands)
    parameters = [argument for argument in block.args if "dcom.weight" in attributes[argument.index].data]
    for number in range(1, operations // each):
        values: dict[SSAValue, SSAValue] = {hidden: returned.operands[0]}
        for parameter in parameters if own_weights else ():
            added = block.insert_arg(parameter.type, len(block.args), parameter.location)
            added.name_hint, values[parameter] = parameter.name_hint, added
            attributes.append(attributes[parameter.index])
            load = cast(GlobalLoadConstantOp, operands[parameter.index].owner)
            like = load.global_attr.string_value()
            weights.add(f"{like}.{number}", cast(TensorType[Element], parameter.type), like)
            operands.append(weights.load(f"{like}.{number}", InsertPoint.before(call)))
        for op in body:
            block.insert_op_before(op.clone(values), returned)
        returned.operands[0] = values[first_result]
    function.properties["function_type"] = FunctionType.from_lists(block.arg_types, function.function_type.outputs.data)
    function.properties["arg_attrs"] = ArrayAttr[DictionaryAttr](attributes)
    call.operands = operands
    return module


SHAPES: dict[str, Shape] = {
    shape.__name__.replace("_", "-"): shape
    for shape in (many_layers, long_layer, many_weights, one_input, many_kernels)
}
