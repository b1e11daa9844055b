"""Chains of products: the association that is found against all there are, and what a roofline counts."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import TensorType, UnknownLoc, f32
from xdsl.dialects.test import TestOp
from xdsl.ir import Block
from xdsl.rewriter import InsertPoint

from dcomc.costs import Work
from passes._build import building, reshape, shape_of
from passes._chains import Tree, associate, left_to_right
from passes._roofline import Roofline
from runtime.machine import load_machine


def trees(first: int, last: int) -> Iterator[Tree]:
    if first == last:
        yield first
    for middle in range(first, last):
        for left in trees(first, middle):
            for right in trees(middle + 1, last):
                yield (left, right)


def time(tree: Tree, extents: Sequence[int], model: Roofline) -> float:
    def go(tree: Tree) -> tuple[float, int, int]:
        """The time of a product, its first factor and the one after its last."""
        if isinstance(tree, int):
            return 0.0, tree, tree + 1
        (a, first, middle), (b, _, last) = go(tree[0]), go(tree[1])
        m, k, n = extents[first], extents[middle], extents[last]
        return a + b + model.time([Work(2 * m * k * n, 4 * (m * k + k * n + m * n))]), first, last

    return go(tree)[0]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=7), st.sampled_from([0.0, 3.0, 100.0]))
@settings(max_examples=60, deadline=None)
def test_no_association_takes_less_time(extents: list[int], balance: float) -> None:
    model = Roofline.of_host(balance)
    best = associate(extents, 4, model)
    times = [time(tree, extents, model) for tree in trees(0, len(extents) - 2)]
    assert best.time == pytest.approx(min(times))
    assert time(best.tree, extents, model) == pytest.approx(best.time)


def test_equals_go_from_left_to_right() -> None:
    assert associate([5, 5, 5, 5], 4, Roofline.of_host(0)).tree == left_to_right(3) == ((0, 1), 2)


def test_the_factors_of_an_activation_meet_the_weight_first() -> None:
    best = associate([512, 10, 10, 576, 1536], 4, Roofline.of_host(0))
    assert best.text(["U", "core", "V", "W"]) == "(U core) (V W)"
    best = associate([4096, 100, 100, 576, 192], 4, Roofline.of_host(0))
    assert best.text(["U", "core", "V", "W"]) == "U (core (V W))"


def test_an_operation_takes_its_arithmetic_or_its_traffic() -> None:
    host = Roofline.of_host(16)
    assert host.time([Work(100, 1), Work(100, 10)]) == 100 + 160
    assert Roofline.of_host(0).time([Work(100, 10**9)]) == 100
    machine = Roofline.of_machine(load_machine("dcom-16x16"))
    assert machine.time([Work(2 * 16384, 1), Work(1, 2048 * 3)]) == 1 + 3
    assert machine.text(12_345) == "12.3 kcycles"
    assert host.comparison(100, 200) == "dense is cheaper from here, 100 flop against 200 flop"
    assert host.comparison(23_000, 23_010) == "dense is cheaper from here, 23 kflop against 23.01 kflop"
    assert [host.text(time) for time in (999, 1000, 1e12)] == ["999 flop", "1 kflop", "1 Tflop"]


SHAPES = [(6, 4), (24,), (2, 3, 4), (3, 2, 2, 2), (1, 24, 1), (1, 6, 1, 4), (4, 6), (8, 3)]


@pytest.mark.parametrize("before", SHAPES)
@pytest.mark.parametrize("after", SHAPES)
def test_a_shape_becomes_any_other_of_as_many_elements(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    block = Block([source := TestOp(result_types=[TensorType(f32, before)])])
    with building(InsertPoint.at_end(block), UnknownLoc()) as made:
        result = reshape(source.results[0], after)
    assert shape_of(result) == after and len(made) <= 2
    for op in made:
        op.verify()
