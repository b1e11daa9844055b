"""Products with factored weights equal products with the dense weight that the factors stand for (Eq. 5 and 7)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from backends import run_all
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dcomc.ir import make_context, parse_module, print_module
from dcomc.pipeline import run_passes
from passes import make_passes
from runtime.executor import Executor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shapes:
    """Of an activation in factors [B*S, H], and of a weight [H, N] of ranks P and Q."""

    batch: int
    rows: int
    cols: int
    out: int
    block: int
    rank: int
    left: int
    right: int
    element: str = "f32"

    def text(self) -> str:
        """A module that multiplies the tracks of an activation by a weight, all ways there are."""
        b, s, h, n, e = self.batch, self.rows, self.cols, self.out, self.element
        p, q = self.left, self.right
        x, y = (f"tensor<{b * s}x{c}x{e}>" for c in (h, n))
        u, core, v, square = (f"tensor<{a}x{c}x{e}>" for a, c in ((h, p), (p, q), (q, n), (n, n)))
        weight = f"!dcom.weight<{h}x{n}, rank {p}x{q}, {e}>"
        block = "" if self.block == s else f"block {self.block}, "
        ranks = (h, f"{self.rank}"), (n, f"{self.rank}x{q}")
        f, g = (f"!dcom.factored<{b}x{s}x{c}, {block}rank {rank}, {e}>" for c, rank in ranks)
        outliers, kept = (f"!dcom.{kind}<{b}x{s}x{h}, capacity 1, {e}>" for kind in ("outliers", "tokens"))
        place = 'layer = 1 : i64, site = "qkv"'
        options = f"iterations = {self.rank} : i64, reorthogonalisation = 2 : i64, seed = 0 : i64"
        return f"""
func.func @main(%x: {x}, %u: {u}, %core: {core}, %v: {v}, %next: {square}, %scales: tensor<{n}x{e}>)
    -> ({x}, {y}, {y}, {y}, {y}, {x}, {x}, {y}, {y}) {{
  %w = dcom.factored_weight %u, %core, %v {{of = "w", {place}, method = "svd"}} : {u}, {core}, {v} -> {weight}
  %f = dcom.decompose %x {{{place}, {options}}} : {x} -> {f}
  %a = dcom.reconstruct %f : {f} -> {x}
  %g = dcom.matmul %f, %w : {f}, {weight} -> {g}
  %ag = dcom.reconstruct %g : {g} -> {y}
  %h = dcom.matmul %g, %next : {g}, {square} -> {g}
  %ah = dcom.reconstruct %h : {g} -> {y}
  %c = dcom.scale %g by %scales {{axis = "channels"}} : {g}, tensor<{n}x{e}> -> {g}
  %ac = dcom.reconstruct %c : {g} -> {y}
  %xw = dcom.weight_matmul %x, %w : {x}, {weight} -> {y}
  %d, %o = dcom.outlier_split %x {{{place}, capacity = 1 : i64}} : {x} -> {x}, {outliers}
  %ow = dcom.outlier_matmul %o, %w : {outliers}, {weight} -> {y}
  %e, %t = dcom.token_split %x {{{place}, capacity = 1 : i64}} : {x} -> {x}, {kept}
  %tw = dcom.token_matmul %t, %w : {kept}, {weight} -> {y}
  func.return %a, %ag, %ah, %ac, %xw, %d, %e, %ow, %tw : {x}, {y}, {y}, {y}, {y}, {x}, {x}, {y}, {y}
}}"""

    def inputs(self, seed: int) -> list[Array]:
        """x, the factors of the weight, another weight [N, N], and scales [N]."""
        shapes = (
            (self.batch * self.rows, self.cols),
            (self.cols, self.left),
            (self.left, self.right),
            (self.right, self.out),
            (self.out, self.out),
            (self.out,),
        )
        random = np.random.default_rng(seed)
        dtype = {"f32": np.float32, "f16": np.float16}[self.element]
        return [(random.normal(size=shape) / shape[0] ** 0.5).astype(dtype) for shape in shapes]


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    batch, rows, cols, out = (draw(st.integers(1, most)) for most in (3, 9, 12, 12))
    block = draw(st.integers(1, rows))
    rank = draw(st.integers(1, min(block, cols)))
    return Shapes(batch, rows, cols, out, block, rank, draw(st.integers(1, cols)), draw(st.integers(1, out)))


@settings(deadline=None, max_examples=30)
@given(shapes(), st.integers(0, 99))
@example(Shapes(2, 8, 12, 10, 8, 3, 4, 5), 0)
@example(Shapes(2, 8, 12, 10, 3, 2, 5, 4, "f16"), 1)
def test_factor_products_equal_dense_products(case: Shapes, seed: int) -> None:
    module = parse_module(case.text(), "case", make_context())
    inputs = case.inputs(seed)
    tolerance = {"f32": 2e-5, "f16": 1e-2}[case.element]
    host = run_all(module, {}, *inputs)
    run_passes(make_context(), module, make_passes("dcom-legalize"))
    text = print_module(module, locations=False)
    assert "= dcom." not in text and "!dcom" not in text
    legalised = Executor(parse_module(text, "legalised"), {}).run("main", *inputs)
    x, u, core, v, following, scales = (value.astype(np.float64) for value in inputs)
    w = u @ core @ v
    for a, ag, ah, ac, xw, d, e, ow, tw in (host, legalised):
        for product, expected in (
            (ag, a @ w),
            (ah, a @ w @ following),
            (ac, a @ w * scales),
            (xw, x @ w),
            (ow, (x - d) @ w),
            (tw, (x - e) @ w),
        ):
            assert product.dtype == inputs[0].dtype
            assert np.abs(product - expected).max() <= tolerance * max(1, np.abs(expected).max())
