"""The dcom operations on the host against their plain meaning in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, run_all
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import func
from xdsl.ir import Operation

from dcomc.diagnostics import DcomError
from dcomc.ir import make_context, parse_module
from dcomc.pipeline import run_passes
from passes import make_passes
from runtime import lanczos
from runtime.executor import Executor
from runtime.executor_dcom import zero_decompose
from runtime.executor_torch import TorchArrays

B, S, H, N, C, R, K = 2, 12, 10, 7, 3, 4, 6


def program(element: str = "f32", options: str = "", decompose: bool = True) -> str:
    """Split, decompose, multiply in factors, reconstruct, and add the outliers' product."""
    x, w, y = f"tensor<{B * S}x{H}x{element}>", f"tensor<{H}x{N}x{element}>", f"tensor<{B * S}x{N}x{element}>"
    outliers = f"!dcom.outliers<{B}x{S}x{H}, capacity {C}, {element}>"
    f, g = (f"!dcom.factored<{B}x{S}x{n}, rank {R}, {element}>" for n in (H, N))
    low_rank = f"""
  %f = dcom.decompose %d {{layer = 3 : i64, site = "o", iterations = {K} : i64, reorthogonalisation = 2 : i64,
    seed = 5 : i64}} : {x} -> {f}
  %g = dcom.matmul %f, %w : {f}, {w} -> {g}
  %y = dcom.reconstruct %g : {g} -> {y}"""
    dense = f"""
  %e = tensor.empty() : {y}
  %y = linalg.matmul ins(%d, %w : {x}, {w}) outs(%e : {y}) -> {y}"""
    return f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: {x}, %w: {w}) -> ({x}, {y}, {y}) {{
  %d, %o = dcom.outlier_split %x {{layer = 3 : i64, site = "o", capacity = {C} : i64{options}}} : {x} -> {x}, {outliers}
  {low_rank if decompose else dense}
  %z = dcom.outlier_matmul %o, %w : {outliers}, {w} -> {y}
  func.return %d, %y, %z : {x}, {y}, {y}
}}
}}"""


TOKENS = f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: tensor<{B * S}x{H}xf32>, %y: tensor<{B * S}x{N}xf32>, %w: tensor<{H}x{N}xf32>)
    -> (tensor<{B * S}x{H}xf32>, tensor<{B * S}x{N}xf32>, tensor<{B * S}x{N}xf32>, tensor<{B * S}x{N}xf32>) {{
  %d, %t = dcom.token_split %x {{layer = 3 : i64, site = "o", capacity = {C} : i64}}
    : tensor<{B * S}x{H}xf32> -> tensor<{B * S}x{H}xf32>, !dcom.tokens<{B}x{S}x{H}, capacity {C}, f32>
  %r, %s = dcom.token_split %y like %t : !dcom.tokens<{B}x{S}x{H}, capacity {C}, f32>
    {{layer = 3 : i64, site = "o", capacity = {C} : i64}}
    : tensor<{B * S}x{N}xf32> -> tensor<{B * S}x{N}xf32>, !dcom.tokens<{B}x{S}x{N}, capacity {C}, f32>
  %e = tensor.empty() : tensor<{B * S}x{N}xf32>
  %p = linalg.matmul ins(%d, %w : tensor<{B * S}x{H}xf32>, tensor<{H}x{N}xf32>)
    outs(%e : tensor<{B * S}x{N}xf32>) -> tensor<{B * S}x{N}xf32>
  %z = dcom.token_matmul %t, %w
    : !dcom.tokens<{B}x{S}x{H}, capacity {C}, f32>, tensor<{H}x{N}xf32> -> tensor<{B * S}x{N}xf32>
  func.return %d, %r, %p, %z
    : tensor<{B * S}x{H}xf32>, tensor<{B * S}x{N}xf32>, tensor<{B * S}x{N}xf32>, tensor<{B * S}x{N}xf32>
}}
}}"""
"""Split tokens of x, the same of y, and multiply what is left and what is split off."""

