"""Changes of element type are left out where that changes nothing, and nowhere else."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from backends import assert_near
from xdsl.dialects import func, ml_program
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.utils.hints import isa

from dcomc.ir import make_context, parse_module
from dcomc.model import resolve_model
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from passes import make_passes
from runtime.executor import Executor
from runtime.executor_casts import fuse_arithmetic, fuse_casts
from runtime.executor_torch import TorchArrays

TOKENS = 16
PROJECTIONS = 7
PROGRAMS = {
    "dense": "",
    "outliers alone": "dcom-insert-outlier-split{layers=0 outliers=10}",
    "factors": "dcom-decompose-activations{layers=0 rank=16},dcom-preserve-decomposed{balance=0.0}",
    "channels": "dcom-insert-outlier-split{layers=0 outliers=10},dcom-decompose-activations{layers=0 rank=16},"
    "dcom-preserve-decomposed{balance=0.0}",
    "blocks, one basis a layer": "dcom-decompose-activations{layers=0 rank=8 block=8 reuse=gate_up,down},"
    "dcom-preserve-decomposed{balance=0.0}",
}


def traced(passes: str) -> ModuleOp:
    """A layer of bfloat16; its factors are of full rank, so that roundings are all that they lose."""
    config = {**resolve_model("tiny").config(), "num_hidden_layers": 1}
    module, context = build_module(capture(config, TOKENS, 2, "bf16"), "test", TOKENS, 2), make_context()
    for pass_ in make_passes(passes) if passes else ():
        pass_.apply(context, module)
    return module


def given(module: ModuleOp) -> dict[str, Any]:
    random, weights = np.random.default_rng(0), dict[str, Any]()
    for op in module.ops:
        if isinstance(op, ml_program.GlobalOp) and isa(op.type, TensorType):
            *rows, cols = op.type.get_shape()
            scale = cols**-0.5 if rows else 1.0
            weights[op.sym_name.data] = random.normal(0, scale, (*rows, cols)).astype(ml_dtypes.bfloat16)
    return weights


@pytest.mark.parametrize("passes", PROGRAMS.values(), ids=PROGRAMS)
def test_a_bfloat16_program_widens_no_weight_and_computes_the_same(passes: str) -> None:
    module = traced(passes)
    weights, ids = given(module), np.random.default_rng(1).integers(0, 256, (2, TOKENS))
    executor = Executor(module, weights, arrays=TorchArrays())
    layer = next(op for op in module.ops if isinstance(op, func.FuncOp) and "decoder" in op.sym_name.data)
    fused = fuse_casts(list(layer.body.block.ops), executor)
    widened = [op for op in fused if not fused[op].absorbed]
    narrowed = [op for op in fused if fused[op].absorbed]
    assert sum("weight" in (op.results[0].name_hint or "") for op in widened) == PROJECTIONS
    # With channels apart it is a sum that is narrowed.
    assert len(narrowed) == (0 if "outliers" in passes else PROJECTIONS)
    (result,) = executor.run("main", ids)
    (expected,) = Executor(module, weights).run("main", ids)
    wide = [x.astype(np.float64) for x in (result, expected)]
    assert np.linalg.norm(wide[0] - wide[1]) < 1.5e-2 * np.linalg.norm(wide[1])


WIDENED_TWICE = """
#rows = affine_map<(d0, d1) -> (d0, d1)>
func.func @main(%x: tensor<4x8xbf16>, %w: tensor<8x6xbf16>) -> (tensor<4x6xbf16>, tensor<4x8xf32>, tensor<4x6xf32>) {
  %e = tensor.empty() : tensor<4x8xf32>
  %wide = linalg.generic {indexing_maps = [#rows, #rows], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xbf16>) outs(%e : tensor<4x8xf32>) {
  ^bb0(%a: bf16, %b: f32):
    %c = arith.extf %a : bf16 to f32
    linalg.yield %c : f32
  } -> tensor<4x8xf32>
  %f = tensor.empty() : tensor<8x6xf32>
  %weight = linalg.generic {indexing_maps = [#rows, #rows], iterator_types = ["parallel", "parallel"]}
      ins(%w : tensor<8x6xbf16>) outs(%f : tensor<8x6xf32>) {
  ^bb0(%a: bf16, %b: f32):
    %c = arith.extf %a : bf16 to f32
    linalg.yield %c : f32
  } -> tensor<8x6xf32>
  %zero = arith.constant 0.0 : f32
  %g = tensor.empty() : tensor<4x6xf32>
  %start = linalg.fill ins(%zero : f32) outs(%g : tensor<4x6xf32>) -> tensor<4x6xf32>
  %y = linalg.matmul ins(%wide, %weight : tensor<4x8xf32>, tensor<8x6xf32>) outs(%start : tensor<4x6xf32>)
      -> tensor<4x6xf32>
  %h = tensor.empty() : tensor<4x6xbf16>
  %narrow = linalg.generic {indexing_maps = [#rows, #rows], iterator_types = ["parallel", "parallel"]}
      ins(%y : tensor<4x6xf32>) outs(%h : tensor<4x6xbf16>) {
  ^bb0(%a: f32, %b: bf16):
    %c = arith.truncf %a : f32 to bf16
    linalg.yield %c : bf16
  } -> tensor<4x6xbf16>
  func.return %narrow, %wide, %y : tensor<4x6xbf16>, tensor<4x8xf32>, tensor<4x6xf32>
}
"""


def test_what_something_else_uses_is_made() -> None:
    """The function returns a widened operand and the product before it is narrowed."""
    module = parse_module(WIDENED_TWICE, "test")
    random = np.random.default_rng(0)
    x, w = (random.normal(size=shape).astype(ml_dtypes.bfloat16) for shape in ((4, 8), (8, 6)))
    executor = Executor(module, {}, arrays=TorchArrays())
    (main,) = (op for op in module.ops if isinstance(op, func.FuncOp))
    fused = list(fuse_casts(list(main.body.block.ops), executor))
    assert [op.results[0].name_hint for op in fused if isinstance(op, GenericOp)] == ["weight"]
    exact = x.astype(np.float32) @ w.astype(np.float32)
    wanted = (exact.astype(ml_dtypes.bfloat16), x.astype(np.float32), exact)
    for result, expected in zip(executor.run("main", x, w), wanted, strict=True):
        assert_near(result, expected, "fused")


def elementwise(body: str, element: str) -> ModuleOp:
    """A body of %a, %c of [3, 8] and %b of [8], all of one element type, that yields %y."""
    types = f"tensor<3x8x{element}>", f"tensor<8x{element}>"
    return parse_module(
        f"""
        #rows = affine_map<(d0, d1) -> (d0, d1)>
        func.func @main(%x: {types[0]}, %z: {types[1]}) -> {types[0]} {{
          %e = tensor.empty() : {types[0]}
          %r = linalg.generic {{indexing_maps = [#rows, affine_map<(d0, d1) -> (d1)>, #rows],
              iterator_types = ["parallel", "parallel"]}} ins(%x, %z : {types[0]}, {types[1]}) outs(%e : {types[0]}) {{
          ^bb0(%a: {element}, %b: {element}, %c: {element}):
            %wa = arith.extf %a : {element} to f32
            %wb = arith.extf %b : {element} to f32
            %one = arith.constant 1.0 : f32
            {body}
            linalg.yield %y : {element}
          }} -> {types[0]}
          func.return %r : {types[0]}
        }}""",
        "test",
    )


_ROUND = "%y = arith.truncf %w : f32 to T"
NARROW_BODIES = {
    "add": (f"%w = arith.addf %wa, %wb : f32\n{_ROUND}", "addf extf extf"),
    "subtract": (f"%w = arith.subf %wa, %wb : f32\n{_ROUND}", "extf extf subf"),
    "square": (f"%w = arith.mulf %wa, %wa : f32\n{_ROUND}", "extf mulf"),
    "divide": (f"%w = arith.divf %wa, %wb : f32\n{_ROUND}", "divf extf extf"),
    "nothing": ("%y = arith.truncf %wa : f32 to T", "extf"),
    "silu": (
        "%m = arith.negf %wa : f32\n%p = math.exp %m : f32\n%s = arith.addf %one, %p : f32\n"
        f"%w = arith.divf %wa, %s : f32\n{_ROUND}",
        "addf divf exp extf negf",
    ),
    "a sum of three": (f"%v = arith.addf %wa, %wb : f32\n%w = arith.addf %v, %one : f32\n{_ROUND}", ""),
    "no silu": (
        f"%p = math.exp %wa : f32\n%s = arith.addf %one, %p : f32\n%w = arith.divf %wa, %s : f32\n{_ROUND}",
        "",
    ),
    "used twice": (
        "%v = arith.mulf %wa, %wb : f32\n%u = arith.truncf %v : f32 to T\n%t = arith.extf %u : T to f32\n"
        f"%w = arith.addf %v, %t : f32\n{_ROUND}",
        "",
    ),
}
"""Bodies, and the operations that are not run by themselves."""


@pytest.mark.parametrize("element", ["bf16", "f16"])
@pytest.mark.parametrize("name", NARROW_BODIES)
def test_bodies_compute_in_the_narrow_type_where_that_is_the_same(name: str, element: str) -> None:
    body, _ = NARROW_BODIES[name]
    module = elementwise(body.replace("T", element), element)
    dtype = np.dtype(ml_dtypes.bfloat16 if element == "bf16" else np.float16)
    random = np.random.default_rng(0)
    x, z = (random.normal(0, 3, shape).astype(dtype) for shape in ((3, 8), (8,)))
    (result,) = Executor(module, {}, arrays=TorchArrays()).run("main", x, z)
    (expected,) = Executor(module, {}).run("main", x, z)  # which fuses nothing
    np.testing.assert_array_equal(result.view(np.int16), expected.view(np.int16))


@pytest.mark.parametrize("name", NARROW_BODIES)
def test_which_operations_of_a_body_are_left_out(name: str) -> None:
    body, absorbed = NARROW_BODIES[name]
    (generic,) = (op for op in elementwise(body.replace("T", "bf16"), "bf16").walk() if isinstance(op, GenericOp))
    fused = fuse_arithmetic(list(generic.body.block.ops), TorchArrays())
    left_out = sorted(op.name.split(".")[1] for fusion in fused.values() for op in fusion.absorbed)
    assert " ".join(left_out) == absorbed
