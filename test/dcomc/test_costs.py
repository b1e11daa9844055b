"""Costs counted from operations: against the Level 0 definition of each, and against the paper's Eq. 8 to 12."""

import json
from collections.abc import Iterator
from math import floor, prod
from pathlib import Path

import pytest
from xdsl.dialects.arith import ConstantOp, MulfOp
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, TensorType, f32
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.dialects.linalg.ops import GenericOp, MatmulOp
from xdsl.dialects.scf import ForOp
from xdsl.ir import Operation, SSAValue
from xdsl.utils.hints import isa

from dcomc.cli import main
from dcomc.cost_report import (
    activation_compression,
    compute_reduction,
    compute_reduction_both,
    largest_weight_rank,
    quantity,
    weight_compression,
)
from dcomc.costs import SiteCost, Work, bytes_of, count_costs, work_of
from dcomc.ir import make_context, parse_module, read_module
from dcomc.pipeline import run_passes
from dialects import dcom
from passes import make_passes

S, D, W, R = 24, 64, 40, 4
BODY = """
func.func @main(%x: tensor<48x64xf32>, %w: tensor<64x40xf32>) -> tensor<48x40xf32> {{
  {body}
  func.return %y : tensor<48x40xf32>
}}
"""
FACTORED = f"!dcom.factored<2x{S}x{D}, rank {R}, f32>"
OPTIONS = 'layer = 1 : i64, site = "o", iterations = 7 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64'
DECOMPOSE = f"%f = dcom.decompose %x {{{OPTIONS}}} : tensor<48x64xf32> -> {FACTORED}"
PRESERVED = f"""{DECOMPOSE}
  %g = dcom.matmul %f, %w : {FACTORED}, tensor<64x40xf32> -> !dcom.factored<2x{S}x{W}, rank {R}, f32>
  %y = dcom.reconstruct %g : !dcom.factored<2x{S}x{W}, rank {R}, f32> -> tensor<48x40xf32>"""


def _trips(op: Operation) -> int:
    """How often an operation runs: the product of the counts of the loops around it."""
    trips, parent = 1, op.parent_op()
    while parent is not None:
        if isinstance(parent, ForOp):
            trips *= _constant(parent.ub) - _constant(parent.lb)
        parent = parent.parent_op()
    return trips


def _constant(value: SSAValue) -> int:
    assert isinstance(value.owner, ConstantOp) and isa(value.owner.value, IntegerAttr)
    return value.owner.value.value.data


def _contractions(module: ModuleOp) -> Iterator[tuple[frozenset[int], int]]:
    """The extents of each multiplying reduction of a Level 0 module, and the multiply-adds that it does in all."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}

    def walk(function: FuncOp, times: int) -> Iterator[tuple[frozenset[int], int]]:
        for op in function.walk():
            if isinstance(op, CallOp):
                yield from walk(functions[op.callee.string_value()], times * _trips(op))
            elif isinstance(op, GenericOp) and any(kind.data.value == "reduction" for kind in op.iterator_types):
                multiplications = sum(isinstance(inner, MulfOp) for inner in op.body.walk())
                extents: dict[int, int] = {}
                for map_, value in zip(op.indexing_maps, op.operands, strict=True):
                    assert isa(value.type, TensorType)
                    for expression, extent in zip(map_.data.results, value.type.get_shape(), strict=True):
                        extents[expression.position] = extent
                if multiplications:
                    yield frozenset(extents.values()), times * _trips(op) * prod(extents.values())

    yield from walk(functions["main"], 1)


def _legalised(body: str) -> ModuleOp:
    context = make_context()
    module = parse_module(BODY.format(body=body), "program", context)
    run_passes(context, module, make_passes("dcom-legalize"))
    return module


@pytest.mark.parametrize("order", ["", " {left_first}"])
def test_factored_products_cost_what_their_definition_multiplies(order: str) -> None:
    body = PRESERVED.replace("dcom.reconstruct %g", f"dcom.reconstruct %g{order}")
    module = parse_module(BODY.format(body=body), "program")
    works = [work_of(op) for op in module.walk() if isinstance(op, dcom.MatmulOp | dcom.ReconstructOp)]
    of_core = 2 * S * R * R if order else 0  # U core, whose extents are no width
    defined = sum(count for extents, count in _contractions(_legalised(body)) if W in extents)
    assert sum(work.flops for work in works) == 2 * (defined + of_core)


@pytest.mark.parametrize("block", [S, S // 2])
def test_products_of_heads_cost_what_their_definition_multiplies(block: int) -> None:
    heads, shared, after, out = 5, 2, 9, 11
    tracks = R * (S // block)
    all_heads, head = 2 * heads * shared, W // heads
    text = f"""
