"""linalg.generic as whole arrays against the definition: its body, in scalar Python, at every point in order.

Several results are written without parentheses, which is how xDSL 0.74 parses (but not prints) them.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from backends import run_all
from hypothesis import given, settings
from hypothesis import strategies as st

from dcomc.diagnostics import DcomError
from dcomc.ir import parse_module

Point = tuple[int, ...]


@dataclass(frozen=True)
class Index:
    """One result of an indexing map: its text, and its value at a point."""

    text: str
    at: Callable[[Point], int]
    loops: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """An expression of a body: an operation on other nodes, or a leaf."""

    kind: str
    value: int = 0
    children: tuple["Node", ...] = ()


WRAP = 1 << 32
INTEGER: dict[str, tuple[str, Callable[..., int]]] = {
    "add": ("arith.addi", operator.add),
    "sub": ("arith.subi", operator.sub),
    "mul": ("arith.muli", operator.mul),
    "max": ("arith.maxsi", max),
    "min": ("arith.minsi", min),
    "and": ("arith.andi", operator.and_),
    "xor": ("arith.xori", operator.xor),
}


def wrap(value: int) -> int:
    """As a signed 32-bit integer."""
    return (value + WRAP // 2) % WRAP - WRAP // 2


def plain(loop: int) -> Index:
    return Index(f"d{loop}", lambda p: p[loop], (loop,))


@st.composite
def index_expressions(draw: st.DrawFn, loops: int, *, output: bool = False) -> Index:
    loop = draw(st.integers(0, loops - 1))
    other = draw(st.integers(0, loops - 1))
    factor = draw(st.integers(2, 3))
    if output or draw(st.booleans()):
        return plain(loop)
    return draw(
        st.sampled_from(
            [
                Index(f"d{loop} floordiv {factor}", lambda p: p[loop] // factor, (loop,)),
                Index(f"d{loop} mod {factor}", lambda p: p[loop] % factor, (loop,)),
                Index(f"d{loop} * {factor} + 1", lambda p: p[loop] * factor + 1, (loop,)),
                Index(f"d{loop} + d{other}", lambda p: p[loop] + p[other], (loop, other)),
                Index(f"{factor}", lambda p: factor, ()),
            ]
        )
    )


@st.composite
def output_maps(draw: st.DrawFn, loops: int) -> list[Index]:
    """Mostly distinct loops, as upstream's named operations have; sometimes anything."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.lists(index_expressions(loops), min_size=1, max_size=2))
    chosen = draw(st.permutations(range(loops)))
    return [plain(loop) for loop in chosen[: draw(st.integers(0, loops))]]


@st.composite
def expressions(draw: st.DrawFn, loops: int, arguments: int, depth: int) -> Node:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        kind = draw(st.sampled_from(["argument", "argument", "index", "constant", "captured", "gather"]))
        return Node(kind, draw(st.integers(0, {"argument": arguments - 1, "index": loops - 1}.get(kind, 3))))
    kind = draw(st.sampled_from([*INTEGER, "select"]))
    child = expressions(loops, arguments, depth - 1)
    return Node(kind, 0, tuple(draw(child) for _ in range(4 if kind == "select" else 2)))


