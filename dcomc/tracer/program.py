"""A captured graph as a Level 0 module: weights as globals, a function for each kind of layer, and `@main`."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from xdsl.dialects import func, ml_program
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseResourceAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue

from dcomc.diagnostics import DcomError
from dcomc.tracer.emitter import ELEMENTS, Emitter, tensor_type
from dcomc.tracer.graph import INPUT, WEIGHT, Graph, Node, Source
from dcomc.tracer.layers import Layer, find_layers
from dcomc.tracer.lowerings import LOWERINGS, describe_unsupported, is_supported
from dcomc.tracer.scope import Scope

_LISTED = 8
"""Operators without a lowering that the error names."""


def build_module(graph: Graph, name: str, seq_len: int, batch: int) -> ModuleOp:
    """The Level 0 module of a captured graph.

    Args:
        graph: what `capture` returned for token ids of shape [batch, seq_len].
        name: the module's name.

    Raises:
        DcomError: the graph has operators without a lowering; the message lists the most frequent of them.
    """
    _reject_unsupported(graph)
    layers = find_layers(graph)
    origins = _origins(graph)
    functions: dict[tuple[object, ...], func.FuncOp] = {}
    callees: dict[str, func.FuncOp] = {}
    for layer in layers:
        structure = layer.structure()
        if structure not in functions:
            suffix = f"_variant{len(functions)}" if functions else ""
            functions[structure] = _layer_function(layer, f"decoder_layer{suffix}")
        callees[layer.prefix] = functions[structure]
    start = graph.output.source.location(name)
    module = ModuleOp(
        [*_globals(graph, origins), *functions.values(), _main(graph, layers, callees, origins)],
        attributes={
            "dcom.model": StringAttr(name),
            "dcom.batch": IntegerAttr(batch, i64),
            "dcom.seq_len": IntegerAttr(seq_len, i64),
            "dcom.layers": IntegerAttr(len(layers), i64),
        },
        sym_name=StringAttr(name),
    )
    module.location = start
    return module


def _reject_unsupported(graph: Graph) -> None:
    counts: Counter[str] = Counter()
    places: defaultdict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for node in graph.nodes:
        if not is_supported(node):
            what = describe_unsupported(node)
            counts[what] += 1
            places[what][node.source.file].add(node.source.line)
    if counts:
        lines = {
            what: " ".join(f"{file}:{','.join(map(str, sorted(numbers)))}" for file, numbers in files.items())
            for what, files in places.items()
        }
        listed = [f"{what} x{count} ({lines[what]})" for what, count in counts.most_common(_LISTED)]
        if len(counts) > _LISTED:
            listed.append(f"and {len(counts) - _LISTED} more")
        experts = any("experts" in node.source.module.split(".") for node in graph.nodes)
        family = "models of the Llama family" + (", not mixtures of experts" if experts else "")
        raise DcomError(f"operators without a lowering: {', '.join(listed)}", hint=f"dcomc traces {family}")


def _origins(graph: Graph) -> dict[Node, Source]:
    """For each weight and input its own module path, with the line of its first use."""
    origins: dict[Node, Source] = {}
    for node in graph.nodes:
        for operand in node.operands():
            if operand.op in (WEIGHT, INPUT) and operand not in origins:
                origins[operand] = Source(operand.source.module, node.source.file, node.source.line)
    return origins


def _type(node: Node) -> TensorType[Attribute]:
    return tensor_type(node.shape, ELEMENTS[node.dtype])


def _globals(graph: Graph, origins: dict[Node, Source]) -> Sequence[ml_program.GlobalOp]:
    """One immutable global a weight, without data: the weight's name is its identity."""
    ops: list[ml_program.GlobalOp] = []
    for node in graph.nodes:
        if node.op == WEIGHT:
            data = DenseResourceAttr.from_params(node.name, _type(node))
            op = ml_program.GlobalOp(StringAttr(node.name), _type(node), None, data, StringAttr("private"))
            op.location = origins[node].location()
            ops.append(op)
    return ops