func.func @main(%x: tensor<48x40xf32>, %p: tensor<2x{heads}x{shared}x{after}x{S}xf32>, %w: tensor<{2 * W}x{out}xf32>)
    -> tensor<{2 * after}x{out}xf32> {{
  %f = dcom.decompose %x {{{OPTIONS}}}
      : tensor<48x40xf32> -> !dcom.factored<2x{S}x{W}, block {block}, rank {R}, f32>
  %h = dcom.split_heads %f {{groups = {heads} : i64, shared = {shared} : i64}}
      : !dcom.factored<2x{S}x{W}, block {block}, rank {R}, f32>
      -> !dcom.factored<{all_heads}x{S}x{head}, block {block}, rank {R}, f32>
  %l = dcom.left_matmul %p, %h : tensor<2x{heads}x{shared}x{after}x{S}xf32>,
      !dcom.factored<{all_heads}x{S}x{head}, block {block}, rank {R}, f32>
      -> !dcom.factored<{all_heads}x{after}x{head}, rank {tracks}, f32>
  %m = dcom.head_matmul %l, %w {{heads = {heads * shared} : i64}}
      : !dcom.factored<{all_heads}x{after}x{head}, rank {tracks}, f32>, tensor<{2 * W}x{out}xf32>
      -> !dcom.factored<{all_heads}x{after}x{out}, rank {tracks}, f32>
  %y = dcom.reconstruct_heads %m {{heads = {heads * shared} : i64}}
      : !dcom.factored<{all_heads}x{after}x{out}, rank {tracks}, f32> -> tensor<{2 * after}x{out}xf32>
  func.return %y : tensor<{2 * after}x{out}xf32>
}}"""
    context = make_context()
    module = parse_module(text, "heads", context)
    kinds = dcom.LeftMatmulOp | dcom.HeadMatmulOp | dcom.ReconstructHeadsOp
    works = [work_of(op) for op in module.walk() if isinstance(op, kinds)]
    run_passes(context, module, make_passes("dcom-legalize"))
    defined = sum(count for extents, count in _contractions(module) if extents & {after, out})
    assert sum(work.flops for work in works) == 2 * defined
    left = works[0]
    assert left.bytes == 4 * all_heads * (after * S + after * tracks + S * R)


def test_exact_tokens_cost_their_rows() -> None:
    body = f"""%d, %t = dcom.token_split %x {{layer = 1 : i64, site = "o", capacity = 3 : i64}}
      : tensor<48x64xf32> -> tensor<48x64xf32>, !dcom.tokens<2x{S}x{D}, capacity 3, f32>
    %y = dcom.token_matmul %t, %w : !dcom.tokens<2x{S}x{D}, capacity 3, f32>, tensor<64x40xf32> -> tensor<48x40xf32>"""
    module = parse_module(BODY.format(body=body), "program")
    split, product = [work_of(op) for op in module.walk() if isinstance(op, dcom.TokenSplitOp | dcom.TokenMatmulOp)]
    assert product.flops == 2 * 2 * 3 * D * W
    assert split.bytes == 4 * (2 * 2 * S * D + 2 * 3 * D) + 8 * 2 * 3


def test_lanczos_reads_the_matrix_twice_a_step() -> None:
    body = f"{DECOMPOSE}\n%y = tensor.empty() : tensor<48x40xf32>"
    (decompose,) = (op for op in parse_module(BODY.format(body=body), "p").walk() if isinstance(op, dcom.DecomposeOp))
    work = work_of(decompose)
    with_matrix = [count for extents, count in _contractions(_legalised(body)) if extents == {S, D}]
    products = 2 * sum(with_matrix)
    assert products == 2 * 2 * 7 * 2 * S * D  # prompts, products of a step, steps
    rest = work.flops - products
    assert 0 < rest < products
    assert work.bytes == 2 * 7 * 4 * 48 * D + bytes_of(decompose.factors.type)


def _costs(ir: Path, pipeline: str) -> list[SiteCost]:
    context = make_context()
    module = read_module(str(ir), context)
    if pipeline:
        run_passes(context, module, make_passes(pipeline))
    return count_costs(module)


@pytest.fixture(scope="module")
def dense(tiny_ir: Path) -> list[SiteCost]:
    return _costs(tiny_ir, "")


@pytest.fixture(scope="module")
def decomposed(tiny_ir: Path) -> list[SiteCost]:
    return _costs(tiny_ir, f"dcom-decompose-activations{{layers=1 rank={R}}},dcom-preserve-decomposed")


def test_dense_costs_are_those_of_the_traced_matmuls(tiny_ir: Path, dense: list[SiteCost]) -> None:
    assert [(cost.layer, cost.site) for cost in dense] == [
        (layer, site) for layer in range(4) for site in ("qkv", "o", "gate_up", "down")
    ]
    (layer,) = (op for op in read_module(str(tiny_ir)).ops if isinstance(op, FuncOp) and op.sym_name.data != "main")
    counted = Work()
    for op in layer.walk():
        if isinstance(op, MatmulOp):
            m, k, n = *op.inputs[0].type.get_shape(), op.inputs[1].type.get_shape()[1]
            counted += Work(2 * m * k * n, 4 * (m * k + k * n + m * n))
    assert sum((cost.work for cost in dense[:4]), Work()) == counted
    assert all(cost.work == cost.dense and cost.factors is None for cost in dense)


def test_decomposition_changes_its_layer_and_keeps_the_dense_numbers_to_compare(
    dense: list[SiteCost], decomposed: list[SiteCost]
) -> None:
    assert [cost.dense for cost in decomposed] == [cost.dense for cost in dense]
    assert {cost.layer for cost in decomposed if cost.factors is not None} == {1}
    for before, after in zip(dense, decomposed, strict=True):
        if after.layer == 1:
            assert after.work.flops < before.work.flops and after.decomposition.flops > 0
            assert [product.role for product in after.products] == [product.role for product in before.products]
        else:
            assert after.work == before.work and after.decomposition == Work()


def test_equation_8(decomposed: list[SiteCost]) -> None:
    for cost in decomposed[4:8]:
        assert cost.dense.flops / cost.preserved.flops == compute_reduction(S, R)


def test_equation_8_in_blocks(tiny_ir: Path) -> None:
    costs = _costs(
        tiny_ir, f"dcom-decompose-activations{{layers=1 rank={R} block=8}},dcom-preserve-decomposed{{balance=0.0}}"
    )
    for cost in costs[4:8]:
        assert cost.dense.flops / cost.preserved.flops == compute_reduction(8, R)


def test_equation_9() -> None:
    """core V U_W core_W, in the order of Eq. 7, by three matmuls that are counted."""
    r1, r2, p1, p2 = 3, 5, 7, 2
    text = f"""
