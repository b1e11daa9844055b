"""Legalised programs mean the same to an independent compiler: compiled and run by IREE, they equal our executor."""

from typing import Any

import numpy as np
from iree_tools import optimise, run

from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import Decomposition, decompose_pipeline, run_passes
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from passes import make_passes
from runtime.executor import Executor

Array = np.ndarray[Any, Any]

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_bias": True,
    "tie_word_embeddings": False,
}


def test_a_decomposed_model() -> None:
    """Two prompts through two layers, one of them with outliers split off and two sites decomposed."""
    context = make_context()
    module = build_module(capture(LLAMA, 16, 2, "f32"), "test", 16, 2)
    rng = np.random.default_rng(11)
    weights: dict[str, Array] = {}
    for op in module.ops:
        if op.name == "ml_program.global":
            noise = rng.normal(size=op.type.get_shape()) * 0.2
            weights[op.sym_name.data] = (noise + 1 if noise.ndim == 1 else noise).astype(np.float32)
    ids = rng.integers(0, LLAMA["vocab_size"], (2, 16))
    dense = np.asarray(Executor(module, weights).run("main", ids)[0])

    options = Decomposition(layers=(1,), sites=("qkv", "down"), rank=4, outliers=8)
    run_passes(context, module, decompose_pipeline(options))
    decomposed = np.asarray(Executor(module, weights).run("main", ids)[0])
    run_passes(context, module, make_passes("dcom-legalize"))
    legalised = np.asarray(Executor(module, weights).run("main", ids)[0])
    text = print_module(module)
    optimise(text)
    compiled = run(text, weights, ids)

    assert np.abs(decomposed - dense).max() > 0.01, "the decomposition should show in the logits"
    assert np.abs(legalised - decomposed).max() < 1e-4
    assert np.abs(compiled - decomposed).max() < 1e-4


def test_thresholds_and_breakdown() -> None:
    """Outliers by count, on one prompt of full rank and one of rank two, whose iteration ends after two steps."""
    text = """
func.func @main(%x: tensor<48x20xf32>, %w: tensor<20x9xf32>) -> tensor<48x9xf32> {
  %dense, %outliers = dcom.outlier_split %x
    {layer = 1 : i64, site = "o", capacity = 4 : i64, threshold = 30.0 : f32, min_count = 3 : i64}
    : tensor<48x20xf32> -> tensor<48x20xf32>, !dcom.outliers<2x24x20, capacity 4, f32>
  %f = dcom.decompose %dense
    {layer = 1 : i64, site = "o", iterations = 9 : i64, reorthogonalisation = 2 : i64, seed = 1 : i64}
    : tensor<48x20xf32> -> !dcom.factored<2x24x20, rank 4, f32>
  %g = dcom.matmul %f, %w
    : !dcom.factored<2x24x20, rank 4, f32>, tensor<20x9xf32> -> !dcom.factored<2x24x9, rank 4, f32>
  %y = dcom.reconstruct %g : !dcom.factored<2x24x9, rank 4, f32> -> tensor<48x9xf32>
  %z = dcom.outlier_matmul %outliers, %w
    : !dcom.outliers<2x24x20, capacity 4, f32>, tensor<20x9xf32> -> tensor<48x9xf32>
  %c = arith.constant 7.0 : f32
  %e = tensor.empty() : tensor<48x9xf32>
  // The two parts stand apart in the sum, so that neither can make up for the other.
  %s = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>,
      affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%y, %z : tensor<48x9xf32>, tensor<48x9xf32>) outs(%e : tensor<48x9xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %b, %c : f32
    %r = arith.addf %a, %m : f32
    linalg.yield %r : f32
  } -> tensor<48x9xf32>
  func.return %s : tensor<48x9xf32>
}"""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(48, 20)) * 0.8 ** np.arange(20)
    x[24:] = rng.normal(size=(24, 2)) @ rng.normal(size=(2, 20))
    x[:24, 13] *= 1000
    x, w = x.astype(np.float32), rng.normal(size=(20, 9)).astype(np.float32)
    context = make_context()
    module = parse_module(text, "program", context)
    expected = np.asarray(Executor(module, {}).run("main", x, w)[0])
    run_passes(context, module, make_passes("dcom-legalize"))
    result = run(print_module(module), {}, x, w)
    assert np.abs(result - expected).max() < 1e-4 * np.abs(expected).max()
    # The second prompt is of rank two, has no outliers, and so is exact.
    assert np.abs(result[24:] - x[24:] @ w).max() < 1e-3
