"""The captured graph: a few frozen objects between torch and the emitter, so that neither knows the other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects.builtin import LocationAttr

from dcomc.ir import source_location

WEIGHT = "weight"
INPUT = "input"
CONSTANT = "constant"
WHERE_ABOVE = "dcomc.where_above"
"""The operator of (x, number, yes, no) that is yes where x > number, else no."""

_LAYER = re.compile(r"(?P<prefix>(?:[^.]+\.)*?(?P<index>\d+))(?:\.|$)")


@dataclass(frozen=True)
class Source:
    """Where a node comes from: the path of the innermost module, and a line of the package that holds the model."""

    module: str
    file: str
    line: int

    def location(self, module: str | None = None) -> LocationAttr:
        """The location of this source, with another module path if one is given."""
        return source_location(self.module if module is None else module, self.file, self.line)

    @property
    def layer(self) -> str | None:
        """The path of the decoder layer, `model.layers.3`: the module path up to its first number."""
        match = _LAYER.match(self.module)
        return match["prefix"] if match else None


@dataclass(frozen=True, eq=False)
class Node:
    """One operation, weight or input.

    Attributes:
        name: the checkpoint's name of a weight; otherwise unique in the graph.
        op: `weight`, `input`, `constant`, or the operator's name such as `aten.linear.default`.
        args: operands and constants in the order of the operator's schema; the numbers of a constant tensor.
        options: keyword arguments that are not at their defaults.
        shape, dtype: of the result; dtype is `f16`, `bf16`, `f32`, `i64`, …
    """

    name: str
    op: str
    args: tuple[object, ...]
    options: tuple[tuple[str, object], ...]
    shape: tuple[int, ...]
    dtype: str
    source: Source

    def operands(self) -> Iterator["Node"]:
        """The nodes among the arguments, tuples included, in order."""
        if self.op == CONSTANT:
            return
        pending = list(self.args)
        while pending:
            argument = pending.pop(0)
            if isinstance(argument, Node):
                yield argument
            elif isinstance(argument, tuple):
                pending[:0] = argument


@dataclass(frozen=True)
class Graph:
    """What `capture` returns: all weights and operations that the logits need, each after its operands."""

    nodes: tuple[Node, ...]
    output: Node


def reachable(nodes: list[Node], *outputs: Node) -> tuple[Node, ...]:
    """The nodes that some nodes depend on, and these, in their order."""
    needed = {*outputs}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.operands())
    return tuple(node for node in nodes if node in needed)