@dataclass(frozen=True)
class Generic:
    """A random linalg.generic on i32."""

    space: tuple[int, ...]
    maps: list[list[Index]]
    inputs: int
    results: list[Node]

    def shapes(self) -> list[tuple[int, ...]]:
        points = list(product(*map(range, self.space)))
        return [tuple(max(index.at(p) for p in points) + 1 for index in map_) for map_ in self.maps]

    def text(self) -> str:
        loops = ", ".join(f"d{loop}" for loop in range(len(self.space)))
        maps = ", ".join(f"affine_map<({loops}) -> ({', '.join(i.text for i in map_)})>" for map_ in self.maps)
        types = ["tensor<" + "".join(f"{size}x" for size in shape) + "i32>" for shape in self.shapes()]
        outputs = ", ".join(types[self.inputs :])
        reduced = [
            loop
            for loop in range(len(self.space))
            if not all(any(index.loops == (loop,) for index in map_) for map_ in self.maps[self.inputs :])
        ]
        iterators = ", ".join('"reduction"' if d in reduced else '"parallel"' for d in range(len(self.space)))
        lines: list[str] = []
        names = [self.emit(node, lines) for node in self.results]
        arguments = ", ".join(f"%b{i}: i32" for i in range(len(self.maps)))
        parameters = ", ".join(f"%x{i}: {type_}" for i, type_ in enumerate(types))
        ins = ", ".join(f"%x{i}" for i in range(self.inputs)) + " : " + ", ".join(types[: self.inputs])
        outs = ", ".join(f"%x{i}" for i in range(self.inputs, len(types))) + " : " + outputs
        body = "\n    ".join(lines)
        return f"""
func.func @main({parameters}, %table: tensor<4xi32>, %s: i32) -> ({outputs}) {{
  %r:{len(types) - self.inputs} = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{iterators}]}}
      ins({ins}) outs({outs}) {{
  ^bb0({arguments}):
    {body}
    linalg.yield {", ".join(names)} : {", ".join("i32" for _ in names)}
  }} -> {outputs}
  func.return {", ".join(f"%r#{i}" for i in range(len(types) - self.inputs))} : {outputs}
}}"""

    def emit(self, node: Node, lines: list[str]) -> str:
        """The name of the node's value, its operations appended to `lines`."""

        def line(text: str) -> str:
            lines.append(f"%v{len(lines)} = {text}")
            return f"%v{len(lines) - 1}"

        operands = [self.emit(child, lines) for child in node.children]
        match node.kind:
            case "argument":
                return f"%b{node.value}"
            case "index":
                return line(f"arith.index_cast {line(f'linalg.index {node.value} : index')} : index to i32")
            case "constant":
                return line(f"arith.constant {node.value} : i32")
            case "captured":
                return "%s"
            case "gather":
                three = line("arith.constant 3 : i32")
                kept = line(f"arith.andi {three}, %b{node.value % len(self.maps)} : i32")
                where = line(f"arith.index_cast {kept} : i32 to index")
                return line(f"tensor.extract %table[{where}] : tensor<4xi32>")
            case "select":
                condition = line(f"arith.cmpi slt, {operands[0]}, {operands[1]} : i32")
                return line(f"arith.select {condition}, {operands[2]}, {operands[3]} : i32")
            case kind:
                return line(f"{INTEGER[kind][0]} {operands[0]}, {operands[1]} : i32")

    def value(self, node: Node, point: Point, elements: Sequence[int], table: Sequence[int], scalar: int) -> int:
        a = [self.value(child, point, elements, table, scalar) for child in node.children]
        match node.kind:
            case "argument":
                return elements[node.value]
            case "index":
                return point[node.value]
            case "constant":
                return node.value
            case "captured":
                return scalar
            case "gather":
                return table[elements[node.value % len(self.maps)] & 3]
            case "select":
                return a[2] if a[0] < a[1] else a[3]
            case kind:
                return wrap(INTEGER[kind][1](a[0], a[1]))

    def define(self, arrays: Sequence[Any], table: Sequence[int], scalar: int) -> list[Any]:
        """What the operation means."""
        arrays = [array.copy() for array in arrays]
        for point in product(*map(range, self.space)):
            places = [tuple(index.at(point) for index in map_) for map_ in self.maps]
            elements = [int(array[place]) for array, place in zip(arrays, places, strict=True)]
            values = [self.value(node, point, elements, table, scalar) for node in self.results]
            for array, place, value in zip(arrays[self.inputs :], places[self.inputs :], values, strict=True):
                array[place] = value
        return arrays[self.inputs :]


