"""What `dcomc.hf` makes of a site's input against the operations of the compiler that say the same."""

from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dcomc.config import SiteOptions
from dcomc.ir import parse_module
from runtime.approximation import Threshold, approximate
from runtime.executor import Executor
from runtime.executor_arrays import NUMPY

B, S, H = 2, 12, 10


def program(options: SiteOptions, threshold: Threshold | None) -> str:
    """Split channels and then tokens off x, and reconstruct the rest: what is left, and what has become of it."""
    x = f"tensor<{B * S}x{H}xf32>"
    channels, tokens = ceil(options.outliers / 100 * H), ceil(options.exact_rows / 100 * S)
    at = 'layer = 0 : i64, site = "o"'
    rule = ""
    if threshold is not None:
        count = max(1, ceil(threshold.min_tokens_percent / 100 * S))
        rule = f", threshold = {threshold.magnitude} : f32, min_count = {count} : i64"
    lines: list[str] = []
    rest = "%x"
    if channels:
        lines.append(
            f"%c, %o = dcom.outlier_split %x {{{at}, capacity = {channels} : i64{rule}}} : {x} -> {x}, "
            f"!dcom.outliers<{B}x{S}x{H}, capacity {channels}, f32>"
        )
        rest = "%c"
    if tokens:
        lines.append(
            f"%d, %t = dcom.token_split {rest} {{{at}, capacity = {tokens} : i64}} : {x} -> {x}, "
            f"!dcom.tokens<{B}x{S}x{H}, capacity {tokens}, f32>"
        )
        rest = "%d"
    block = "" if options.block is None else f"block {options.block}, "
    factored = f"!dcom.factored<{B}x{S}x{H}, {block}rank {options.rank}, f32>"
    return f"""
module attributes {{dcom.batch = {B} : i64}} {{
func.func @main(%x: {x}) -> ({x}, {x}) {{
  {chr(10).join(lines)}
  %f = dcom.decompose {rest} {{{at}, iterations = {options.iterations} : i64,
    reorthogonalisation = {options.reorthogonalisation} : i64, seed = {options.seed} : i64}} : {x} -> {factored}
  %y = dcom.reconstruct %f : {factored} -> {x}
  func.return {rest}, %y : {x}, {x}
}}
}}"""


def compare(x: Any, options: SiteOptions, threshold: Threshold | None) -> None:
    """x [B, S, H]: what the program splits off, beside what it makes of the rest, is what `approximate` gives."""
    executor = Executor(parse_module(program(options, threshold), "test.mlir"), {}, arrays=NUMPY)
    rest, low = executor.run("main", x.reshape(B * S, H))
    found, _ = approximate(torch.from_numpy(x), options, threshold)
    # Close singular values turn the two roundings of float32 into 2e-4; another channel or token changes 0.1 and more.
    np.testing.assert_allclose(found.reshape(B * S, H), low + (x.reshape(B * S, H) - rest), atol=2e-3)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 15.0, 30.0]),
    st.sampled_from([0.0, 5.0, 20.0, 60.0]),
    st.sampled_from([None, 5]),
    st.booleans(),
)
@example(91848605, 30.0, 20.0, None, False)
@settings(deadline=None, max_examples=150)
def test_it_chooses_the_channels_and_tokens_of_the_compiler(
    seed: int, outliers: float, exact_rows: float, block: int | None, with_threshold: bool
) -> None:
    """Energies that are equal up to rounding, as after an RMSNorm without weights, 0, or far from others."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(B, S, H)).astype(np.float32)
    x *= np.sqrt(H / (x**2).sum(2, keepdims=True), dtype=np.float32)
    if not with_threshold and outliers:  # whole numbers, so that the energies of channels are exact
        x = random.integers(-2, 3, (B, S, H)).astype(np.float32)
    x *= random.choice(np.array([0, 1, 1, 1, 2], np.float32), (B, S, 1))
    threshold = Threshold(1.0, 30.0) if with_threshold else None
    options = SiteOptions(rank=2, iterations=5, outliers=outliers, exact_rows=exact_rows, block=block, seed=seed % 7)
    compare(x, options, threshold)


@pytest.mark.parametrize("step", [1, -1])
def test_near_equal_energies_go_by_the_index(step: int) -> None:
    """Tokens whose energies grow by far less than bfloat16 tells, and one that is larger."""
    x = np.random.default_rng(3).normal(size=(B, S, H)).astype(np.float32)
    x *= np.sqrt(H / (x**2).sum(2, keepdims=True), dtype=np.float32)
    x *= (1 + 1e-5 * np.arange(S, dtype=np.float32)[::step])[:, None]
    x[:, 7] *= 1.1
    options = SiteOptions(rank=1, iterations=5, exact_rows=25.0)
    _, basis = approximate(torch.from_numpy(x), options)
    assert basis.exact_rows is not None
    assert [row.nonzero().flatten().tolist() for row in basis.exact_rows] == [[0, 1, 7]] * B
    compare(x, options, None)
