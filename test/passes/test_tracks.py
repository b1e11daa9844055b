"""Tracks, heads and products from the left: on the host and legalised, as plain NumPy has them."""

import numpy as np
import pytest
from both_ways import Array, text_both_ways

B, S, H, N, G, Q, S2, OUT = 2, 15, 12, 8, 2, 3, 11, 5
SITE = 'layer = 1 : i64, site = "qkv"'
TOLERANCES = {"f32": 1e-5, "f16": 1e-2}

TRACKS = f"""
func.func @main(%x: tensor<{B * S}x{H}xEL>, %w: tensor<{H}x{N}xEL>, %bias: tensor<{N}xEL>)
    -> (tensor<{B * S}x{N}xEL>, tensor<{B * S}x{N}xEL>, tensor<{B * S}x{N}xEL>) {{
  %d, %o = dcom.outlier_split %x {{{SITE}, capacity = 2 : i64}}
      : tensor<{B * S}x{H}xEL> -> tensor<{B * S}x{H}xEL>, !dcom.outliers<{B}x{S}x{H}, capacity 2, EL>
  %r, %t = dcom.token_split %d {{{SITE}, capacity = 3 : i64}}
      : tensor<{B * S}x{H}xEL> -> tensor<{B * S}x{H}xEL>, !dcom.tokens<{B}x{S}x{H}, capacity 3, EL>
  %f = dcom.exact_track %o, %w : !dcom.outliers<{B}x{S}x{H}, capacity 2, EL>, tensor<{H}x{N}xEL>
      -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 2, EL>
  %g = dcom.exact_track %t, %w : !dcom.tokens<{B}x{S}x{H}, capacity 3, EL>, tensor<{H}x{N}xEL>
      -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 3, EL>
  %b = dcom.bias_track %bias : tensor<{N}xEL> -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 1, EL>
  %fg = dcom.concat %f, %g : !dcom.factored<{B}x{S}x{N}, BLOCK, rank 2, EL>,
      !dcom.factored<{B}x{S}x{N}, BLOCK, rank 3, EL> -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 5, EL>
  %fgb = dcom.concat %fg, %b : !dcom.factored<{B}x{S}x{N}, BLOCK, rank 5, EL>,
      !dcom.factored<{B}x{S}x{N}, BLOCK, rank 1, EL> -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 6, EL>
  %y = dcom.reconstruct %fgb : !dcom.factored<{B}x{S}x{N}, BLOCK, rank 6, EL> -> tensor<{B * S}x{N}xEL>
  %p = dcom.outlier_matmul %o, %w : !dcom.outliers<{B}x{S}x{H}, capacity 2, EL>, tensor<{H}x{N}xEL>
      -> tensor<{B * S}x{N}xEL>
  %q = dcom.token_matmul %t, %w : !dcom.tokens<{B}x{S}x{H}, capacity 3, EL>, tensor<{H}x{N}xEL>
      -> tensor<{B * S}x{N}xEL>
  func.return %y, %p, %q : tensor<{B * S}x{N}xEL>, tensor<{B * S}x{N}xEL>, tensor<{B * S}x{N}xEL>
}}"""
"""Exact channels, exact tokens and a bias as tracks side by side, and the products they stand for."""

DECOMPOSE = f"""%f = dcom.decompose %x {{{SITE}, iterations = 5 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}}
      : tensor<{B * S}x{N}xEL> -> !dcom.factored<{B}x{S}x{N}, BLOCK, rank 5, EL>
  %h = dcom.split_heads %f {{groups = {G} : i64, shared = {Q} : i64}}
      : !dcom.factored<{B}x{S}x{N}, BLOCK, rank 5, EL> -> !dcom.factored<{B * G * Q}x{S}x{N // G}, BLOCK, rank 5, EL>"""

SPLIT = f"""
func.func @main(%x: tensor<{B * S}x{N}xEL>) -> tensor<{B * G * Q * S}x{N // G}xEL> {{
  {DECOMPOSE}
  %y = dcom.reconstruct %h
      : !dcom.factored<{B * G * Q}x{S}x{N // G}, BLOCK, rank 5, EL> -> tensor<{B * G * Q * S}x{N // G}xEL>
  func.return %y : tensor<{B * G * Q * S}x{N // G}xEL>
}}"""

SLICE = f"""
func.func @main(%x: tensor<{B * S}x{N}xEL>) -> tensor<{B * S}x3xEL> {{
  {DECOMPOSE}
  %s = dcom.slice %f {{offset = 4 : i64}}
      : !dcom.factored<{B}x{S}x{N}, BLOCK, rank 5, EL> -> !dcom.factored<{B}x{S}x3, BLOCK, rank 5, EL>
  %y = dcom.reconstruct %s : !dcom.factored<{B}x{S}x3, BLOCK, rank 5, EL> -> tensor<{B * S}x3xEL>
  func.return %y : tensor<{B * S}x3xEL>
}}"""