@st.composite
def generics(draw: st.DrawFn) -> Generic:
    space = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    loops = len(space)
    every = [plain(loop) for loop in draw(st.permutations(range(loops)))]
    inputs = [every, *draw(st.lists(st.lists(index_expressions(loops), max_size=3), max_size=2))]
    first = draw(output_maps(loops))
    outputs = [first]
    if draw(st.booleans()):
        same = draw(st.booleans()) and all(index.loops for index in first)
        outputs.append(draw(st.permutations(first)) if same else draw(output_maps(loops)))
    count = len(inputs) + len(outputs)
    results: list[Node] = []
    for position in range(len(outputs)):
        form = draw(st.sampled_from(["any", "fold", "contraction"]))
        value = draw(expressions(loops, len(inputs) if form != "any" else count, 2))
        if form == "contraction":
            value = Node("mul", 0, tuple(Node("argument", draw(st.integers(0, len(inputs) - 1))) for _ in range(2)))
        accumulator = Node("argument", len(inputs) + position)
        combine = draw(st.sampled_from(["add", "max", "min", "mul", "xor"])) if form == "fold" else "add"
        pair = draw(st.permutations([accumulator, value]))
        results.append(value if form == "any" else Node(combine, 0, tuple(pair)))
    return Generic(space, [*inputs, *outputs], len(inputs), results)


@given(generics(), st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None)
def test_generic_means_its_body_at_every_point(generic: Generic, seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays = [random.integers(-9, 10, shape).astype(np.int32) for shape in generic.shapes()]
    table = random.integers(-9, 10, 4).astype(np.int32)
    results = run_all(parse_module(generic.text(), "generic"), {}, *arrays, table, np.int32(7))
    expected = generic.define(arrays, table.tolist(), 7)
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, wanted)


def run(text: str, *arguments: Any) -> Any:
    """By every back end."""
    return run_all(parse_module(text, "test.mlir"), {}, *arguments)


def contraction(a: str, b: str, out: str, shapes: Sequence[str], element: str, accumulator: str) -> str:
    loops = "b, h, g, s, t, d"
    extend = (
        ""
        if element == accumulator
        else f"""
    %x = arith.extf %p : {element} to {accumulator}
    %y = arith.extf %q : {element} to {accumulator}"""
    )
    names = ("%p", "%q") if element == accumulator else ("%x", "%y")
    types = [f"tensor<{shape}x{kind}>" for shape, kind in zip(shapes, (element, element, accumulator), strict=True)]
    return f"""
func.func @main(%a: {types[0]}, %b: {types[1]}, %c: {types[2]}) -> {types[2]} {{
  %r = linalg.generic {{indexing_maps = [affine_map<({loops}) -> ({a})>, affine_map<({loops}) -> ({b})>,
      affine_map<({loops}) -> ({out})>], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel",
      "reduction"]}} ins(%a, %b : {types[0]}, {types[1]}) outs(%c : {types[2]}) {{
  ^bb0(%p: {element}, %q: {element}, %acc: {accumulator}):{extend}
    %m = arith.mulf {names[0]}, {names[1]} : {accumulator}
    %n = arith.addf %acc, %m : {accumulator}
    linalg.yield %n : {accumulator}
  }} -> {types[2]}
  func.return %r : {types[2]}
}}"""


