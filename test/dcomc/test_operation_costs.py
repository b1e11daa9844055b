"""The work of each operation of `dcom`, counted by hand: operations, and bytes read and written."""

import re

import pytest
from xdsl.dialects.func import FuncOp
from xdsl.irdl import IRDLOperation, irdl_op_definition

from dcomc.costs import Product, Work, count_costs, work_of
from dcomc.ir import parse_module
from dialects.dcom import Dcom

X = "tensor<32x64xf32>"
W = "tensor<64x24xf32>"
Y = "tensor<32x24xf32>"
WEIGHT = "!dcom.weight<64x24, rank 8x6, f32>"
OUTLIERS = "!dcom.outliers<2x16x64, capacity 3, f32>"
TOKENS = "!dcom.tokens<2x16x64, capacity 2, f32>"
PLACE = 'layer = 1 : i64, site = "o"'


def factored(cols: int, block: int, rank: int | str, element: str = "f32") -> str:
    """Of 2 prompts of 16 tokens: in blocks of 5 there are 8 of them, in blocks of 8 there are 4."""
    return f"!dcom.factored<2x16x{cols}, block {block}, rank {rank}, {element}>"


F = factored(64, 5, 4)
"""U of 8 x 5 x 4, a core of 8 x 4 x 4 and V of 8 x 4 x 64: 9,344 bytes."""
STEPS = f"{PLACE}, iterations = 5 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64"

CASES = [
    # 2 k products in k = 5 steps, 2 passes with 1 to 5 vectors of U and 0 to 4 of V, the truncation of 6 and 5 to 4.
    (
        f"decompose %0 {{{STEPS}}} : {X} -> {F}",
        8 * (20 * 5 * 64 + 8 * (15 * 5 + 10 * 64) + 8 * (6 * 5 + 5 * 64)),
        91264,
    ),
    (f"project %0 on %1 {{{PLACE}}} : tensor<32x48xf32>, {F} -> {factored(48, 5, 4)}", 2 * 8 * 4 * 5 * 48, 22784),
    (f"outlier_split %0 {{{PLACE}, capacity = 3 : i64}} : {X} -> {X}, {OUTLIERS}", 2 * 32 * 64, 16816),
    (f"token_split %0 {{{PLACE}, capacity = 2 : i64}} : {X} -> {X}, {TOKENS}", 2 * 32 * 64, 17440),
    (f"matmul %0, %1 : {F}, {W} -> {factored(24, 5, 4)}", 2 * 32 * 64 * 24, 6144 + 32 * (64 + 24) * 4),
    # The 32 rows of V by the first two factors, and the core by what comes of them.
    (
        f"matmul %0, %1 : {F}, {WEIGHT} -> {factored(24, 5, '4x6')}",
        2 * 32 * (64 * 8 + 8 * 6) + 2 * 8 * 4 * 4 * 6,
        2816 + 32 * 64 * 4 + 8 * 4 * (4 + 6) * 4,
    ),
    (f"weight_matmul %0, %1 : {X}, {WEIGHT} -> {Y}", 2 * 32 * (64 * 8 + 8 * 6 + 6 * 24), 8192 + 2816 + 3072),
    (f"outlier_matmul %0, %1 : {OUTLIERS}, {W} -> {Y}", 2 * 32 * 3 * 24, 432 + 6144 + 3072),
    # Three rows of the weight for each prompt are made first.
    (f"outlier_matmul %0, %1 : {OUTLIERS}, {WEIGHT} -> {Y}", 2 * 32 * 3 * 24 + 2 * 6 * (8 * 6 + 6 * 24), 6320),
    (f"token_matmul %0, %1 : {TOKENS}, {W} -> {Y}", 2 * 4 * 64 * 24, 1056 + 6144 + 3072),
    (f"token_matmul %0, %1 : {TOKENS}, {WEIGHT} -> {Y}", 2 * 4 * (64 * 8 + 8 * 6 + 6 * 24), 1056 + 2816 + 3072),
    (f"reconstruct %0 : {factored(24, 5, 4)} -> {Y}", 2 * 8 * (4 * 4 * 24 + 5 * 4 * 24), 4224 + 3072),
    (f"reconstruct %0 {{left_first}} : {factored(24, 5, 4)} -> {Y}", 2 * 8 * (5 * 4 * 4 + 5 * 4 * 24), 4224 + 3072),
    (
        f'scale %0 by %1 {{axis = "rows"}} : {factored(64, 5, 4, "f16")}, tensor<32xf16> -> '
        + factored(64, 5, 4, "f16"),
        8 * 5 * 4,
        64 + 2 * 160 * 2,
    ),
    (
        f'scale %0 by %1 {{axis = "channels"}} : {factored(64, 5, 4, "f16")}, tensor<64xf16> -> '
        + factored(64, 5, 4, "f16"),
        8 * 4 * 64,
        128 + 2 * 2048 * 2,
    ),
    (f"bias_track %0 : tensor<24xf32> -> {factored(24, 8, 1)}", 0, 96 + 528),
    (f"exact_track %0, %1 : {OUTLIERS}, {W} -> {factored(24, 8, 3)}", 0, 432 + 2 * 3 * 24 * 4 + 1680),
    (f"exact_track %0, %1 : {TOKENS}, {W} -> {factored(24, 8, 2)}", 2 * 4 * 64 * 24, 1056 + 6144 + 1088),
    (
        f"left_matmul %0, %1 : tensor<2x9x16xf16>, {factored(24, 8, 4)} -> !dcom.factored<2x9x24, rank 8, f32>",
        2 * 2 * 9 * 16 * 4,
        576 + (4 * 8 * 4 + 2 * 9 * 8) * 4,
    ),
    (
        "head_matmul %0, %1 {heads = 6 : i64} : !dcom.factored<12x9x8, rank 4, f32>, tensor<48x10xf32> -> "
        "!dcom.factored<12x9x10, rank 4, f32>",
        2 * 12 * 4 * 8 * 10,
        1920 + 12 * 4 * (8 + 10) * 4,
    ),
    (
        "reconstruct_heads %0 {heads = 6 : i64} : !dcom.factored<12x9x10, rank 4, f32> -> tensor<18x10xf32>",
        2 * 12 * (4 * 4 * 10 + 9 * 4 * 10),
        4416 + 720,
    ),
    # Both values are read, and their tracks of ranks 4 and 3 written side by side with a core of 7 x 7.
    (
        f"concat %0, %1 : {factored(24, 8, 4)}, {factored(24, 8, 3)} -> {factored(24, 8, 7)}",
        0,
        4 * 4 * (4 * (8 + 24) + 4 * 4 + 3 * (8 + 24) + 3 * 3 + 7 * (8 + 24) + 7 * 7),
    ),
    # Each of the 6 heads of a prompt has its U and core, and 8 channels of V that two heads share.
    (
        "split_heads %0 {groups = 3 : i64, shared = 2 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> "
        "!dcom.factored<12x16x8, rank 4, f32>",
        0,
        4 * (2 * (4 * (16 + 24) + 4 * 4) + 12 * (4 * (16 + 8) + 4 * 4)),
    ),
    (f"slice %0 {{offset = 16 : i64}} : {factored(24, 5, 4)} -> {factored(8, 5, 4)}", 0, 0),
    (
        f'factored_weight %0, %1, %2 {{of = "w", {PLACE}, method = "svd"}} : tensor<64x8xf32>, tensor<8x6xf32>, '
        f"tensor<6x24xf32> -> {WEIGHT}",
        0,
        0,
    ),
]


