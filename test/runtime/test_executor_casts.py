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
from runtime.executor_casts import fuse_casts
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