@pytest.mark.parametrize(("element", "tolerance"), [("f32", 1e-5), ("f16", 1e-5)])
def test_grouped_attention_scores(element: str, tolerance: float) -> None:
    """q [B, S, KV, G, D] times k [B, T, KV, D] into [B, KV, G, S, T], summed in float32 and added to the output."""
    dtype = np.float32 if element == "f32" else np.float16
    random = np.random.default_rng(0)
    q, k = random.normal(size=(2, 5, 3, 2, 8)).astype(dtype), random.normal(size=(2, 7, 3, 8)).astype(dtype)
    start = random.normal(size=(2, 3, 2, 5, 7)).astype(np.float32)
    text = contraction(
        "b, s, h, g, d", "b, t, h, d", "b, h, g, s, t", ["2x5x3x2x8", "2x7x3x8", "2x3x2x5x7"], element, "f32"
    )
    (result,) = run(text, q, k, start)
    assert result.dtype == np.float32
    expected = start + np.einsum("bshgd,bthd->bhgst", q.astype(np.float64), k.astype(np.float64))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def test_a_contraction_is_not_matched_when_a_loop_is_in_one_operand_only() -> None:
    """Summing over a loop that only one factor has must not lose the repetition of the other."""
    text = """
func.func @main(%a: tensor<3x4xf32>, %b: tensor<3xf32>, %c: tensor<3xf32>) -> tensor<3xf32> {
  %r = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>,
      affine_map<(i, j) -> (i)>], iterator_types = ["parallel", "reduction"]}
      ins(%a, %b : tensor<3x4xf32>, tensor<3xf32>) outs(%c : tensor<3xf32>) {
  ^bb0(%x: f32, %y: f32, %acc: f32):
    %m = arith.mulf %y, %x : f32
    %n = arith.addf %acc, %m : f32
    linalg.yield %n : f32
  } -> tensor<3xf32>
  func.return %r : tensor<3xf32>
}"""
    a, b, c = np.arange(12, dtype=np.float32).reshape(3, 4), np.float32([1, 2, 3]), np.float32([4, 5, 6])
    np.testing.assert_array_equal(run(text, a, b, c)[0], c + b * a.sum(1))


def test_argmax_runs_in_order() -> None:
    """A reduction of two outputs that no ufunc has: the first of equal maxima wins."""
    text = """
func.func @main(%x: tensor<3x5xf32>, %best: tensor<3xf32>, %where: tensor<3xi64>) -> tensor<3xi64> {
  %r:2 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>,
      affine_map<(i, j) -> (i)>], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<3x5xf32>) outs(%best, %where : tensor<3xf32>, tensor<3xi64>) {
  ^bb0(%v: f32, %b: f32, %w: i64):
    %j = linalg.index 1 : index
    %k = arith.index_cast %j : index to i64
    %more = arith.cmpf ogt, %v, %b : f32
    %b1 = arith.select %more, %v, %b : f32
    %w1 = arith.select %more, %k, %w : i64
    linalg.yield %b1, %w1 : f32, i64
  } -> tensor<3xf32>, tensor<3xi64>
  func.return %r#1 : tensor<3xi64>
}"""
    x = np.float32([[1, 9, 2, 9, 0], [5, 4, 3, 2, 1], [-4, -3, -2, -1, -1]])
    (result,) = run(text, x, np.full(3, -np.inf, np.float32), np.zeros(3, np.int64))
    np.testing.assert_array_equal(result, [1, 0, 3])


