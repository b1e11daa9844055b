"""Compiled loops against NumPy: the same bits for maps, whatever the layout; what they leave to others.

Random bodies and maps are held against the definition in test_executor_linalg.py, where a back end with small parts
computes by compiled loops what it can.
"""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from xdsl.dialects.linalg.ops import GenericOp

from dcomc.ir import parse_module
from runtime import loops_llvm, loops_torch
from runtime.executor_block import static_shape
from runtime.executor_views import iteration_space
from runtime.loops import Nest
from runtime.loops_torch import compiled_loops
from runtime.processor import processor_features
from runtime.shares import for_shares

NORM = """
%b = arith.extf %x : bf16 to f32
%c = arith.mulf %b, %s : f32
%d = arith.truncf %c : f32 to bf16
linalg.yield %d : bf16
"""


def nest(types: list[str], maps: list[str], loops: str, arguments: str, body: str, parallel: list[int]) -> Nest:
    """Of one generic with one output, whose operands have these types."""
    operands = ", ".join(f"%{number} : {kind}" for number, kind in enumerate(types))
    names = [f"%{number}" for number in range(len(types))]
    text = f"""func.func @main({operands}) -> {types[-1]} {{
      %r = linalg.generic {{indexing_maps = [{", ".join(f"affine_map<{each}>" for each in maps)}],
        iterator_types = [{loops}]}} ins({", ".join(names[:-1])} : {", ".join(types[:-1])})
        outs({names[-1]} : {types[-1]}) {{ ^bb0({arguments}): {body} }} -> {types[-1]}
      func.return %r : {types[-1]} }}"""
    op = next(op for op in parse_module(text, "test").walk() if isinstance(op, GenericOp))
    found = tuple(attribute.data for attribute in op.get_indexing_maps())
    shapes = tuple(static_shape(value, op) for value in op.operands)
    return Nest(iteration_space(found, shapes, op), found, shapes, op.body.block, tuple(parallel))


def run(of: Nest, *operands: torch.Tensor) -> torch.Tensor:
    loops = compiled_loops(of)
    assert loops is not None
    results = loops(*operands)
    assert results is not None
    return results[0]


def scale(rows: int, cols: int) -> Nest:
    """bfloat16 [rows, cols] times float32 [rows], rounded."""
    types = [f"tensor<{rows}x{cols}xbf16>", f"tensor<{rows}xf32>", f"tensor<{rows}x{cols}xbf16>"]
    maps = ["(d0, d1) -> (d0, d1)", "(d0, d1) -> (d0)", "(d0, d1) -> (d0, d1)"]
    return nest(types, maps, '"parallel", "parallel"', "%x: bf16, %s: f32, %o: bf16", NORM, [0, 1])


@pytest.mark.parametrize("rows, cols", [(1, 65536), (65536, 1), (67, 131)])
def test_every_bfloat16_scaled_and_rounded(rows: int, cols: int) -> None:
    """To the bits of ml_dtypes, of all 65,536 numbers: zeros, subnormals, infinities; a NaN stays one."""
    bits = np.arange(65536, dtype=np.uint16)[: rows * cols].reshape(rows, cols)
    scales = np.random.default_rng(0).normal(size=rows).astype(np.float32)
    x = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    empty = torch.empty(rows, cols, dtype=torch.bfloat16)
    found = run(scale(rows, cols), x, torch.from_numpy(scales), empty).view(torch.int16).numpy().view(np.uint16)
    with np.errstate(all="ignore"):
        exact: Any = (bits.view(ml_dtypes.bfloat16).astype(np.float32) * scales[:, None]).astype(ml_dtypes.bfloat16)
    numbers = ~np.isnan(exact)
    np.testing.assert_array_equal(found[numbers], exact.view(np.uint16)[numbers])
    assert np.isnan(found.view(ml_dtypes.bfloat16)[~numbers]).all()


def test_layouts_have_code_of_their_own() -> None:
    """Of a transpose, of every second row, and of one row that is all rows: each as of a copy."""
    torch.manual_seed(0)
    of, scales, empty = scale(6, 10), torch.randn(6), torch.empty(6, 10, dtype=torch.bfloat16)
    whole = torch.randn(20, 20).bfloat16()
    for x in (whole[:10, :6].mT, whole[:12:2, 5:15], whole[:1, :10].expand(6, 10)):
        assert torch.equal(run(of, x, scales, empty), run(of, x.contiguous(), scales, empty))


def test_products_are_rounded_before_they_are_added() -> None:
    """As the body says: no product and sum in one."""
    types, maps = ["tensor<999xf32>"] * 3, ["(d0) -> (d0)"] * 3
    body = "%b = arith.mulf %x, %y : f32 %c = arith.subf %b, %y : f32 linalg.yield %c : f32"
    of = nest(types, maps, '"parallel"', "%x: f32, %y: f32, %o: f32", body, [0])
    x, y = torch.rand(2, 999)
    assert torch.equal(run(of, x, y, torch.empty(999)), x * y - y)


