"""Costs of weights in factors: the paper's Eq. 9, 11 and 12 against counts from the operations."""

import json
from pathlib import Path

import pytest

from dcomc.cli import main
from dcomc.cost_report import compute_reduction_both, largest_weight_rank, weight_compression
from dcomc.costs import bytes_of, work_of
from dcomc.ir import make_context, parse_module

MODULE = """
func.func @main(%x: tensor<32x24xf32>, %u: tensor<24x5xf32>, %core: tensor<5x4xf32>, %v: tensor<4x20xf32>) {
  %f = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 3 : i64, reorthogonalisation = 2 : i64,
      seed = 0 : i64} : tensor<32x24xf32> -> !dcom.factored<2x16x24, block 8, rank 3, f32>
  %w = dcom.factored_weight %u, %core, %v {of = "w", layer = 1 : i64, site = "o", method = "svd"}
      : tensor<24x5xf32>, tensor<5x4xf32>, tensor<4x20xf32> -> !dcom.weight<24x20, rank 5x4, f32>
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x24, block 8, rank 3, f32>, !dcom.weight<24x20, rank 5x4, f32>
      -> !dcom.factored<2x16x20, block 8, rank 3x4, f32>
  %y = dcom.weight_matmul %x, %w : tensor<32x24xf32>, !dcom.weight<24x20, rank 5x4, f32> -> tensor<32x20xf32>
  %d, %o = dcom.outlier_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64}
      : tensor<32x24xf32> -> tensor<32x24xf32>, !dcom.outliers<2x16x24, capacity 2, f32>
  %z = dcom.outlier_matmul %o, %w : !dcom.outliers<2x16x24, capacity 2, f32>, !dcom.weight<24x20, rank 5x4, f32>
      -> tensor<32x20xf32>
  %e, %t = dcom.token_split %x {layer = 1 : i64, site = "o", capacity = 2 : i64}
      : tensor<32x24xf32> -> tensor<32x24xf32>, !dcom.tokens<2x16x24, capacity 2, f32>
  %s = dcom.token_matmul %t, %w : !dcom.tokens<2x16x24, capacity 2, f32>, !dcom.weight<24x20, rank 5x4, f32>
      -> tensor<32x20xf32>
  func.return
}"""


def test_operations_are_those_of_the_equations() -> None:
    module = parse_module(MODULE, "module", make_context())
    by_name = {op.name: op for op in module.walk()}
    flops = {name: work_of(op).flops for name, op in by_name.items()}
    dense = 2 * 32 * 24 * 20
    assert dense / flops["dcom.matmul"] == pytest.approx(compute_reduction_both(8, 24, 20, 3, 3, 5, 4))
    factors = 24 * 5 + 5 * 4 + 4 * 20
    assert flops["dcom.weight_matmul"] == 2 * 32 * factors
    assert flops["dcom.token_matmul"] == 2 * 4 * factors
    assert flops["dcom.outlier_matmul"] == 2 * 32 * 2 * 20 + 2 * 4 * (5 * 4 + 4 * 20)
    weight = by_name["dcom.factored_weight"].results[0].type
    assert 24 * 20 * 4 / bytes_of(weight) == pytest.approx(weight_compression(24, 20, 5, 4))


@pytest.mark.parametrize("shape", [(24, 20), (576, 192), (4096, 11008)])
def test_eq_11_is_where_factors_are_as_large_as_the_weight(shape: tuple[int, int]) -> None:
    rank = int(largest_weight_rank(*shape))
    assert weight_compression(*shape, rank, rank) >= 1 > weight_compression(*shape, rank + 1, rank + 1)


def test_the_report_of_a_model(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "costs.json"
    options = ["--decompose-layers=1", "--sites=qkv", "--rank=3", "--weight-rank=6", "--weight-layers=1,2"]
    more = ["--weight-sites=qkv,o", "--weight-method=tucker2", "--emit=dcom", f"--report-cost={report}"]
    assert main(["compile", str(tiny_ir), *options, *more, "-o", str(tmp_path / "out.mlir")]) == 0
    assert " 6x6 " in capsys.readouterr().err
    sites = {(site["layer"], site["site"]): site for site in json.loads(report.read_text())["sites"]}
    # k and v share U and V: [64, 6], [6, 32], and two cores; q has its own.
    shared, own = 64 * 6 + 6 * 32 + 2 * 36, 64 * 6 + 36 + 6 * 64
    assert sites[2, "qkv"]["weights"] == {"dense": 4 * 64 * 128, "compiled": 4 * (shared + own)}
    assert sites[2, "gate_up"]["weights"] == {"dense": 4 * 64 * 320, "compiled": 4 * 64 * 320}
    (product,) = sites[2, "o"]["products"]
    assert product["weight_ranks"] == [6, 6] and "eq9" not in product
    assert product["eq12"] == pytest.approx(weight_compression(64, 64, 6, 6))
    assert sites[1, "qkv"]["products"][1]["eq9"] == pytest.approx(compute_reduction_both(24, 64, 32, 3, 3, 6, 6))
    assert sites[2, "o"]["compiled"]["flops"] == 2 * 48 * own
    assert "eq12" not in sites[3, "o"]["products"][0]
