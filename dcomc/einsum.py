"""`linalg.generic` written as an einsum: what the tracer and the passes build alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr, TensorType
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor, () of a scalar."""
    return cast(TensorType[Attribute], value.type).get_shape() if isinstance(value.type, TensorType) else ()


def element_of(value: SSAValue) -> Attribute:
    """The element type of a tensor, the type itself of a scalar."""
    kind = value.type
    return cast(TensorType[Attribute], kind).element_type if isinstance(kind, TensorType) else kind


def generic(
    subscripts: str,
    inputs: Sequence[SSAValue],
    start: Callable[[Sequence[int]], SSAValue],
    body: Callable[[Block, str], None],
    sizes: Mapping[str, int] | None = None,
) -> GenericOp:
    """A `linalg.generic` whose letters name the loops; those that the output lacks are reduced.

    Args:
        subscripts: a group of letters for each input, then `->` and the output's, such as `sh,h->s`; a scalar, or a
            tensor without dimensions, has no letters (`,h->h`).
        inputs: tensors or scalars, one for each group.
        start: makes the output operand of a shape.
        body: fills the block, whose arguments are the elements of the inputs and of the output; takes the letters of
            the loops, too, in their order: the output's, then the others.
        sizes: of letters that no input has.
    """
    left, output = subscripts.replace(" ", "").split("->")
    groups = left.split(",") if inputs else []
    loops = "".join(dict.fromkeys(output + "".join(groups)))
    extents = dict(sizes or {})
    for group, value in zip(groups, inputs, strict=True):
        extents.update(zip(group, shape_of(value), strict=True))
    target = start([extents[letter] for letter in output])
    block = Block(arg_types=[element_of(value) for value in (*inputs, target)])
    body(block, loops)
    maps = [
        AffineMapAttr(AffineMap(len(loops), 0, tuple(AffineExpr.dimension(loops.index(letter)) for letter in group)))
        for group in (*groups, output)
    ]
    kinds = [IteratorTypeAttr.parallel() if letter in output else IteratorTypeAttr.reduction() for letter in loops]
    return GenericOp(inputs, [target], Region(block), maps, ArrayAttr(kinds), [target.type])