@pytest.mark.parametrize("features", ["", ",-fma,-avx512f"])
def test_powers_of_e(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every 4,096th float32, from zeros and subnormals to infinities and NaNs: to two units in the last place."""
    monkeypatch.setattr(loops_llvm, "processor_features", lambda: processor_features() + features)
    loops_llvm.machine_code.cache_clear()
    types, maps = ["tensor<1048576xf32>"] * 2, ["(d0) -> (d0)"] * 2
    of = nest(types, maps, '"parallel"', "%x: f32, %o: f32", "%b = math.exp %x : f32 linalg.yield %b : f32", [0])
    x = (np.arange(1 << 20, dtype=np.uint32) << np.uint32(12)).view(np.float32)
    found = run(of, torch.from_numpy(x), torch.empty(1 << 20)).numpy()
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.float64))
        finite, infinite = exact <= np.finfo(np.float32).max, exact > np.finfo(np.float32).max
        unit = np.spacing(np.maximum(exact, 2**-126).astype(np.float32))
    assert (np.abs(found[finite] - exact[finite]) < 2 * unit[finite]).all()
    assert (found[infinite] == np.inf).all() and np.isnan(found[np.isnan(x)]).all()


def test_sums_begin_with_what_is_there() -> None:
    types, maps = ["tensor<5x7x11xf32>", "tensor<5xf32>"], ["(d0, d1, d2) -> (d0, d1, d2)", "(d0, d1, d2) -> (d0)"]
    body = "%b = arith.mulf %x, %x : f32 %c = arith.addf %o, %b : f32 linalg.yield %c : f32"
    of = nest(types, maps, '"parallel", "reduction", "reduction"', "%x: f32, %o: f32", body, [0])
    x, start = torch.arange(385.0).reshape(5, 7, 11), torch.arange(5.0)
    torch.testing.assert_close(run(of, x, start), start + x.square().sum((1, 2)))


def test_indices_and_divided_loops() -> None:
    """Grouped heads: 6 of queries on 2 of keys, with the places of a mask."""
    types = ["tensor<2x9xf32>", "tensor<6x9xf32>"]
    maps = ["(d0, d1) -> (d0 floordiv 3, d1)", "(d0, d1) -> (d0, d1)"]
    body = """%i = linalg.index 1 : index %k = arith.constant 4 : index %b = arith.cmpi ult, %i, %k : index
      %z = arith.constant -1.0 : f32 %c = arith.select %b, %x, %z : f32 linalg.yield %c : f32"""
    of = nest(types, maps, '"parallel", "parallel"', "%x: f32, %o: f32", body, [0, 1])
    x = torch.arange(18.0).reshape(2, 9)
    expected = torch.where(torch.arange(9) < 4, x.repeat_interleave(3, 0), -1)
    assert torch.equal(run(of, x, torch.empty(6, 9)), expected)


@pytest.mark.parametrize(
    ("element", "body"),
    [
        ("f32", "%b = math.tanh %x : f32 linalg.yield %b : f32"),
        ("f64", "%b = math.exp %x : f64 linalg.yield %b : f64"),
        ("si32", "%t = arith.constant true %b = arith.select %t, %x, %o : si32 linalg.yield %b : si32"),
        ("f16", "%b = arith.negf %x : f16 linalg.yield %b : f16"),
    ],
)
def test_what_has_no_code(element: str, body: str) -> None:
    types, maps = [f"tensor<5x7x{element}>"] * 2, ["(d0, d1) -> (d0, d1)"] * 2
    of = nest(types, maps, '"parallel", "parallel"', f"%x: {element}, %o: {element}", body, [0, 1])
    assert compiled_loops(of) is None


def test_what_does_not_fit_is_left_to_the_library() -> None:
    """Another type, another shape, or gradients: the code would read what is not there."""
    loops = compiled_loops(scale(6, 10))
    x, scales, empty = torch.ones(6, 10).bfloat16(), torch.ones(6), torch.empty(6, 10).bfloat16()
    assert loops is not None and loops(x, scales, empty) is not None
    for wrong in ((x.float(), scales), (x[:5], scales), (x, scales.requires_grad_())):
        assert loops(*wrong, empty) is None


@pytest.mark.parametrize(("rows", "cols", "size"), [(3, 70000, 70000), (64, 70000, 64), (40, 50, 50), (1, 3, 3)])
def test_threads_share_a_loop_however_short(rows: int, cols: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn is work enough for a share: nests are large, though none of their loops may be long."""
    shares: list[tuple[int, int]] = []

    def spy(work: Callable[[int, int, int], None], size: int, count: int, threads: int) -> None:
        shares.append((size, count))
        for_shares(work, size, count, threads)

    monkeypatch.setattr(loops_torch, "for_shares", spy)
    x, scales = torch.randn(rows, cols).bfloat16(), torch.randn(rows)
    found = run(scale(rows, cols), x, scales, torch.empty_like(x))
    assert torch.equal(found, (x.float() * scales[:, None]).bfloat16())
    assert shares == [(size, min(size, 4 * torch.get_num_threads()))]
