"""What is known of values while kernels are made of a module: who makes them, what lies behind them, their size."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from xdsl.dialects import func
from xdsl.dialects.builtin import AnyFloat, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.hints import isa

from dcomc.costs import bytes_of
from dialects.dcom import FactoredType, OutliersType, TokensType, WeightType


@dataclass(frozen=True)
class Known:
    """What is known of a value: whose results it needs, what it is a view of, and how it lies."""

    needs: frozenset[int] = frozenset()
    """Kernels by index; -1 - n is argument n of the function."""
    root: SSAValue | None = None
    sharded: bool = False
    """Whether each GPU holds a part of it."""
    weight: bool = False
    site: str = ""
    track: bool = False
    """Whether it is the product of an exact track, which accumulates what it is added to."""

    @property
    def sorted_needs(self) -> tuple[int, ...]:
        return tuple(sorted(self.needs))


class Values:
    """The values of one function; what is not there is a constant, or empty."""

    def __init__(self, function: func.FuncOp) -> None:
        arguments = function.body.block.args
        self._known: dict[SSAValue, Known] = {}
        self.element_bytes = min((element_size(a.type) for a in arguments if is_float(a.type)), default=4)
        """Bytes of an element of the model's activations."""
        for number, argument in enumerate(arguments):
            weight = function.arg_attrs is not None and "dcom.weight" in function.arg_attrs.data[number].data
            needs = frozenset[int]() if weight else frozenset({-1 - number})
            self._known[argument] = Known(needs, argument, weight=weight)

    def __contains__(self, value: SSAValue) -> bool:
        return value in self._known

    def __getitem__(self, value: SSAValue) -> Known:
        return self._known[value]

    def view(self, values: Iterable[SSAValue], known: Known) -> None:
        """Let all these be known so, as views of one root."""
        self._known |= dict.fromkeys(values, known)

    def made(self, values: Iterable[SSAValue], known: Known) -> None:
        """Let all these be known alike, each a value of its own."""
        self._known |= {value: replace(known, root=value) for value in values}

    def rename(self, old: int, new: int) -> None:
        """Let what a kernel made come from another."""
        self._known |= {
            value: replace(known, needs=known.needs - {old} | {new})
            for value, known in self._known.items()
            if old in known.needs
        }

    def join(self, values: Iterable[SSAValue]) -> Known:
        """What a view of these values is: of the first that is no weight, with the needs of all."""
        found = [self._known[value] for value in values if value in self._known]
        data = [known for known in found if not known.weight] or found
        if not data:
            return Known()
        return replace(
            data[0],
            needs=frozenset[int]().union(*(known.needs for known in data)),
            sharded=any(known.sharded for known in data),
            track=any(known.track for known in data),
            site=next((known.site for known in data if known.site), ""),
        )

    def roots(self, values: Iterable[SSAValue]) -> set[SSAValue]:
        """What lies behind these values."""
        return {root for value in values if (root := self._known.get(value, Known()).root) is not None}

    def reads(self, values: Iterable[SSAValue], *, weights: bool) -> int:
        """Bytes of what lies behind these values, each once: of the weights among them, or of the others."""
        chosen = [value for value in values if value in self._known and self._known[value].weight is weights]
        return sum(self.bytes(root.type) for root in self.roots(chosen))

    def bytes(self, type_: Attribute) -> int:
        """Bytes of a value, in the model's element type where the IR widens it."""
        each = element_size(type_)
        return bytes_of(type_) * min(each, self.element_bytes) // each if is_float(type_) else bytes_of(type_)


def is_float(type_: Attribute) -> bool:
    """Whether a type is of floating-point tensors, factors or tracks."""
    element = type_.element_type if isa(type_, TensorType[Attribute]) else None
    return isinstance(element, AnyFloat) or isinstance(type_, FactoredType | OutliersType | TokensType | WeightType)


def element_size(type_: Attribute) -> int:
    """Bytes of an element."""
    if isinstance(type_, FactoredType | OutliersType | TokensType | WeightType):
        return bytes_of(type_.element_type)
    return bytes_of(type_.element_type) if isa(type_, TensorType[Attribute]) else 4


def shape_of(type_: Attribute) -> tuple[int, ...]:
    """The shape of a tensor, or of what a track stands for; () for any other type."""
    if isinstance(type_, FactoredType | OutliersType | TokensType):
        return type_.dimensions
    return type_.get_shape() if isa(type_, TensorType[Attribute]) or isinstance(type_, WeightType) else ()


def rows_of(type_: Attribute) -> int:
    """All dimensions but the last."""
    return prod(shape_of(type_)[:-1])


def width_of(type_: Attribute) -> int:
    """The last dimension."""
    return (shape_of(type_) or (1,))[-1]