@pytest.mark.parametrize(("text", "flops", "moved"), CASES, ids=[text.split(" :")[0] for text, *_ in CASES])
def test_the_work_of_an_operation(text: str, flops: int, moved: int) -> None:
    types = re.findall(r"(?:tensor|!dcom\.\w+)<.*?>", text.split(" -> ")[0])
    parameters = ", ".join(f"%{number} : {type_}" for number, type_ in enumerate(types))
    results = ":2" if "_split " in text else ""
    assert first_work(f"func.func @main({parameters}) {{ %r{results} = dcom.{text} func.return }}") == Work(
        flops, moved
    )


def test_every_operation_has_a_case() -> None:
    assert {f"dcom.{text.split()[0]}" for text, *_ in CASES} == {operation.name for operation in Dcom.operations}


def test_an_operation_without_a_work_is_an_error() -> None:
    @irdl_op_definition
    class NewOp(IRDLOperation):
        name = "dcom.new"

    with pytest.raises(ValueError, match=r"the work of dcom\.new is not known"):
        work_of(NewOp())


def test_a_transpose_reads_and_writes_its_matrix() -> None:
    op = "%r = linalg.transpose ins(%x : tensor<24x64xf32>) outs(%y : tensor<64x24xf32>) permutation = [1, 0]"
    text = f"func.func @main(%x : tensor<24x64xf32>, %y : tensor<64x24xf32>) {{ {op} func.return }}"
    assert first_work(text) == Work(0, 2 * 24 * 64 * 4)


def test_a_product_of_heads_is_one_of_their_prompts() -> None:
    """12 heads of 2 prompts: 9 tokens each, by all 6 x 8 rows of the weight."""
    types = "(!dcom.factored<12x9x8, rank 4, f32>, tensor<48x10xf32>)"
    result = "!dcom.factored<12x9x10, rank 4, f32>"
    module = parse_module(
        f"""
func.func @layer(%f : !dcom.factored<12x9x8, rank 4, f32>, %w : tensor<48x10xf32>) -> {result} {{
  %y = dcom.head_matmul %f, %w {{heads = 6 : i64, dcom.role = "o_proj"}} : {types[1:-1]} -> {result}
  func.return %y : {result}
}}
func.func @main(%f : !dcom.factored<12x9x8, rank 4, f32>, %w : tensor<48x10xf32>) -> {result} {{
  %y = func.call @layer(%f, %w) {{dcom.layer = 3 : i64}} : {types} -> {result}
  func.return %y : {result}
}}""",
        "program",
    )
    (cost,) = count_costs(module)
    assert (cost.layer, cost.site) == (3, "o") and cost.products == [Product("o_proj", 2 * 9, 6 * 8, 10, 4)]
    assert cost.work == cost.preserved == Work(7680, 5376)


def first_work(text: str) -> Work:
    """The work of the first operation of a function."""
    (function,) = (op for op in parse_module(text, "program").ops if isinstance(op, FuncOp))
    return work_of(next(iter(function.body.block.ops)))
