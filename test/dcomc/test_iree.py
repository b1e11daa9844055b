"""What traced IR means, by an independent compiler: compiled and run by IREE, it equals transformers."""

from typing import Any

import mlir_tools
import numpy as np
import pytest
from iree_tools import optimise, run
from tiny_models import LLAMA, logits, random_model

from dcomc.ir import print_module
from dcomc.model import resolve_model
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
BIAS = {"attention_bias": True, "mlp_bias": True}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}


def traced(config: dict[str, Any], seq_len: int, batch: int, dtype: str) -> str:
    return print_module(build_module(capture(config, seq_len, batch, dtype), "test", seq_len, batch))


def compare(config: dict[str, Any], seq_len: int, batch: int, dtype: str = "f32") -> tuple[Any, Any]:
    """The logits by IREE and by transformers in f32, of the same random weights (rounded to `dtype`) and tokens."""
    model = random_model(config)
    if dtype == "f16":
        model = model.half().float()
    ids = np.random.default_rng(1).integers(0, config["vocab_size"], (batch, seq_len))
    element = {"f16": np.float16, "f32": np.float32}[dtype]
    weights = {name: parameter.detach().numpy().astype(element) for name, parameter in model.named_parameters()}
    result = run(traced(config, seq_len, batch, dtype), weights, ids)
    assert result.dtype == element
    return result, logits(model, ids)


@pytest.mark.parametrize(
    ("changes", "seq_len", "batch"),
    [
        pytest.param({}, 17, 1, id="grouped-queries"),
        pytest.param({"tie_word_embeddings": True, "num_key_value_heads": 1, "head_dim": 14}, 9, 3, id="tied"),
        pytest.param({"num_key_value_heads": 6, **BIAS, "rope_parameters": LLAMA3_ROPE}, 40, 2, id="bias-llama3-rope"),
        pytest.param({"rope_parameters": YARN}, 40, 1, id="yarn-rope"),
    ],
)
def test_iree_equals_transformers(changes: dict[str, Any], seq_len: int, batch: int) -> None:
    result, expected = compare(LLAMA | changes, seq_len, batch)
    assert result.shape == (batch, seq_len, LLAMA["vocab_size"])
    assert np.ptp(expected) > 1
    assert np.abs(result - expected).max() < 1e-4


def test_iree_in_f16_is_as_close_as_half_precision_allows() -> None:
    result, expected = compare(LLAMA, 17, 2, "f16")
    # Eight products in a row, each rounded to 11 bits, of logits up to about 5.
    assert np.abs(result.astype(np.float32) - expected).max() < 8 * 5 * 2**-10


def test_the_smallest_sizes_compile() -> None:
    config = LLAMA | {"hidden_size": 2, "intermediate_size": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    result, expected = compare(config | {"vocab_size": 3, "num_hidden_layers": 1}, 1, 1)
    assert np.abs(result - expected).max() < 1e-4


def test_upstream_tools_accept_every_preset_unchanged() -> None:
    for name, seq_len in (("tiny", 32), ("smollm2-135m", 512), ("llama2-7b", 4096)):
        text = traced(resolve_model(name).config(), seq_len, 1, "f32")
        for by in (optimise, mlir_tools.optimise):
            # A second pass through the tool changes nothing: what it printed, it reads as the same module.
            once = by(text)
            assert by(once) == once
            assert once.count("dcom.role") == 8