_HEADS = f"!dcom.factored<{B * G * Q}x{S2}x{N // G}, rank TRACKS, EL>"
ATTENTION = f"""
func.func @main(%x: tensor<{B * S}x{N}xEL>, %p: tensor<{B}x{G}x{Q}x{S2}x{S}xf32>, %o: tensor<{Q * N}x{OUT}xEL>)
    -> (tensor<{B * G * Q * S2}x{N // G}xEL>, tensor<{B * S2}x{OUT}xEL>) {{
  {DECOMPOSE}
  %l = dcom.left_matmul %p, %h : tensor<{B}x{G}x{Q}x{S2}x{S}xf32>,
      !dcom.factored<{B * G * Q}x{S}x{N // G}, BLOCK, rank 5, EL> -> {_HEADS}
  %y = dcom.reconstruct %l : {_HEADS} -> tensor<{B * G * Q * S2}x{N // G}xEL>
  %m = dcom.head_matmul %l, %o {{heads = {G * Q} : i64}} : {_HEADS}, tensor<{Q * N}x{OUT}xEL>
      -> !dcom.factored<{B * G * Q}x{S2}x{OUT}, rank TRACKS, EL>
  %z = dcom.reconstruct_heads %m {{heads = {G * Q} : i64}}
      : !dcom.factored<{B * G * Q}x{S2}x{OUT}, rank TRACKS, EL> -> tensor<{B * S2}x{OUT}xEL>
  func.return %y, %z : tensor<{B * G * Q * S2}x{N // G}xEL>, tensor<{B * S2}x{OUT}xEL>
}}"""
"""Attention's product from the left on each head, and the product of all heads with a weight."""


def normal(*shape: int, element: str = "f32") -> Array:
    dtype = {"f32": np.float32, "f16": np.float16}[element]
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def near(results: tuple[Array, Array], expected: Array, element: str) -> bool:
    """Whether both the host's result and that of the legalised program are the expected one."""
    return all(
        result.shape == expected.shape
        and np.abs(result - expected.astype(float)).max() <= TOLERANCES[element] * np.abs(expected).max()
        for result in results
    )


@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize("block", [7, S])
def test_tracks_side_by_side_are_a_sum(block: int, element: str) -> None:
    x = normal(B * S, H, element=element)
    x[:, [1, 7]] *= 5
    text = TRACKS.replace("BLOCK", f"block {block}").replace("EL", element)
    w, bias = normal(H, N, element=element), normal(N, element=element)
    y, (channels, _), (tokens, _) = text_both_ways(text, x, w, bias)
    assert np.abs(channels).max() > 1 and np.abs(tokens).max() > 1
    assert near(y, channels.astype(float) + tokens + bias, element)


@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize("block", [7, S])
def test_heads_have_the_channels_of_their_group(block: int, element: str) -> None:
    x = (normal(B * S, 3) @ normal(3, N)).astype(normal(1, element=element).dtype)
    (y,) = text_both_ways(SPLIT.replace("BLOCK", f"block {block}").replace("EL", element), x)
    groups = x.reshape(B, S, G, N // G).transpose(0, 2, 1, 3)
    assert near(y, np.repeat(groups, Q, axis=1).reshape(-1, N // G), element)


@pytest.mark.parametrize("block", [7, S])
def test_a_slice_has_its_channels(block: int) -> None:
    x = normal(B * S, 3) @ normal(3, N)
    (y,) = text_both_ways(SLICE.replace("BLOCK", f"block {block}").replace("EL", "f32"), x)
    assert near(y, x[:, 4:7], "f32")


@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize(("block", "tracks"), [(8, 10), (S, 5)])
def test_attention_acts_on_u(block: int, tracks: int, element: str) -> None:
    x = (normal(B * S, 3) @ normal(3, N)).astype(normal(1, element=element).dtype)
    p, o = normal(B, G, Q, S2, S), normal(Q * N, OUT, element=element)
    text = ATTENTION.replace("BLOCK", f"block {block}").replace("TRACKS", str(tracks)).replace("EL", element)
    mixed, projected = text_both_ways(text, x, p, o)
    values = x.astype(float).reshape(B, S, G, N // G).transpose(0, 2, 1, 3)[:, :, None]
    heads = p @ values
    assert near(mixed, heads.reshape(-1, N // G), element)
    side_by_side = heads.transpose(0, 3, 1, 2, 4).reshape(B * S2, Q * N)
    assert near(projected, side_by_side @ o.astype(float), element)