func.func @main(%v: tensor<{r2}x{D}xf32>, %u: tensor<{D}x{p1}xf32>, %c: tensor<{p1}x{p2}xf32>,
                %s: tensor<{r1}x{r2}xf32>, %a0: tensor<{r2}x{p1}xf32>, %b0: tensor<{r2}x{p2}xf32>,
                %c0: tensor<{r1}x{p2}xf32>) -> tensor<{r1}x{p2}xf32> {{
  %a = linalg.matmul ins(%v, %u : tensor<{r2}x{D}xf32>, tensor<{D}x{p1}xf32>)
    outs(%a0 : tensor<{r2}x{p1}xf32>) -> tensor<{r2}x{p1}xf32>
  %b = linalg.matmul ins(%a, %c : tensor<{r2}x{p1}xf32>, tensor<{p1}x{p2}xf32>)
    outs(%b0 : tensor<{r2}x{p2}xf32>) -> tensor<{r2}x{p2}xf32>
  %y = linalg.matmul ins(%s, %b : tensor<{r1}x{r2}xf32>, tensor<{r2}x{p2}xf32>)
    outs(%c0 : tensor<{r1}x{p2}xf32>) -> tensor<{r1}x{p2}xf32>
  func.return %y : tensor<{r1}x{p2}xf32>
}}
"""
    counted = sum(work_of(op).flops for op in parse_module(text, "eq9").walk() if isinstance(op, MatmulOp))
    assert 2 * S * D * W / counted == pytest.approx(compute_reduction_both(S, D, W, r1, r2, p1, p2), rel=1e-12)


def test_equation_10(decomposed: list[SiteCost]) -> None:
    for cost in decomposed[4:8]:
        depth = cost.products[0].depth
        assert cost.dense_memory / cost.memory == pytest.approx(activation_compression(S, depth, R, R), rel=1e-12)


@pytest.mark.parametrize(("depth", "width"), [(4096, 4096), (4096, 11008), (64, 40), (7, 5)])
def test_equations_11_and_12(depth: int, width: int) -> None:
    def factors(rank: int) -> int:
        return sum(bytes_of(TensorType(f32, shape)) for shape in ((depth, rank), (rank, rank), (rank, width)))

    dense = bytes_of(TensorType(f32, (depth, width)))
    most = floor(largest_weight_rank(depth, width))
    assert factors(most) <= dense < factors(most + 1)
    assert dense / factors(most) == pytest.approx(weight_compression(depth, width, most, most), rel=1e-12)


def test_the_report(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", str(tiny_ir), "--decompose-layers", "1,2", "--rank", str(R), "--emit", "dcom"]
    assert main(command) == 0
    plain = capsys.readouterr().out
    file = tmp_path / "costs.json"
    assert main([*command, "--report-cost", str(file), "--exact-rows", "10"]) == 0
    streams = capsys.readouterr()
    assert main([*command, "--report-cost"]) == 0
    assert capsys.readouterr().out == plain
    rows = [line.split() for line in streams.err.splitlines()]
    sites = [row[:4] for row in rows if row[:1] in (["1"], ["2"])]
    assert sites == [[layer, site, str(S), str(R)] for layer in "12" for site in ("qkv", "o", "gate_up", "down")]
    assert ["q_proj", "64", "64", "4"] in [row[:4] for row in rows]
    numbers = json.loads(file.read_text(encoding="utf-8"))
    assert len(numbers["sites"]) == 16
    entry = numbers["sites"][4]
    assert (entry["layer"], entry["site"], entry["rank"], entry["eq8"]) == (1, "qkv", R, S / R)
    assert numbers["compiled"]["flops"] == sum(site["compiled"]["flops"] for site in numbers["sites"])
    assert numbers["dense"]["flops"] > numbers["compiled"]["flops"]
    assert entry["memory"]["compiled"] < entry["memory"]["dense"]


def test_a_report_of_a_dense_model(tiny_ir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tiny_ir), "--emit", "dcom", "--report-cost"]) == 0
    assert "decomposed sites: none" in capsys.readouterr().err


def test_the_report_does_not_swallow_the_input(tiny_ir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--emit", "dcom", "--report-cost", str(tiny_ir)]) == 1
    assert "is no .json file; give the input FILE before it" in capsys.readouterr().err


def test_quantities() -> None:
    assert [quantity(count) for count in (0, 999, 1000, 33_554_432, 1.37e12)] == [
        "0 ",
        "999 ",
        "1 k",
        "33.6 M",
        "1.37 T",
    ]