def test_float_reductions_of_a_large_tensor() -> None:
    """Softmax over [heads, S, T] larger than a part, in the four generics that a model has."""
    text = """
#full = affine_map<(h, s, t) -> (h, s, t)>
#row = affine_map<(h, s, t) -> (h, s)>
func.func @main(%x: tensor<6x200x200xf32>) -> tensor<6x200x200xf32> {
  %e2 = tensor.empty() : tensor<6x200xf32>
  %e3 = tensor.empty() : tensor<6x200x200xf32>
  %low = arith.constant 0xFF800000 : f32
  %zero = arith.constant 0.0 : f32
  %m0 = linalg.fill ins(%low : f32) outs(%e2 : tensor<6x200xf32>) -> tensor<6x200xf32>
  %s0 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<6x200xf32>) -> tensor<6x200xf32>
  %masked = linalg.generic {indexing_maps = [#full, #full], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%x : tensor<6x200x200xf32>) outs(%e3 : tensor<6x200x200xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = linalg.index 1 : index
    %t = linalg.index 2 : index
    %keep = arith.cmpi ule, %t, %s : index
    %v = arith.select %keep, %a, %low : f32
    linalg.yield %v : f32
  } -> tensor<6x200x200xf32>
  %m = linalg.generic {indexing_maps = [#full, #row], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%masked : tensor<6x200x200xf32>) outs(%m0 : tensor<6x200xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %v = arith.maximumf %a, %acc : f32
    linalg.yield %v : f32
  } -> tensor<6x200xf32>
  %e = linalg.generic {indexing_maps = [#full, #row, #full], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%masked, %m : tensor<6x200x200xf32>, tensor<6x200xf32>) outs(%e3 : tensor<6x200x200xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %d = arith.subf %a, %b : f32
    %v = math.exp %d : f32
    linalg.yield %v : f32
  } -> tensor<6x200x200xf32>
  %sum = linalg.generic {indexing_maps = [#full, #row], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%e : tensor<6x200x200xf32>) outs(%s0 : tensor<6x200xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %v = arith.addf %a, %acc : f32
    linalg.yield %v : f32
  } -> tensor<6x200xf32>
  %p = linalg.generic {indexing_maps = [#full, #row, #full], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%e, %sum : tensor<6x200x200xf32>, tensor<6x200xf32>) outs(%e3 : tensor<6x200x200xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %v = arith.divf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<6x200x200xf32>
  func.return %p : tensor<6x200x200xf32>
}"""
    x = np.random.default_rng(1).normal(size=(6, 200, 200)).astype(np.float32) * 4
    masked = np.where(np.tri(200, dtype=bool), x.astype(np.float64), -np.inf)
    weights = np.exp(masked - masked.max(-1, keepdims=True))
    np.testing.assert_allclose(run(text, x)[0], weights / weights.sum(-1, keepdims=True), atol=1e-6)


def test_matmul_of_f16_is_summed_in_f32_and_rounded_once() -> None:
    text = """
func.func @main(%a: tensor<4x300xf16>, %b: tensor<300x5xf16>, %c: tensor<4x5xf16>) -> tensor<4x5xf16> {
  %r = linalg.matmul ins(%a, %b : tensor<4x300xf16>, tensor<300x5xf16>)
      outs(%c : tensor<4x5xf16>) -> tensor<4x5xf16>
  func.return %r : tensor<4x5xf16>
}"""
    random = np.random.default_rng(2)
    a, b = random.normal(size=(4, 300)).astype(np.float16), random.normal(size=(300, 5)).astype(np.float16)
    c = random.normal(size=(4, 5)).astype(np.float16)
    (result,) = run(text, a, b, c)
    assert result.dtype == np.float16
    np.testing.assert_allclose(result, c + a.astype(np.float64) @ b.astype(np.float64), rtol=2**-10, atol=1e-3)


def test_an_index_out_of_bounds_is_an_error() -> None:
    text = """
func.func @main(%table: tensor<4x2xf32>, %ids: tensor<3xi64>) -> tensor<3x2xf32> {
  %e = tensor.empty() : tensor<3x2xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>],
      iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<3xi64>) outs(%e : tensor<3x2xf32>) {
  ^bb0(%id: i64, %o: f32):
    %row = arith.index_cast %id : i64 to index
    %j = linalg.index 1 : index
    %v = tensor.extract %table[%row, %j] : tensor<4x2xf32> loc("embed"("model.py":7:1))
    linalg.yield %v : f32
  } -> tensor<3x2xf32>
  func.return %r : tensor<3x2xf32>
}"""
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(run(text, table, np.int64([3, 0, 1]))[0], table[[3, 0, 1]])
    for bad in (4, -1):
        with pytest.raises(DcomError, match=rf"embed \(model.py:7\): error: tensor.extract: index {bad} is outside"):
            run(text, table, np.int64([0, bad, 1]))