PROJECT = f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: tensor<{B * S}x{H}xf32>, %y: tensor<{B * S}x{N}xf32>) -> tensor<{B * S}x{N}xf32> {{
  %f = dcom.decompose %x {{layer = 3 : i64, site = "qkv", iterations = 4 : i64, reorthogonalisation = 2 : i64,
    seed = 5 : i64}} : tensor<{B * S}x{H}xf32> -> !dcom.factored<{B}x{S}x{H}, block 5, rank 3, f32>
  %g = dcom.project %y on %f {{layer = 3 : i64, site = "o"}} : tensor<{B * S}x{N}xf32>,
    !dcom.factored<{B}x{S}x{H}, block 5, rank 3, f32> -> !dcom.factored<{B}x{S}x{N}, block 5, rank 3, f32>
  %z = dcom.reconstruct %g : !dcom.factored<{B}x{S}x{N}, block 5, rank 3, f32> -> tensor<{B * S}x{N}xf32>
  func.return %z : tensor<{B * S}x{N}xf32>
}}
}}"""
"""Project y on the basis of x, in blocks of 5 and 2 rows."""


def run(text: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """By every back end."""
    return run_all(parse_module(text, "test.mlir"), {}, *arguments, **options)


def selected(prompt: Any, scores: Any, cutoff: float) -> list[int]:
    """The definition, channel by channel."""
    chosen: list[int] = []
    for h in range(H):
        rank = sum(scores[g] > scores[h] or (scores[g] == scores[h] and g < h) for g in range(H))
        if rank < C and scores[h] > cutoff:
            chosen.append(h)
    return chosen


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, H))
@settings(deadline=None, max_examples=60)
def test_outlier_split_selects_by_the_definition(seed: int, with_threshold: bool, zero_channels: int) -> None:
    """Small integers make ties; the split and the outliers' product together are the whole product."""
    random = np.random.default_rng(seed)
    x = random.integers(-2, 3, (B * S, H)).astype(np.float32)
    x[:, random.permutation(H)[:zero_channels]] = 0
    w = random.integers(-3, 4, (H, N)).astype(np.float32)
    options = ", threshold = 1.0 : f32, min_count = 4 : i64" if with_threshold else ""
    dense, product, outliers = run(program(options=options, decompose=False), x, w)
    for b, prompt in enumerate(x.reshape(B, S, H)):
        scores = (np.abs(prompt) > 1).sum(0) if with_threshold else (prompt**2).sum(0)
        chosen = selected(prompt, scores, 3 if with_threshold else 0)
        expected = prompt.copy()
        expected[:, chosen] = 0
        np.testing.assert_array_equal(dense[b * S : (b + 1) * S], expected)
    np.testing.assert_array_equal(product + outliers, x @ w)


