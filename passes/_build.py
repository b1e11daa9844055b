"""Building Level 0 operations: structured operations from index letters, each with the location of what it comes from.

The functions here insert where the innermost `building` block says.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import cast

from xdsl.builder import Builder, ImplicitBuilder
from xdsl.dialects import arith, scf, tensor
from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    Float16Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.dialects.linalg.ops import FillOp, IndexOp, YieldOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.utils.hints import isa

from dcomc.einsum import element_of, generic, shape_of
from dcomc.ir import errors_at, locate

Body = (
    Callable[[], SSAValue]
    | Callable[[SSAValue], SSAValue]
    | Callable[[SSAValue, SSAValue], SSAValue]
    | Callable[[SSAValue, SSAValue, SSAValue], SSAValue]
    | Callable[[SSAValue, SSAValue, SSAValue, SSAValue], SSAValue]
    | Callable[[SSAValue, SSAValue, SSAValue, SSAValue, SSAValue], SSAValue]
)
"""Makes the element of the output from the elements of the inputs and, where there is a reduction, of the output so
far."""


@contextmanager
def building(point: InsertPoint, location: LocationAttr) -> Generator[list[Operation]]:
    """Insert the operations that are made in this context at `point`, with `location`; yields them, as they come.

    Errors are at that location too.
    """
    made: list[Operation] = []

    def place(op: Operation) -> None:
        locate([op], location)
        made.append(op)

    with ImplicitBuilder(Builder(point, operation_insertion_handler=[place])), errors_at(location):
        yield made


def constant(value: float, element: Attribute) -> SSAValue:
    """A scalar constant of a floating-point, integer or index type."""
    if isinstance(element, AnyFloat):
        return arith.ConstantOp(FloatAttr(float(value), element)).result
    assert isa(element, IntegerType | IndexType)
    return arith.ConstantOp(IntegerAttr(int(value), element)).result


def empty(shape: Sequence[int], element: Attribute) -> SSAValue:
    return tensor.EmptyOp([], TensorType(element, shape)).tensor


def filled(shape: Sequence[int], element: Attribute, value: float) -> SSAValue:
    """A tensor of equal elements."""
    return FillOp([constant(value, element)], [empty(shape, element)]).results[0]


def structured(
    letters: str,
    inputs: Sequence[SSAValue],
    element: Attribute,
    body: Body,
    *,
    initial: float | None = None,
    sizes: Mapping[str, int] | None = None,
) -> SSAValue:
    """A `linalg.generic` written as an einsum.

    Args:
        letters, inputs, sizes: as `dcomc.einsum.generic` has them.
        element: of the output.
        body: makes the element of the output; receives the elements of the inputs, then, where something reduces,
            the element that has been reduced so far; `loop_index` gives positions.
        initial: what a reduction starts from.
    """

    def start(shape: Sequence[int]) -> SSAValue:
        return empty(shape, element) if initial is None else filled(shape, element, initial)

    def fill(block: Block, _: str) -> None:
        arguments = block.args if initial is not None else block.args[:-1]
        with ImplicitBuilder(block):
            YieldOp(cast(Callable[..., SSAValue], body)(*arguments))

    return generic(letters, inputs, start, fill, sizes).results[0]


def loop_index(dimension: int) -> SSAValue:
    """Inside a body: the position in loop `dimension`, i64. Loops count in the order of output letters, then others."""
    return arith.IndexCastOp(IndexOp(dimension).result, i64).result


def widen(value: SSAValue) -> SSAValue:
    """A scalar in float32."""
    return arith.ExtFOp(value, f32).result if isinstance(value.type, Float16Type) else value


def multiply_add(a: SSAValue, b: SSAValue, total: SSAValue) -> SSAValue:
    """total + a b in float32: the body of every contraction."""
    return add(total, multiply(widen(a), widen(b)))


def add_square(x: SSAValue, total: SSAValue) -> SSAValue:
    """total + x² in float32: the body of every sum of squares."""
    return multiply_add(x, x, total)


def one_where(condition: SSAValue) -> SSAValue:
    """1 where an i1 holds, else 0, in float32."""
    return select(condition, constant(1, f32), constant(0, f32))


def quotient(x: SSAValue, divisor: SSAValue) -> SSAValue:
    """x / divisor where the divisor is positive, else 0, in float32."""
    return select(compare(divisor, "ogt", constant(0, f32)), divide(x, divisor), constant(0, f32))


def count_above(mine: int) -> Callable[[SSAValue, SSAValue, SSAValue], SSAValue]:
    """The body that counts, i64, what ranks above an element: what is greater, or equal and before it.

    Args:
        mine: the loop over the elements; the next one is over those that each is compared with.
    """

    def count(element: SSAValue, other: SSAValue, above: SSAValue) -> SSAValue:
        tie = both(compare(other, "oeq", element), compare(loop_index(mine + 1), "slt", loop_index(mine)))
        higher = either(compare(other, "ogt", element), tie)
        return arith.AddiOp(above, arith.ExtUIOp(higher, i64).result).result

    return count


def contract(letters: str, a: SSAValue, b: SSAValue) -> SSAValue:
    """The contraction of two tensors, float32 whatever their elements."""
    return structured(letters, [a, b], f32, multiply_add, initial=0)


def convert(value: SSAValue, element: Attribute) -> SSAValue:
    """A tensor of 16-bit floats or float32 in another of these types, or as it is where it has that type already."""
    if element_of(value) == element:
        return value
    if f32 not in (element_of(value), element):
        value = convert(value, f32)
    letters = "abcd"[: len(shape_of(value))]
    operation = arith.ExtFOp if element == f32 else arith.TruncFOp
    return structured(f"{letters}->{letters}", [value], element, lambda x: operation(x, element).result)


def split_rows(value: SSAValue, batch: int) -> SSAValue:
    """[B*S, N] to [B, S, N]."""
    rows, cols = shape_of(value)
    shape = (batch, rows // batch, cols)
    return tensor.ExpandShapeOp(
        value, [], _reassociation([[0, 1], [2]]), shape, TensorType(element_of(value), shape)
    ).result


def join_rows(value: SSAValue) -> SSAValue:
    """[B, S, N] to [B*S, N]."""
    batch, rows, cols = shape_of(value)
    return tensor.CollapseShapeOp.build(
        operands=[value],
        result_types=[TensorType(element_of(value), (batch * rows, cols))],
        properties={"reassociation": _reassociation([[0, 1], [2]])},
    ).result


def reshape(value: SSAValue, shape: Sequence[int]) -> SSAValue:
    """The elements of a tensor in row-major order in another shape, by collapsing and expanding dimensions."""
    groups = _aligned(shape_of(value), shape)
    before, after = [left for left, _ in groups], [right for _, right in groups]
    if max(map(len, before)) > 1:
        joined = [prod(shape_of(value)[dimension] for dimension in group) for group in before]
        type_ = TensorType(element_of(value), joined)
        value = tensor.CollapseShapeOp.build(
            operands=[value], result_types=[type_], properties={"reassociation": _reassociation(before)}
        ).result
    if max(map(len, after)) > 1:
        type_ = TensorType(element_of(value), shape)
        value = tensor.ExpandShapeOp(value, [], _reassociation(after), shape, type_).result
    return value


def _aligned(first: Sequence[int], second: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The dimensions of two shapes of as many elements in groups of as many elements, the most there are, in order."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(first) and j < len(second):
        (left, a), (right, b) = ([i], first[i]), ([j], second[j])
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                left.append(i)
                a, i = a * first[i], i + 1
            else:
                right.append(j)
                b, j = b * second[j], j + 1
        groups.append((left, right))
    groups[-1][0].extend(range(i, len(first)))
    groups[-1][1].extend(range(j, len(second)))
    return groups


def _reassociation(groups: Sequence[Sequence[int]]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    return ArrayAttr([ArrayAttr([IntegerAttr(dimension, i64) for dimension in group]) for group in groups])


def read_slice(source: SSAValue, position: SSAValue) -> SSAValue:
    """source[position, …], one dimension fewer."""
    shape = shape_of(source)
    rest = [0] * (len(shape) - 1)
    result = TensorType(element_of(source), shape[1:])
    return tensor.ExtractSliceOp(source, [position, *rest], [1, *shape[1:]], [1] * len(shape), result).result


def write_slice(source: SSAValue, target: SSAValue, position: SSAValue) -> SSAValue:
    """target with target[position, …] = source."""
    shape = shape_of(target)
    return tensor.InsertSliceOp.get(
        source, target, static_sizes=[1, *shape[1:]], offsets=[position], result_type=target.type
    ).result


def first_rows(source: SSAValue, rows: int) -> SSAValue:
    """source[:, :rows] of [B, S, N]."""
    batch, _, cols = shape_of(source)
    return _part(source, (0, 0, 0), (batch, rows, cols))


def some_columns(source: SSAValue, first: int, count: int) -> SSAValue:
    """source[…, first : first + count]."""
    *leading, _ = shape_of(source)
    return _part(source, (*[0] * len(leading), first), (*leading, count))


def _part(source: SSAValue, offsets: Sequence[int], shape: Sequence[int]) -> SSAValue:
    result = TensorType(element_of(source), shape)
    return tensor.ExtractSliceOp(source, list(offsets), list(shape), [1] * len(shape), result).result


def insert_rows(source: SSAValue, target: SSAValue) -> SSAValue:
    """target with target[:, :S] = source [B, S, N]."""
    sizes = list(shape_of(source))
    return tensor.InsertSliceOp.get(source, target, static_sizes=sizes, result_type=target.type).result


def loop(
    count: int, carried: Sequence[SSAValue], body: Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]]
) -> Sequence[SSAValue]:
    """`scf.for` from 0 to `count`: body maps the index and the carried values to the next carried values."""
    first, last, step = (constant(value, IndexType()) for value in (0, count, 1))
    block = Block(arg_types=[IndexType(), *(value.type for value in carried)])
    with ImplicitBuilder(block):
        scf.YieldOp(*body(block.args[0], block.args[1:]))
    return scf.ForOp(first, last, step, carried, block).results


def add(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.AddfOp(a, b).result


def subtract(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.SubfOp(a, b).result


def multiply(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.MulfOp(a, b).result


def divide(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.DivfOp(a, b).result


def select(condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.SelectOp(condition, a, b).result


def both(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.AndIOp(a, b).result


def either(a: SSAValue, b: SSAValue) -> SSAValue:
    return arith.OrIOp(a, b).result


def compare(a: SSAValue, predicate: str, b: SSAValue) -> SSAValue:
    """i1; the predicate is that of `arith.cmpf` ("ogt") or `arith.cmpi` ("slt")."""
    if isinstance(a.type, AnyFloat):
        return arith.CmpfOp(a, b, predicate).result
    return arith.CmpiOp(a, b, predicate).result
