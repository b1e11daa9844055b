"""Canonical IR has the bits of the IR that it was made from, and its locations."""

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp, NameLoc

from dcomc.ir import make_context, parse_module, source_location
from dcomc.pipeline import run_passes
from passes import make_passes
from runtime.executor import Executor

Array = np.ndarray[Any, Any]

B, S, H, N = 2, 12, 10, 6


def program(element: str) -> ModuleOp:
    """Everything that canonicalisation rewrites, in one function; each operation has a location of its own."""
    x, y, w = f"tensor<{B * S}x{H}x{element}>", f"tensor<{B * S}x{N}x{element}>", f"tensor<{H}x{N}x{element}>"
    rows, channels = f"tensor<{B * S}x{element}>", f"tensor<{H}x{element}>"
    f, g = (f"!dcom.factored<{B}x{S}x{cols}, block 5, rank 3, {element}>" for cols in (H, N))
    outliers, tokens = (f"!dcom.{name}<{B}x{S}x{H}, capacity 2, {element}>" for name in ("outliers", "tokens"))
    whole, product, heads, of_heads = (
        f"!dcom.factored<{batch}x{S}x{cols}, rank 3, {element}>"
        for batch, cols in ((B, H), (B, N), (2 * B, H // 2), (2 * B, N))
    )
    twice = f"tensor<{2 * B * S}x{element}>"
    place = "layer = 1 : i64, site"
    text = f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: {x}, %z: {y}, %w: {w}, %r: {rows}, %c: {channels}, %r2: {twice})
    -> ({y}, {y}, {y}, {x}, {y}, {y}, {y}, {y}) {{
  %dense, %none = dcom.outlier_split %x {{{place} = "qkv", capacity = 2 : i64, threshold = 0x7F800000 : f32,
    min_count = 1 : i64}} : {x} -> {x}, {outliers}
  %o = dcom.outlier_matmul %none, %w : {outliers}, {w} -> {y}
  %rest, %tokens = dcom.token_split %dense {{{place} = "qkv", capacity = 2 : i64}} : {x} -> {x}, {tokens}
  %same, %twice = dcom.token_split %dense like %tokens : {tokens} {{{place} = "o", capacity = 2 : i64}}
    : {x} -> {x}, {tokens}
  %t = dcom.token_matmul %twice, %w : {tokens}, {w} -> {y}
  %f = dcom.decompose %rest {{{place} = "qkv", iterations = 4 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}}
    : {x} -> {f}
  %ones = arith.constant dense<1.0> : {rows}
  %f1 = dcom.scale %f by %ones {{axis = "rows"}} : {f}, {rows} -> {f}
  %g1 = dcom.matmul %f1, %w : {f}, {w} -> {g}
  %q = dcom.scale %g1 by %r {{axis = "rows"}} : {g}, {rows} -> {g}
  %f2 = dcom.scale %f by %c {{axis = "channels"}} : {f}, {channels} -> {f}
  %g2 = dcom.matmul %f2, %w : {f}, {w} -> {g}
  %k = dcom.scale %g2 by %r {{axis = "rows"}} : {g}, {rows} -> {g}
  %g3 = dcom.matmul %f2, %w : {f}, {w} -> {g}
  %p1 = dcom.project %z on %g3 {{{place} = "gate_up"}} : {y}, {g} -> {g}
  %p = dcom.project %z on %p1 {{{place} = "down"}} : {y}, {g} -> {g}
  %a0 = dcom.reconstruct %q : {g} -> {y}
  %a1 = dcom.reconstruct %k : {g} -> {y}
  %a2 = dcom.reconstruct %p : {g} -> {y}
  %e = dcom.decompose %rest {{{place} = "o", iterations = 4 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}}
    : {x} -> {whole}
  %h1 = dcom.split_heads %e {{groups = 1 : i64, shared = 1 : i64}} : {whole} -> {whole}
  %m1 = dcom.head_matmul %h1, %w {{heads = 1 : i64}} : {whole}, {w} -> {product}
  %s1 = dcom.reconstruct_heads %m1 {{heads = 1 : i64}} : {product} -> {y}
  %h2 = dcom.split_heads %e {{groups = 2 : i64, shared = 1 : i64}} : {whole} -> {heads}
  %m2 = dcom.head_matmul %h2, %w {{heads = 2 : i64}} : {heads}, {w} -> {of_heads}
  %k2 = dcom.scale %m2 by %r2 {{axis = "rows"}} : {of_heads}, {twice} -> {of_heads}
  %s2 = dcom.reconstruct_heads %k2 {{heads = 2 : i64}} : {of_heads} -> {y}
  func.return %a0, %a1, %a2, %same, %t, %o, %s1, %s2 : {y}, {y}, {y}, {x}, {y}, {y}, {y}, {y}
}}
}}"""
    module = parse_module(text, "test.mlir")
    for number, op in enumerate(module.walk()):
        op.location = source_location(f"op{number}", "model.py", number + 1)
    return module


def canonical(module: ModuleOp) -> ModuleOp:
    result = module.clone()
    run_passes(make_context(), result, make_passes("canonicalize,cse,canonicalize"))
    return result


def count(module: ModuleOp, name: str) -> int:
    return sum(op.name == name for op in module.walk())


@pytest.mark.parametrize("element", ["f16", "f32"])
@pytest.mark.parametrize("legalise", [False, True], ids=["dcom", "level 0"])
def test_no_bit_changes(element: str, legalise: bool) -> None:
    before = program(element)
    after = canonical(before)
    assert count(before, "dcom.scale") == 5 and count(after, "dcom.scale") == 3
    assert count(before, "dcom.matmul") == 3 and count(after, "dcom.matmul") == 3
    assert count(before, "dcom.head_matmul") == 2 and count(after, "dcom.head_matmul") == 1
    assert count(after, "dcom.outlier_split") == count(after, "dcom.outlier_matmul") == 0
    assert count(before, "dcom.token_split") == 2 and count(after, "dcom.token_split") == 1

    rng = np.random.default_rng(3)
    shapes = ((B * S, H), (B * S, N), (H, N), (B * S,), (H,), (2 * B * S,))
    inputs = [rng.normal(size=shape).astype({"f16": np.float16, "f32": np.float32}[element]) for shape in shapes]
    results: list[tuple[Array, ...]] = []
    for module in (before, after):
        if legalise:
            run_passes(make_context(), module, make_passes("dcom-legalize"))
        results.append(Executor(module, {}).run("main", *inputs))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_no_location_is_lost() -> None:
    before = program("f32")
    known = {op.location for op in before.walk()}
    for op in canonical(before).walk():
        assert isinstance(op.location, NameLoc) and op.location in known, op.name
