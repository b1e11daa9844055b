"""Small configurations of the model families that dcomc traces: each has what sets its family apart, at odd sizes."""

from typing import Any

BASE: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 7}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]


def config(model_type: str, **changes: Any) -> dict[str, Any]:
    return BASE | {"model_type": model_type} | changes


def rope(rope_type: str, **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **options}}


LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LONGROPE = {"short_factor": [1.0, 1.1, 1.2, 1.5], "long_factor": [2.0, 2.0, 2.5, 3.0], "partial_rotary_factor": 0.5}
GEMMA = {"head_dim": 10, "tie_word_embeddings": True}

LLAMA_FAMILY: dict[str, dict[str, Any]] = {
    "llama2": config("llama", num_key_value_heads=6),
    "llama3": config("llama", **rope("llama3", **LLAMA3)),
    "mistral": config("mistral", head_dim=10, **WINDOW),
    "qwen2": config("qwen2", use_sliding_window=True, max_window_layers=1, **WINDOW),
    "qwen3": config("qwen3", head_dim=10),
    "smollm3": config("smollm3", num_hidden_layers=4),
    "olmo2": config("olmo2"),
    "phi3": config("phi3", **WINDOW),
    "phi3-longrope": config(
        "phi3", num_attention_heads=3, original_max_position_embeddings=16, **rope("longrope", **LONGROPE)
    ),
    "gemma": config("gemma", hidden_activation="gelu_pytorch_tanh", **GEMMA),
    "gemma2": config("gemma2", query_pre_attn_scalar=11, attn_logit_softcapping=2.0, **GEMMA, **WINDOW),
    "gemma3": config("gemma3_text", num_hidden_layers=3, layer_types=ALTERNATING, **GEMMA, **WINDOW),
    "granite": config(
        "granite", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.3, attention_multiplier=0.2
    ),
}
"""Those that must work."""

RELATIVES: dict[str, dict[str, Any]] = {
    "llama-linear": config("llama", **rope("linear", factor=2.0)),
    "llama-dynamic": config("llama", **(rope("dynamic", factor=2.0) | {"max_position_embeddings": 12})),
    "apertus": config("apertus"),
    "arcee": config("arcee"),
    "bitnet": config("bitnet"),
    "cohere": config("cohere"),
    "cohere2": config("cohere2", **WINDOW),
    "cwm": config("cwm"),
    "ernie4_5": config("ernie4_5"),
    "exaone4": config("exaone4"),
    "glm": config("glm", head_dim=8),
    "glm4": config("glm4", head_dim=8),
    "gpt_neox": config("gpt_neox"),
    "helium": config("helium", head_dim=8),
    "hunyuan": config("hunyuan_v1_dense", head_dim=8),
    "ministral": config("ministral", head_dim=8, **WINDOW),
    "ministral3": config("ministral3"),
    "nemotron": config("nemotron"),
    "olmo": config("olmo"),
    "olmo-clipped": config("olmo", clip_qkv=0.5),
    "olmo3": config("olmo3", **WINDOW),
    "persimmon": config("persimmon"),
    "phi": config("phi", partial_rotary_factor=0.5),
    "seed_oss": config("seed_oss"),
    "stablelm": config("stablelm"),
    "starcoder2": config("starcoder2"),
    "vaultgemma": config("vaultgemma", **GEMMA),
}
"""Those that the same mechanisms reach."""
