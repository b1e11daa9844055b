"""Custom operators that torch.export keeps whole: RMSNorm, the rotary embedding and causal attention.

Each is its own reference: the body runs in eager mode, and `capture` compares it with a model's module before it
puts the operator in that module's place.
"""

import torch


@torch.library.custom_op("dcomc::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """x / sqrt(mean(x²) + epsilon) over the last dimension in float32, rounded to x's type, times weight [H]."""
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * scaled.to(x.dtype)


@rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("dcomc::rope_table", mutates_args=())
def rope_table(like: torch.Tensor, frequencies: list[float], scaling: float, function: str) -> torch.Tensor:
    """f(s · frequencies[i]) · scaling, [S, D/2], where f is `cos` or `sin`; `like` [B, S, H] gives S and the type."""
    positions = torch.arange(like.shape[1], dtype=torch.float32, device=like.device)
    angles = positions[:, None] * torch.tensor(frequencies, dtype=torch.float32, device=like.device)
    return ((angles.cos() if function == "cos" else angles.sin()) * scaling).to(like.dtype)


@rope_table.register_fake
def _(like: torch.Tensor, frequencies: list[float], scaling: float, function: str) -> torch.Tensor:
    return like.new_empty(like.shape[1], len(frequencies))


@torch.library.custom_op("dcomc::rope", mutates_args=())
def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (x[i], x[i + D/2]) of x [B, heads, S, D] by the angles of the tables [S, D/2]."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


@rope.register_fake
def _(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    if x.shape[-1] != 2 * cos.shape[-1]:
        raise ValueError(f"a rotary embedding of {2 * cos.shape[-1]} of {x.shape[-1]} channels is not supported")
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("dcomc::attention", mutates_args=())
def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention of query [B, heads, S, D] on key and value [B, groups, S, D]; the result is [B, S, heads, D]."""
    result = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=True
    )
    return result.transpose(1, 2).contiguous()


@attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    if heads % key.shape[1]:
        raise ValueError(f"{heads} query heads do not divide among {key.shape[1]} key and value heads")
    return query.new_empty(batch, tokens, heads, value.shape[-1])


@torch.library.custom_op("dcomc::other_attention", mutates_args=())
def other_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature: str) -> torch.Tensor:
    """Attention with a feature that has no lowering: it stands in the graph so that it is reported with the rest."""
    raise NotImplementedError(f"attention with {feature}")


@other_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature: str) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1])
