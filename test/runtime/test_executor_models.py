"""Whole models on the host executor: against transformers, and dcom IR against its own legalisation."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from dcomc.ir import make_context
from dcomc.model import resolve_model
from dcomc.texts import squad_article
from dcomc.tracer import trace
from passes import make_passes
from runtime.executor import Executor
from runtime.executor_arrays import make_arrays

DECOMPOSE = (
    "dcom-insert-outlier-split{layers=1,2 outliers=3},dcom-decompose-activations{layers=1,2 rank=4 iterations=6}"
)
PRESERVE = "dcom-preserve-decomposed"


@cache
def tiny(seed: int = 0) -> tuple[Any, Mapping[str, Any]]:
    """The `tiny` preset with random weights: the transformers model and its weights by name."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**resolve_model("tiny").config())).eval().requires_grad_(False)
    return model, {name: value.numpy() for name, value in model.state_dict().items()}


def lowered(pipeline: str, seq_len: int, batch: int, dtype: str = "f32") -> Any:
    module = trace(resolve_model("tiny"), seq_len, batch, dtype)
    context = make_context()
    for pass_ in make_passes(pipeline):
        pass_.apply(context, module)
    module.verify()
    return module


def test_tiny_model_equals_transformers() -> None:
    import torch

    model, weights = tiny()
    tokens = np.random.default_rng(0).integers(0, 256, (2, 24))
    executor = Executor(trace(resolve_model("tiny"), 24, 2, "f32"), weights)
    expected = model(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    for _ in range(2):
        (logits,) = executor.run("main", tokens)
        assert logits.dtype == np.float32
        assert np.abs(logits - expected).max() < 1e-4


def test_tiny_model_in_f16_is_near_transformers_in_f32() -> None:
    import torch

    model, weights = tiny()
    tokens = np.random.default_rng(1).integers(0, 256, (1, 24))
    (logits,) = Executor(trace(resolve_model("tiny"), 24, 1, "f16"), weights).run("main", tokens)
    expected = model(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    assert logits.dtype == np.float16
    assert np.abs(logits - expected).max() < 5e-3 * np.abs(expected).max()


def test_skipping_a_layer_equals_transformers_without_it() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    _, weights = tiny()
    tokens = np.random.default_rng(2).integers(0, 256, (1, 16))
    (logits,) = Executor(trace(resolve_model("tiny"), 16, 1, "f32"), weights, skip_layers=[1, 2]).run("main", tokens)
    shorter = LlamaForCausalLM(LlamaConfig(**{**resolve_model("tiny").config(), "num_hidden_layers": 2})).eval()
    names = {name: name.replace("layers.1.", "layers.3.") for name in shorter.state_dict()}
    shorter.load_state_dict({name: torch.from_numpy(weights[source]) for name, source in names.items()})
    with torch.no_grad():
        expected = shorter(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    assert np.abs(logits - expected).max() < 1e-4


def test_dcom_ir_equals_its_legalisation() -> None:
    """The kernels of the dcom operations against their definition in Level 0 and scf."""
    _, weights = tiny()
    tokens = np.random.default_rng(3).integers(0, 256, (2, 16))
    dense, decomposed, legal = (
        Executor(lowered(pipeline, 16, 2), weights).run("main", tokens)[0]
        for pipeline in ("dce", f"{DECOMPOSE},{PRESERVE}", f"{DECOMPOSE},{PRESERVE},dcom-legalize")
    )
    assert np.abs(decomposed - legal).max() < 1e-4 * np.abs(dense).max()
    assert np.abs(decomposed - dense).max() > 1e-2 * np.abs(dense).max()


def test_preserving_factors_does_not_change_the_result() -> None:
    _, weights = tiny()
    tokens = np.random.default_rng(4).integers(0, 256, (1, 16))
    plain, preserved = (
        Executor(lowered(pipeline, 16, 1), weights).run("main", tokens)[0]
        for pipeline in (DECOMPOSE, f"{DECOMPOSE},{PRESERVE}")
    )
    assert np.abs(plain - preserved).max() < 1e-4 * np.abs(plain).max()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_smollm2_equals_transformers(backend: str) -> None:
    """512 tokens of English through the real weights: largest difference of a logit below 1e-3."""
    import torch

    model = resolve_model("smollm2-135m")
    tokens = np.array([model.tokenizer().encode(squad_article(27))[:512]])
    arrays = make_arrays(backend)
    (logits,) = Executor(trace(model, 512, 1, "f32"), model.weights(), arrays=arrays).run("main", tokens)
    module: Any = model.torch_model("f32")
    with torch.no_grad():
        expected = module(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    assert np.abs(logits - expected).max() < 1e-3
