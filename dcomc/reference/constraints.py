"""What the constraints of xDSL's definitions admit, as the reference pages and the IRDL definition both read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects.builtin import ArrayAttr, ArrayOfConstraint, IntAttr, StringAttr, SymbolNameConstraint
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import (
    AnyOf,
    AttrConstraint,
    BaseAttr,
    EqAttrConstraint,
    ParamAttrConstraint,
    RangeConstraint,
    RangeLengthConstraint,
    RangeOf,
)


@dataclass(frozen=True)
class Choice:
    """One of the attributes, or one of the classes of attributes, that a constraint admits."""

    class_: type[Attribute]
    attribute: Attribute | None = None
    """The one attribute that is meant."""
    elements: tuple["Choice", ...] = ()
    """The types that a tensor, an integer or an array may hold; empty where nothing is said."""

    @property
    def name(self) -> str:
        """The class's name in MLIR, without the `builtin.` that upstream's go by."""
        return "integer" if self.class_ is IntAttr else self.class_.name

    @property
    def is_type(self) -> bool:
        return issubclass(self.class_, TypeAttribute)

    @property
    def only(self) -> Attribute | None:
        """The one attribute that there is: the one that is meant, or that of a class without parameters."""
        if self.attribute is None and issubclass(self.class_, ParametrizedAttribute):
            return None if self.class_.get_irdl_definition().parameters else self.class_.new([])
        return self.attribute


def choices(constraint: AttrConstraint | RangeConstraint) -> tuple[Choice, ...]:
    """What may stand in a place; empty where anything may."""
    match cast(Any, constraint):
        case RangeLengthConstraint(constraint=inner):
            return choices(inner)
        case RangeOf(constr=inner):
            return choices(inner)
        case AnyOf(attr_constrs=alternatives):
            return tuple(choice for alternative in alternatives for choice in choices(alternative))
        case EqAttrConstraint(attr=attribute):
            return (Choice(type(attribute), attribute),)
        case BaseAttr(attr=class_):
            return (Choice(class_),)
        case ParamAttrConstraint(base_attr=class_, param_constrs=parameters):
            return (Choice(class_, elements=_types(parameters)),)
        case ArrayOfConstraint(elem_range_constraint=inner):
            return (Choice(ArrayAttr, elements=choices(inner)),)
        case SymbolNameConstraint():
            return (Choice(StringAttr),)
        case _:
            return ()


def _types(parameters: Sequence[AttrConstraint]) -> tuple[Choice, ...]:
    """The types among what a tensor's or an attribute's parameters may be."""
    return tuple(choice for parameter in parameters for choice in choices(parameter) if choice.is_type)


def describe(constraint: AttrConstraint | RangeConstraint) -> str:
    """What a constraint admits, for people: "tensor of `f16` or `f32`"."""
    return _any_of(choices(constraint)) or "anything"


def _any_of(alternatives: Sequence[Choice]) -> str:
    names = [_describe(choice) for choice in alternatives]
    return (", or " if any(" or " in name for name in names) else " or ").join(names)


def _describe(choice: Choice) -> str:
    if choice.only is not None:
        return f"`{choice.only}`"
    if "." in choice.name:
        return f"`{'!' if choice.is_type else '#'}{choice.name}`"
    name, elements = choice.name.replace("symbol_ref", "symbol"), _any_of(choice.elements)
    if choice.class_ is ArrayAttr or choice.is_type:
        return f"{name} of {elements}" if elements else name
    return elements or name
