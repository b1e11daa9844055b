"""`dcom-preserve-decomposed` changes no result but by rounding: small models before, after, and legalised."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from dcomc.ir import make_context, parse_module, print_module
from dcomc.model import resolve_model
from dcomc.pipeline import run_passes
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from dialects import dcom
from passes import make_passes
from runtime.executor import Executor
from runtime.executor_torch import TorchArrays

BATCH, TOKENS = 2, 24
PRESERVE = "dcom-preserve-decomposed{balance=0.0}"
"""Traffic costs nothing: at these sizes it would keep attention dense."""


@cache
def traced(dtype: str = "f32", **changes: Any) -> str:
    """A model of two layers, grouped KV heads, and biases as in Qwen 2."""
    config = {**resolve_model("tiny").config(), "num_hidden_layers": 2, "attention_bias": True, **changes}
    return print_module(build_module(capture(config, TOKENS, BATCH, dtype), "test", TOKENS, BATCH))


def decomposed(text: str, sites: str, options: str = "", exact: str = "outliers=4.0 ") -> ModuleOp:
    context = make_context()
    module = parse_module(text, "test", context)
    place = f"layers=1 sites={sites}"
    split = f"dcom-insert-outlier-split{{{place} {exact}}}," if exact else ""
    run_passes(context, module, make_passes(f"cse,{split}dcom-decompose-activations{{{place} rank=3 {options}}}"))
    return module


def after(module: ModuleOp, pipeline: str) -> ModuleOp:
    context = make_context()
    copy = parse_module(print_module(module), "test", context)
    run_passes(context, copy, make_passes(pipeline))
    return copy


def names(module: ModuleOp) -> set[str]:
    return {op.name.removeprefix("dcom.") for op in module.walk() if op.name.startswith("dcom.")}


def weights(module: ModuleOp) -> dict[str, Any]:
    random = np.random.default_rng(0)
    globals_ = {op.sym_name.data: op for op in module.ops if op.name == "ml_program.global"}
    return {name: random.normal(size=op.value.type.get_shape()).astype(np.float32) for name, op in globals_.items()}


def difference(before: ModuleOp, other: ModuleOp, arrays: Any = None) -> float:
    """The largest difference of the logits, relative to the largest of them."""
    ids = np.random.default_rng(1).integers(0, 256, (BATCH, TOKENS))
    given = weights(before)
    options = {} if arrays is None else {"arrays": arrays}
    (expected,) = Executor(before, given).run("main", ids)
    (result,) = Executor(other, given, **options).run("main", ids)
    wide = [np.asarray(x).astype(float) for x in (expected, result)]
    return float(np.abs(wide[0] - wide[1]).max() / np.abs(wide[0]).max())


def stops(module: ModuleOp) -> list[str]:
    """Why each reconstruction stands where it does."""
    return [
        op.attributes["dcom.stopped"].data
        for op in module.walk()
        if isinstance(op, dcom.ReconstructOp | dcom.ReconstructHeadsOp)
    ]


FUSED: dict[str, Any] = {"model_type": "phi3", "attention_bias": False, "pad_token_id": 0}
"""One product makes q, k and v, and one gate and up; slices take them apart."""

MODELS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "bias-and-groups": ({}, "qkv,gate_up,down", "", "outliers=4.0 "),
    "no-outliers": ({}, "qkv,gate_up,down", "", ""),
    "no-bias": ({"attention_bias": False}, "qkv", "", "outliers=4.0 "),
    "a-head-a-group": ({"num_key_value_heads": 4}, "qkv,down", "", "outliers=4.0 "),
    "one-group": ({"num_key_value_heads": 1}, "qkv", "", "outliers=4.0 "),
    "tokens": ({}, "qkv,down", "", "outliers=4.0 exact_rows=8.0 "),
    "o-decomposed": ({}, "qkv,o,gate_up,down", "", "outliers=4.0 "),
    "fused": (FUSED, "qkv,gate_up,down", "", "outliers=4.0 "),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_the_same(name: str) -> None:
    changes, sites, options, exact = MODELS[name]
    before = decomposed(traced(**changes), sites, options, exact)
    preserved = after(before, PRESERVE)
    expected = {"split_heads", "left_matmul", "reconstruct"}
    expected |= {"head_matmul", "reconstruct_heads"} if "o" not in sites.split(",") else set()
    expected |= {"exact_track"} if exact else set()
    expected |= {"bias_track"} if changes.get("attention_bias", True) else set()
    expected |= {"slice"} if changes is FUSED else set()
    assert expected <= names(preserved)
    assert difference(before, preserved) < 4e-5
    assert difference(before, preserved, TorchArrays()) < 4e-5
    assert difference(before, after(preserved, "dcom-legalize")) < 4e-5


def test_v_of_a_fused_projection_stays_decomposed_and_gate_and_up_are_made_at_once() -> None:
    preserved = after(decomposed(traced(**FUSED), "qkv,o,gate_up", "", ""), PRESERVE)
    found = [op.input.owner for op in preserved.walk() if isinstance(op, dcom.ReconstructOp)]
    reconstructed = [op.name for op in found if isinstance(op, Operation)]
    # q and k, which are rotated, each by itself; the heads' mixtures; o; gate and up.
    assert reconstructed == ["dcom.slice", "dcom.slice", "dcom.left_matmul", "dcom.matmul", "dcom.matmul"]
    assert "math.exp is not linear" in stops(preserved)[-1]


def test_a_fused_weight_in_factors_is_sliced_too() -> None:
    before = decomposed(traced(**FUSED), "qkv,o", "", "")
    before = after(before, "dcom-decompose-weights{layers=1 sites=qkv rank=8}")
    assert difference(before, after(before, PRESERVE)) < 2e-5


@pytest.mark.parametrize(("exact", "pays"), [("", True), ("outliers=4.0 ", False)])
def test_attention_acts_on_the_u_of_blocks_where_that_pays(exact: str, pays: bool) -> None:
    """Nine tracks of three blocks are fewer than the sixteen channels of a head; with exact channels they are not."""
    before = decomposed(traced(attention_bias=False), "qkv,down", "block=8", exact)
    preserved = after(before, PRESERVE)
    assert ("left_matmul" in names(preserved)) == pays
    assert any("dense is cheaper from here" in stop for stop in stops(preserved)) != pays
    assert difference(before, preserved) < 2e-5
    assert difference(before, preserved, TorchArrays()) < 2e-5
    assert difference(before, after(preserved, "dcom-legalize")) < 2e-5


def test_the_u_of_blocks_parts_attention_from_its_softmax() -> None:
    """Where traffic counts, P that goes through memory costs more than products on U save."""
    preserved = after(decomposed(traced(attention_bias=False), "qkv", "block=8", ""), "dcom-preserve-decomposed")
    assert "left_matmul" not in names(preserved)
    assert any("with the softmax before it in memory" in stop for stop in stops(preserved))


@pytest.mark.parametrize(("dtype", "rounding"), [("f16", 2**-11), ("bf16", 2**-8)])
def test_half_precision_is_the_same_within_its_rounding(dtype: str, rounding: float) -> None:
    """Conversions stop nothing: the factors of float32 go as far as in a model of float32, and for the same reasons."""
    before = decomposed(traced(dtype), "qkv,down")
    preserved = after(before, PRESERVE)
    single = after(decomposed(traced(), "qkv,down"), PRESERVE)
    assert "left_matmul" in names(preserved)
    assert stops(preserved) == stops(single)
    for other in (preserved, after(preserved, "dcom-legalize")):
        assert 0 < difference(before, other) < 8 * rounding


@pytest.mark.parametrize("options", ["", "{balance=64.0}", "{machine=dcom-16x16}"])
def test_places_do_not_depend_on_the_element_type(options: str) -> None:
    """A conversion costs nothing: the kernel that makes or reads the tensor does it."""
    places = {
        dtype: [
            (op.name, re.sub(r"[\d.]+ [kM]?(flop|cycles)", "", str(op.attributes.get("dcom.stopped"))))
            for op in after(decomposed(traced(dtype), "qkv"), f"dcom-preserve-decomposed{options}").walk()
            if op.name.startswith("dcom.")
        ]
        for dtype in ("f32", "f16", "bf16")
    }
    assert places["f16"] == places["f32"]
    assert places["bf16"] == places["f32"]


def test_a_u_wider_than_a_head_parts_attention_from_its_softmax() -> None:
    """No kernel of attention takes six tracks where a head has four channels, so P would go through memory."""
    heads = {"attention_bias": False, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 4}
    preserved = after(decomposed(traced(**heads), "qkv"), "dcom-preserve-decomposed")
    assert "left_matmul" not in names(preserved)
    assert any("with the softmax before it in memory" in stop for stop in stops(preserved))


def test_traffic_and_cycles_decide_too() -> None:
    """Attention reads P either way; at these sizes V in factors saves less than making the heads dense again costs."""
    before = decomposed(traced(), "qkv,o")
    for options in ("", "{machine=dcom-16x16}"):
        preserved = after(before, f"dcom-preserve-decomposed{options}")
        assert "left_matmul" not in names(preserved)
        assert difference(before, preserved) < 2e-5
        unit = "cycles" if options else "flop"
        assert any("dense is cheaper from here" in stop and unit in stop for stop in stops(preserved))


def test_once_more_changes_nothing() -> None:
    preserved = after(decomposed(traced(), "qkv,gate_up,down"), PRESERVE)
    assert print_module(after(preserved, PRESERVE)) == print_module(preserved)


def test_every_operation_has_a_place() -> None:
    preserved = after(decomposed(traced(), "qkv,gate_up,down"), PRESERVE)
    assert "loc(unknown)" not in print_module(preserved)


def generic(maps: str, body: str, operand: str) -> str:
    """A reconstruction, a structured operation on it and on `operand`, and a product with a weight."""
    return f"""
