"""The tracer's building blocks: reshapes between any two shapes of one size, and generics by subscripts."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects import test as test_dialect
from xdsl.dialects.builtin import f32
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.ir import Block, SSAValue

from dcomc.einsum import shape_of
from dcomc.ir import source_location
from dcomc.tracer.emitter import Emitter, Scalars, tensor_type

HERE = source_location("here", "model.py", 3)


@st.composite
def two_shapes_of_one_size(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> list[int]:
        cuts = sorted(draw(st.sets(st.integers(1, len(factors)), max_size=5)) | {0, len(factors)})
        return [math.prod(factors[start:end]) for start, end in itertools.pairwise(cuts)]

    return grouped(), grouped()


@given(two_shapes_of_one_size())
def test_any_reshape_is_valid(shapes: tuple[list[int], list[int]]) -> None:
    source, target = shapes
    argument = test_dialect.TestOp(result_types=[tensor_type(source, f32)])
    block = Block([argument])
    result = Emitter(block, HERE).reshape(argument.results[0], target)
    assert list(shape_of(result)) == target
    for op in block.ops:
        op.verify()
    # At most a collapse and an expansion.
    assert len(list(block.ops)) <= 3


def test_a_generic_reduces_the_letters_that_its_output_lacks() -> None:
    left, right = (
        test_dialect.TestOp(result_types=[tensor_type([4, 6], f32)]),
        test_dialect.TestOp(result_types=[tensor_type([5, 6], f32)]),
    )
    block = Block([left, right])

    def product(scalars: Scalars, a: SSAValue, b: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.plus(total, scalars.mul(a, b))

    result = Emitter(block, HERE).generic(
        "ik,jk->ji", (left.results[0], right.results[0]), f32, product, init=0.0, hint="product"
    )
    op = result.owner
    assert isinstance(op, GenericOp)
    op.verify()
    assert shape_of(result) == (5, 4) and result.name_hint == "product"
    assert [str(each.data) for each in op.indexing_maps] == [
        "(d0, d1, d2) -> (d1, d2)",
        "(d0, d1, d2) -> (d0, d2)",
        "(d0, d1, d2) -> (d0, d1)",
    ]
    assert [each.data.value for each in op.iterator_types] == ["parallel", "parallel", "reduction"]
    assert all(inner.location == HERE for inner in op.walk())
    assert all(argument.location == HERE for argument in op.body.block.args)


def test_subscripts_must_match_the_inputs() -> None:
    value = test_dialect.TestOp(result_types=[tensor_type([4, 6], f32)])
    with pytest.raises(ValueError, match="zip"):
        Emitter(Block([value]), HERE).generic("ijk->i", (value.results[0],), f32, Scalars.negate)
