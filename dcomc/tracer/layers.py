"""Decoder layers of a captured graph: which nodes form one, and which layers have the same structure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from dcomc.tracer.graph import WEIGHT, Graph, Node


@dataclass(frozen=True)
class Layer:
    """One decoder layer.

    Attributes:
        prefix: its path in the model, `model.layers.3`.
        index: its number.
        nodes: its operations, in order.
        inputs: what it takes from outside: first activations, then weights, each in the order of first use.
        outputs: those of its nodes that are used outside.
    """

    prefix: str
    index: int
    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def weight_name(self, weight: Node) -> str:
        """The name of a weight within the layer, `self_attn.q_proj.weight`; a shared weight keeps its full name."""
        return weight.name.removeprefix(f"{self.prefix}.")

    def module(self, node: Node) -> str:
        """The module path of a node, with `*` for the number as layers share the function: `model.layers.*.mlp`."""
        stem = self.prefix.rpartition(".")[0]
        return f"{stem}.*{node.source.module.removeprefix(self.prefix)}"

    def structure(self) -> tuple[object, ...]:
        """A key that is equal for layers of the same operations, constants, shapes and weight names."""
        numbers = {node: f"in {n}" for n, node in enumerate(self.inputs)}
        numbers |= {node: f"op {n}" for n, node in enumerate(self.nodes)}

        def key(argument: object) -> object:
            if isinstance(argument, Node):
                return (numbers[argument],)
            if isinstance(argument, tuple):
                return tuple(key(item) for item in cast(tuple[object, ...], argument))
            return type(argument).__name__, argument

        return (
            tuple(
                (node.shape, node.dtype, self.weight_name(node) if node.op == WEIGHT else "") for node in self.inputs
            ),
            tuple((node.op, key(node.args), key(node.options), self.module(node)) for node in self.nodes),
            tuple(numbers[node] for node in self.outputs),
        )


def find_layers(graph: Graph) -> Sequence[Layer]:
    """The decoder layers of a graph, in order of their first operation."""
    members: dict[str, list[Node]] = {}
    outside: set[Node] = {graph.output}
    for node in graph.nodes:
        prefix = None if node.op == WEIGHT else node.source.layer
        if prefix is not None:
            members.setdefault(prefix, []).append(node)
        outside.update(operand for operand in node.operands() if operand.source.layer != prefix)
    return [_layer(prefix, nodes, outside) for prefix, nodes in members.items()]


def _layer(prefix: str, nodes: list[Node], outside: set[Node]) -> Layer:
    inside = set(nodes)
    used = dict.fromkeys(operand for node in nodes for operand in node.operands() if operand not in inside)
    activations = [node for node in used if node.op != WEIGHT]
    weights = [node for node in used if node.op == WEIGHT]
    return Layer(
        prefix=prefix,
        index=int(prefix.rpartition(".")[2]),
        nodes=tuple(nodes),
        inputs=(*activations, *weights),
        outputs=tuple(node for node in nodes if node in outside),
    )