func.func @f(%f: !dcom.factored<1x64x64, rank 2, f32>, %b: {operand}, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {{
  %d = dcom.reconstruct %f : !dcom.factored<1x64x64, rank 2, f32> -> tensor<64x64xf32>
  %empty = tensor.empty() : tensor<64x64xf32>
  %s = linalg.generic {{indexing_maps = [{maps}]}} ins(%d, %b : tensor<64x64xf32>, {operand})
      outs(%empty : tensor<64x64xf32>) {{
  ^bb0(%x: f32, %y: f32, %o: f32):
    {body}
  }} -> tensor<64x64xf32>
  %z = arith.constant 0.0 : f32
  %zeros = linalg.fill ins(%z : f32) outs(%empty : tensor<64x64xf32>) -> tensor<64x64xf32>
  %r = linalg.matmul ins(%s, %w : tensor<64x64xf32>, tensor<64x64xf32>) outs(%zeros : tensor<64x64xf32>)
      -> tensor<64x64xf32>
  func.return %r : tensor<64x64xf32>
}}"""


SAME, CHANNEL = "affine_map<(i, j) -> (i, j)>", "affine_map<(i, j) -> (j)>"
PARALLEL = f'{SAME}, {CHANNEL}, {SAME}], iterator_types = ["parallel", "parallel"'


@pytest.mark.parametrize(
    ("body", "moves"),
    [
        ("%m = arith.mulf %x, %y : f32\n    linalg.yield %m : f32", True),
        ("%m = arith.mulf %x, %y : f32\n    linalg.yield %x : f32", False),
        ("%m = arith.mulf %x, %y : f32\n    linalg.yield %o : f32", False),
        ('%m = arith.mulf %x, %y : f32\n    "linalg.yield"() : () -> ()', False),
    ],
)
def test_what_a_body_yields_decides(body: str, moves: bool) -> None:
    context = make_context()
    module = parse_module(generic(PARALLEL, body, "tensor<64xf32>"), "program", context)
    run_passes(context, module, make_passes("dcom-preserve-decomposed"))
    assert any(op.name == "dcom.scale" for op in module.walk()) == moves


def test_a_reason_is_found_behind_any_number_of_reshapes() -> None:
    count = 600
    moves = "\n".join(
        f"%x{number} = tensor.expand_shape %y{number - 1} [[0], [1, 2]] output_shape [64, 64, 1] :"
        f" tensor<64x64xf32> into tensor<64x64x1xf32>\n%y{number} = tensor.collapse_shape %x{number} [[0], [1, 2]] :"
        " tensor<64x64x1xf32> into tensor<64x64xf32>"
        for number in range(1, count + 1)
    )
    text = f"""
func.func @f(%f: !dcom.factored<1x64x64, rank 2, f32>) -> tensor<64x64xf32> {{
  %y0 = dcom.reconstruct %f : !dcom.factored<1x64x64, rank 2, f32> -> tensor<64x64xf32>
  {moves}
  func.return %y{count} : tensor<64x64xf32>
}}"""
    context = make_context()
    module = parse_module(text, "program", context)
    run_passes(context, module, make_passes("dcom-preserve-decomposed"))
    (stop,) = stops(module)
    assert stop.startswith("it leaves the function")


def test_a_constant_scales_v() -> None:
    """A residual multiplier, as Granite has."""
    text = """
func.func @main(%x: tensor<64x32xf32>) -> tensor<64x32xf32> {
  %f = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64,
      seed = 0 : i64} : tensor<64x32xf32> -> !dcom.factored<1x64x32, rank 4, f32>
  %d = dcom.reconstruct %f : !dcom.factored<1x64x32, rank 4, f32> -> tensor<64x32xf32>
  %e = tensor.empty() : tensor<64x32xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
      iterator_types = ["parallel", "parallel"]} ins(%d : tensor<64x32xf32>) outs(%e : tensor<64x32xf32>) {
  ^bb0(%a: f32, %o: f32):
    %k = arith.constant 0.22 : f32
    %m = arith.mulf %k, %a : f32
    linalg.yield %m : f32
  } -> tensor<64x32xf32>
  func.return %y : tensor<64x32xf32>
}"""
    before = parse_module(text, "program", make_context())
    preserved = after(before, "dcom-preserve-decomposed")
    assert "scale" in names(preserved)
    x = np.random.default_rng(2).normal(size=(64, 32)).astype(np.float32)
    (expected,), (result,) = (Executor(module, {}).run("main", x) for module in (before, preserved))
    assert np.abs(result - expected).max() <= 1e-6 * np.abs(expected).max()
