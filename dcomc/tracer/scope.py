"""What a lowering is: a function that emits one captured node, and which forms of the node it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, SSAValue

from dcomc.einsum import element_of, shape_of
from dcomc.tracer.emitter import ELEMENTS, Emitter
from dcomc.tracer.graph import Node
from dcomc.tracer.scalars import Scalars

FLOATS = frozenset(("bf16", "f16", "f32"))
LETTERS = "abcdefgh"


@dataclass
class Scope:
    """A function being emitted: the values of the nodes so far, and the 2-D views of projections' inputs."""

    emitter: Emitter
    values: dict[Node, SSAValue]
    rows: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    def value(self, argument: object) -> SSAValue:
        """The value of an argument that is a node."""
        return self.values[cast(Node, argument)]

    def lower(self, node: Node, location: LocationAttr, lowering: "Lowering") -> None:
        """Emit one node, which `lowering` takes."""
        self.emitter.location = location
        self.values[node] = lowering.emit(self, node)

    def cast(self, value: SSAValue, element: Attribute, hint: str) -> SSAValue:
        """A tensor with its elements cast; the tensor itself where they are of that type."""
        if element_of(value) == element:
            return value

        def body(scalars: Scalars, a: SSAValue) -> SSAValue:
            return scalars.cast(a, element)

        letters = LETTERS[: len(shape_of(value))]
        return self.emitter.generic(f"{letters}->{letters}", (value,), element, body, hint=hint)


def in_floats(node: Node) -> bool:
    """Whether the result and all operands are of the floating-point types that have values here."""
    return node.dtype in FLOATS and all(operand.dtype in FLOATS for operand in node.operands())


def of_known_type(node: Node) -> bool:
    """Whether the result has an element type of Level 0."""
    return node.dtype in ELEMENTS


@dataclass(frozen=True)
class Lowering:
    """How to emit an operator.

    Attributes:
        emit: appends the operations of a node and returns its value.
        accepts: whether a node's types and arguments are such that `emit` can.
        options: names of keyword arguments that `emit` heeds, or that do not matter to it.
    """

    emit: Callable[[Scope, Node], SSAValue]
    accepts: Callable[[Node], bool] = in_floats
    options: frozenset[str] = frozenset()

    def takes(self, node: Node) -> bool:
        """Whether the node can be emitted."""
        return self.accepts(node) and all(name in self.options for name, _ in node.options)


def axis_of(node: Node, axis: int, rank: int | None = None) -> int:
    """A dimension's number from 0, of a tensor of the node's rank or of `rank`."""
    return axis % (len(node.shape) if rank is None else rank)


def arguments(node: Node, *defaults: object) -> Sequence[object]:
    """The arguments after the first, with defaults for those that are not given."""
    given = node.args[1:]
    return (*given, *defaults[len(given) :])


Table = Mapping[str, Lowering]