def test_decompositions_are_those_of_lanczos() -> None:
    random = np.random.default_rng(1)
    x, w = random.normal(size=(B * S, H)).astype(np.float32), random.normal(size=(H, N)).astype(np.float32)
    dense, y, _ = run(program(), x, w)
    expected: list[Any] = []
    for prompt in dense.reshape(B, S, H):
        u, core, v = lanczos.truncate(lanczos.bidiagonalise(prompt, K, seed=5), R)
        expected.append(u @ core @ v @ w)
    np.testing.assert_allclose(y, np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("block", [1, 4, 5, 11, 12])
def test_blocks_have_a_basis_each(block: int) -> None:
    """A short block is what it is by itself: the zero rows that fill it up change nothing."""
    random = np.random.default_rng(4)
    x, w = random.normal(size=(B * S, H)).astype(np.float32), random.normal(size=(H, N)).astype(np.float32)
    rank = min(2, block)
    text = (
        program()
        .replace(f"rank {R}", f"block {block}, rank {rank}")
        .replace(f"iterations = {K}", f"iterations = {rank}")
    )
    dense, y, _ = run(text, x, w)
    expected: list[Any] = []
    for prompt in dense.reshape(B, S, H):
        for start in range(0, S, block):
            rows = prompt[start : start + block]
            steps = min(rank, len(rows))
            u, core, v = lanczos.truncate(lanczos.bidiagonalise(rows, steps, seed=5), steps)
            expected.append(u @ core @ v @ w)
    np.testing.assert_allclose(y, np.concatenate(expected), atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(0, S))
@settings(deadline=None, max_examples=40)
def test_token_split_selects_by_the_definition(seed: int, zero_rows: int) -> None:
    """Small integers make ties; the split and the tokens' product together are the whole product."""
    random = np.random.default_rng(seed)
    x = random.integers(-1, 2, (B * S, H)).astype(np.float32)
    x[random.permutation(B * S)[:zero_rows]] = 0
    y = random.normal(size=(B * S, N)).astype(np.float32)
    w = random.integers(-3, 4, (H, N)).astype(np.float32)
    dense, rest, whole, product = run(TOKENS, x, y, w)
    for b, prompt in enumerate(x.reshape(B, S, H)):
        scores = (prompt**2).sum(1)
        ranks = [sum(scores[t] > scores[s] or (scores[t] == scores[s] and t < s) for t in range(S)) for s in range(S)]
        chosen = [s for s in range(S) if ranks[s] < C and scores[s] > 0]
        for result, source in ((dense, prompt), (rest, y[b * S : (b + 1) * S])):
            expected = source.copy()
            expected[chosen] = 0
            np.testing.assert_array_equal(result[b * S : (b + 1) * S], expected)
    np.testing.assert_array_equal(whole + product, x @ w)


def test_a_projection_is_that_on_the_columns_of_u() -> None:
    random = np.random.default_rng(8)
    x, y = (random.normal(size=(B * S, n)).astype(np.float32) for n in (H, N))
    (projected,) = run(PROJECT, x, y)
    for b in range(B):
        for start in range(b * S, (b + 1) * S, 5):
            block = slice(start, min(start + 5, (b + 1) * S))
            u, _, _ = lanczos.truncate(lanczos.bidiagonalise(x[block], min(4, block.stop - start), seed=5), 3)
            u = u[:, : min(3, block.stop - start)]
            np.testing.assert_allclose(projected[block], u @ (u.T @ y[block]), atol=1e-5)


@pytest.mark.parametrize(("energy", "kept"), [(0.5, 1), (0.72, 1), (0.73, 2), (0.91, 2), (0.93, 3), (1.0, R)])
def test_an_energy_target_keeps_the_fewest_columns(energy: float, kept: int) -> None:
    """One, two and three singular values hold 0.721, 0.919 and 0.991 of the energy; there are no outliers."""
    random = np.random.default_rng(9)
    sides = [[np.linalg.qr(random.normal(size=(side, R)))[0] for side in (S, H)] for _ in range(B)]
    prompts = [left * np.sqrt([8.0, 2.2, 0.8, 0.1]) @ right.T for left, right in sides]
    x = np.concatenate(prompts).astype(np.float32)
    text = program(options=", threshold = 100.0 : f32, min_count = 1 : i64")
    text = text.replace("seed = 5 : i64}", f"seed = 5 : i64, energy = {energy} : f32}}")
    _, y, _ = run(text, x, np.eye(H, N, dtype=np.float32))
    for b, prompt in enumerate(prompts):
        u, s, v = np.linalg.svd(prompt)
        expected = (u[:, :kept] * s[:kept]) @ v[:kept]
        np.testing.assert_allclose(y[b * S : (b + 1) * S], expected[:, :N], atol=1e-3)


def test_padding_of_a_prompt_is_in_its_last_blocks() -> None:
    random = np.random.default_rng(6)
    x, w = random.normal(size=(B * S, H)).astype(np.float32), random.normal(size=(H, N)).astype(np.float32)
    text = program().replace(f"rank {R}", "block 5, rank 3").replace(f"iterations = {K}", "iterations = 3")
    asked: list[Any] = []

    def decompose(op: Any, blocks: Any) -> Any:
        asked.append(blocks.reshape(-1, 5, H))
        return zero_decompose(op, blocks)

    run(text, x, w, valid_rows=[7, 12], decompose=decompose)
    filled = [int(np.count_nonzero(block.any(1))) for block in asked[0]]
    assert filled == [5, 2, 0, 5, 5, 2]


def test_f16_factors_are_rounded_and_products_summed_in_f32() -> None:
    random = np.random.default_rng(2)
    x, w = random.normal(size=(B * S, H)).astype(np.float16), random.normal(size=(H, N)).astype(np.float16)
    dense, y, z = run(program("f16"), x, w)
    assert dense.dtype == y.dtype == z.dtype == np.float16
    exact = lanczos.decompose(dense, B, R, K, seed=5)
    np.testing.assert_allclose(y, exact.reconstruct() @ w.astype(np.float32), atol=0.02)


def test_a_decomposition_is_asked_for_by_its_operation() -> None:
    asked: list[tuple[int, str, tuple[int, ...]]] = []

    def decompose(op: Any, x: Any) -> Any:
        asked.append((op.layer.value.data, op.site.data, x.shape))
        return zero_decompose(op, x)

    x, w = np.ones((B * S, H), np.float32), np.ones((H, N), np.float32)
    _, y, _ = run(program(), x, w, decompose=decompose)
    assert asked == [(3, "o", (B * S, H))] * len(BACKENDS)
    assert not y.any()


def test_padding_is_neither_split_nor_decomposed() -> None:
    random = np.random.default_rng(3)
    x, w = random.normal(size=(B * S, H)).astype(np.float32), random.normal(size=(H, N)).astype(np.float32)
    text = program()
    results = run(text, x, w, valid_rows=[9, 0])
    padded = x.copy()
    padded[9:] = 0
    for result, expected in zip(results, run(text, padded, w), strict=True):
        np.testing.assert_array_equal(result, expected)
    x[9:] = 1e3
    for result, expected in zip(run(text, x, w, valid_rows=[9, 0]), results, strict=True):
        np.testing.assert_array_equal(result, expected)
    with pytest.raises(DcomError, match="3 numbers of valid rows are given for 2 prompts"):
        run(text, x, w, valid_rows=[9, 0, 1])


@pytest.mark.parametrize(("bad", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_activations_that_are_not_finite(bad: float, what: str) -> None:
    x, w = np.ones((B * S, H), np.float32), np.ones((H, N), np.float32)
    x[3, 4] = bad
    with pytest.raises(DcomError, match=f"dcom.outlier_split: {what} in the activations of layer 3, site o"):
        run(program(), x, w)


def test_tokens_that_rounding_alone_tells_apart_go_by_their_index() -> None:
    """As after an RMSNorm without weights: every token has the energy H, up to the last places."""
    random = np.random.default_rng(6)
    x = random.normal(size=(B * S, H)).astype(np.float32)
    x *= np.sqrt(H / (x**2).sum(1, keepdims=True), dtype=np.float32)
    assert len(np.unique((x**2).sum(1))) > 1
    x[S + 7] *= 1.1
    y, w = (random.normal(size=shape).astype(np.float32) for shape in ((B * S, N), (H, N)))
    dense, *_ = run(TOKENS, x, y, w)
    left_out = [np.flatnonzero(~prompt.any(1)).tolist() for prompt in dense.reshape(B, S, H)]
    assert left_out == [[0, 1, 2], [0, 1, 7]]
    run_passes(make_context(), module := parse_module(TOKENS, "test.mlir"), make_passes("dcom-legalize"))
    np.testing.assert_array_equal(Executor(module, {}).run("main", x, y, w)[0], dense)


@pytest.mark.parametrize("rows, cols", [(12, 10), (600, 1024)])  # the second is read by kernels of large matrices
@pytest.mark.parametrize("block, valid", [(None, None), (5, (7, 12)), (None, (12, 3))])
def test_a_split_before_a_decomposition_writes_nothing(
    rows: int, cols: int, block: int | None, valid: tuple[int, int] | None
) -> None:
    """Fused, the channels are taken as zero in place; the result is that of both operations one after another."""
    scale = rows // 12
    x, y = f"tensor<{B * rows}x{cols}xf32>", f"!dcom.outliers<{B}x{rows}x{cols}, capacity {C}, f32>"
    form = "" if block is None else f"block {block * scale}, "
    f = f"!dcom.factored<{B}x{rows}x{cols}, {form}rank 3, f32>"
    text = f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: {x}, %w: tensor<{cols}x{N}xf32>) -> ({x}, tensor<{B * rows}x{N}xf32>) {{
  %d, %o = dcom.outlier_split %x {{layer = 3 : i64, site = "o", capacity = {C} : i64}} : {x} -> {x}, {y}
  %f = dcom.decompose %d {{layer = 3 : i64, site = "o", iterations = 4 : i64, reorthogonalisation = 2 : i64,
    seed = 5 : i64}} : {x} -> {f}
  %r = dcom.reconstruct %f : {f} -> {x}
  %z = dcom.outlier_matmul %o, %w : {y}, tensor<{cols}x{N}xf32> -> tensor<{B * rows}x{N}xf32>
  func.return %r, %z : {x}, tensor<{B * rows}x{N}xf32>
}}
}}"""
    random = np.random.default_rng(0)
    values = random.normal(size=(B * rows, cols)).astype(np.float32) * np.linspace(1, 9, cols, dtype=np.float32)
    weight = random.normal(size=(cols, N)).astype(np.float32)
    options: dict[str, Any] = {"valid_rows": valid and [count * scale for count in valid]}
    module, names = parse_module(text, "test.mlir"), list[str]()
    fused = Executor(module, {}, arrays=TorchArrays(), **options)

    def observe(op: Operation, operands: Sequence[Any], results: Sequence[Any]) -> None:
        names.append(op.name)

    apart = Executor(module, {}, arrays=TorchArrays(), observer=observe, **options)
    results = zip(fused.run("main", values, weight), apart.run("main", values, weight), strict=True)
    main = next(op for op in module.ops if isinstance(op, func.FuncOp))
    assert len(fused.fusions(list(main.body.block.ops))) == 1 and "dcom.outlier_split" in names
    for found, expected in results:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if scale == 1:
        run(text, values, weight, **options)