def _layer_function(layer: Layer, name: str) -> func.FuncOp:
    """The function of a layer: activations, then weights (each with `dcom.weight`), to the layer's results."""
    first = layer.nodes[0]
    block = Block(arg_types=[_type(node) for node in layer.inputs])
    attributes: list[DictionaryAttr] = []
    for node, argument in zip(layer.inputs, block.args, strict=True):
        user = next(user for user in layer.nodes if node in user.operands())
        argument.location = user.source.location(layer.module(user))
        weight = layer.weight_name(node) if node.op == WEIGHT else None
        argument.name_hint = weight.replace(".", "_") if weight else _hint(node)
        attributes.append(DictionaryAttr({"dcom.weight": StringAttr(weight)} if weight else {}))
    scope = Scope(Emitter(block, first.source.location()), dict(zip(layer.inputs, block.args, strict=True)))
    for node in layer.nodes:
        scope.lower(node, node.source.location(layer.module(node)), LOWERINGS[node.op])
    scope.emitter.append(func.ReturnOp(*(scope.values[node] for node in layer.outputs)))
    function = func.FuncOp(
        name,
        FunctionType.from_lists([_type(node) for node in layer.inputs], [_type(node) for node in layer.outputs]),
        Region(block),
        visibility="private",
        arg_attrs=ArrayAttr(attributes),
    )
    function.location = first.source.location(f"{layer.prefix.rpartition('.')[0]}.*")
    return function


def _hint(node: Node) -> str:
    """The name of an activation that enters a layer."""
    if node.op == "dcomc.rope_table.default":
        return str(node.args[3])
    return "hidden"


def _main(
    graph: Graph, layers: Sequence[Layer], callees: dict[str, func.FuncOp], origins: dict[Node, Source]
) -> func.FuncOp:
    """`@main`: token ids to logits."""
    inputs = [node for node in graph.nodes if node.op == INPUT]
    block = Block(arg_types=[_type(node) for node in inputs])
    for node, argument in zip(inputs, block.args, strict=True):
        argument.location, argument.name_hint = origins[node].location(), node.name
    start = graph.output.source.location("main")
    scope = Scope(Emitter(block, start), dict(zip(inputs, block.args, strict=True)))
    pending = {layer.prefix: layer for layer in layers}
    for node in graph.nodes:
        layer = node.source.layer
        if node.op in (WEIGHT, INPUT):
            continue
        if layer is None:
            _load_weights(scope, tuple(node.operands()), origins)
            scope.lower(node, node.source.location(), LOWERINGS[node.op])
        elif layer in pending:
            _call(scope, pending.pop(layer), callees[layer], origins)
    scope.emitter.location = start
    scope.emitter.append(func.ReturnOp(scope.values[graph.output]))
    signature = FunctionType.from_lists([_type(node) for node in inputs], [_type(graph.output)])
    function = func.FuncOp("main", signature, Region(block))
    function.location = start
    return function


def _load_weights(scope: Scope, nodes: Sequence[Node], origins: dict[Node, Source]) -> None:
    for node in nodes:
        if node.op == WEIGHT and node not in scope.values:
            scope.emitter.location = origins[node].location()
            load = ml_program.GlobalLoadConstantOp(SymbolRefAttr(node.name), _type(node))
            scope.values[node] = scope.emitter.add(load, node.name.replace(".", "_"))


def _call(scope: Scope, layer: Layer, callee: func.FuncOp, origins: dict[Node, Source]) -> None:
    _load_weights(scope, layer.inputs, origins)
    arguments: list[SSAValue] = [scope.values[node] for node in layer.inputs]
    call = func.CallOp(callee.sym_name.data, arguments, [_type(node) for node in layer.outputs])
    call.attributes["dcom.layer"] = IntegerAttr(layer.index, i64)
    scope.emitter.location = layer.nodes[0].source.location(layer.prefix)
    scope.emitter.append(call)
    for node, result in zip(layer.outputs, call.results, strict=True):
        result.name_hint = f"hidden_{layer.index}"
        scope.values[node] = result
