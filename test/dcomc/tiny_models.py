"""Small random models of the Llama family, for tests that compare with transformers."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 99,
    "hidden_size": 36,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def random_model(config: dict[str, Any], seed: int = 0) -> Any:
    """A model of large random weights, so that each of its parts matters to the logits: in evaluation mode, f32."""
    options = {key: value for key, value in config.items() if key != "model_type"}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise + 1 if parameter.ndim == 1 else noise)
    return model.float().eval()


def logits(model: Any, ids: Any) -> Any:
    """The logits [B, S, V] of token ids [B, S], as a NumPy array."""
    with torch.no_grad():
        return model(torch.from_numpy(ids), use_cache=False).logits.numpy()
