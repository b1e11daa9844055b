"""Simulated decompositions of real activations: the inputs of four sites of SmolLM2-135M on English text."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from machines import compile_kernel

from dcomc.model import resolve_model
from dcomc.texts import squad_article
from runtime.accelerator import PromptResult, run_kernel
from runtime.lanczos import bidiagonalise, optimal_error, relative_error, truncate
from runtime.machine import load_machine

LAYER, TOKENS, RANK, ITERATIONS = 14, 512, 10, 15
PROJECTIONS = {"qkv": "self_attn.q_proj", "o": "self_attn.o_proj", "gate_up": "mlp.gate_proj", "down": "mlp.down_proj"}
MACHINE = load_machine("dcom-16x16")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def activations() -> dict[str, np.ndarray]:
    """The input [512, H] of each site of layer 14, float32."""
    model = resolve_model("smollm2-135m")
    tokens = model.tokenizer().encode(squad_article(0))[:TOKENS]
    assert len(tokens) == TOKENS
    module: Any = model.torch_model()
    found: dict[str, np.ndarray] = {}

    def keep(site: str) -> Callable[..., None]:
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            found[site] = inputs[0][0].numpy().copy()

        return hook

    layer = module.model.layers[LAYER]
    handles = [layer.get_submodule(path).register_forward_pre_hook(keep(site)) for site, path in PROJECTIONS.items()]
    with torch.no_grad():
        module(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return found


def without_outliers(x: np.ndarray, percent: float = 3.0) -> np.ndarray:
    """The channels of the most energy set to zero, as the outlier split leaves them."""
    capacity = math.ceil(x.shape[1] * percent / 100)
    dense = x.copy()
    dense[:, np.argsort(-(x.astype(np.float64) ** 2).sum(axis=0), kind="stable")[:capacity]] = 0
    return dense


@pytest.fixture(scope="module", params=["without outliers", "whole"])
def split(request: pytest.FixtureRequest) -> Callable[[np.ndarray], np.ndarray]:
    return without_outliers if request.param == "without outliers" else lambda x: x


@pytest.mark.parametrize("site", PROJECTIONS)
def test_factors(
    activations: dict[str, np.ndarray],
    split: Callable[[np.ndarray], np.ndarray],
    site: str,
    record_property: Callable[[str, object], None],
) -> None:
    x = split(activations[site])
    kernel = compile_kernel(*x.shape, ITERATIONS, rank=RANK)
    result: PromptResult = run_kernel(kernel, MACHINE, x)
    f = result.factors
    assert len(f.alpha) == ITERATIONS
    error = relative_error(x, *truncate(f, RANK))
    exact = relative_error(x, *truncate(bidiagonalise(x.astype(np.float64), ITERATIONS), RANK))
    optimal = optimal_error(x, RANK)
    off_u, off_v = (
        float(np.abs(basis.astype(np.float64) @ basis.T.astype(np.float64) - np.eye(len(basis))).max())
        for basis in (f.u.T, f.v)
    )
    for name, value in (("error", error), ("float64", exact), ("optimal", optimal), ("u", off_u), ("v", off_v)):
        record_property(name, value)
    print(f"\n{site}: {error:.6f}, float64 {exact:.6f}, optimal {optimal:.6f}; UU {off_u:.1e}, VV {off_v:.1e}")
    assert error == pytest.approx(exact, rel=0.01)
    assert optimal * (1 - 1e-6) <= error <= 1.05 * optimal
    assert max(off_u, off_v) < 2**-9
