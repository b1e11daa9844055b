"""Mistakes in the options of `dcom-decompose-weights`."""

import pytest

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module
from dcomc.pipeline import run_passes
from dialects.dcom import WeightOp
from passes import make_passes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rank=0", "no weight has a rank; give the rank"),
        ("rank=4 method=pca", "unknown method 'pca'; known: svd, tucker2, whitened"),
        ('rank=4 statistics="a.safetensors"', "statistics have no part in method svd"),
        ('rank=4 method=whitened statistics="missing.safetensors"', "cannot read missing.safetensors"),
        ("rank=4 sites=mlp", "unknown site 'mlp'"),
    ],
)
def test_mistakes_are_one_line(options: str, message: str) -> None:
    sites = "" if "sites" in options else " sites=o"
    module = parse_module(TEXT, "case", make_context())
    with pytest.raises(DcomError, match=message):
        run_passes(make_context(), module, make_passes(f"dcom-decompose-weights{{layers=0{sites} {options}}}"))


TEXT = """
module attributes {dcom.batch = 1 : i64, dcom.seq_len = 8 : i64} {
  ml_program.global private @o.weight(dense_resource<a> : tensor<12x12xf32>) : tensor<12x12xf32>
  func.func private @layer(%x: tensor<8x12xf32>, %w: tensor<12x12xf32>) -> tensor<8x12xf32> {
    %c = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<12x12xf32>
    %t = linalg.transpose ins(%w : tensor<12x12xf32>) outs(%e : tensor<12x12xf32>) permutation = [1, 0]
    %y = linalg.matmul {dcom.role = "o_proj"} ins(%x, %t : tensor<8x12xf32>, tensor<12x12xf32>)
        outs(%x : tensor<8x12xf32>) -> tensor<8x12xf32>
    func.return %y : tensor<8x12xf32>
  }
  func.func @main(%x: tensor<8x12xf32>) -> tensor<8x12xf32> {
    %w = ml_program.global_load_const @o.weight : tensor<12x12xf32>
    %y = func.call @layer(%x, %w) {dcom.layer = 0 : i64} : (tensor<8x12xf32>, tensor<12x12xf32>) -> tensor<8x12xf32>
    func.return %y : tensor<8x12xf32>
  }
}"""


def test_a_weight_that_is_transposed_twice_has_one_core() -> None:
    again = """%t1 = linalg.transpose ins(%w : tensor<12x12xf32>) outs(%e : tensor<12x12xf32>) permutation = [1, 0]
    %z = linalg.matmul {dcom.role = "o_proj"} ins(%y, %t1 : tensor<8x12xf32>, tensor<12x12xf32>)
        outs(%x : tensor<8x12xf32>) -> tensor<8x12xf32>
    func.return %z : tensor<8x12xf32>
  }
  func.func @main"""
    before, _, after = TEXT.partition("func.return %y : tensor<8x12xf32>\n  }\n  func.func @main")
    module = parse_module(before + again + after, "case", make_context())
    run_passes(make_context(), module, make_passes("dcom-decompose-weights{layers=0 sites=o rank=4}"))
    weights = [op for op in module.walk() if isinstance(op, WeightOp)]
    assert len(weights) == 2
    assert {weight.core for weight in weights} == {weights[0].core}
