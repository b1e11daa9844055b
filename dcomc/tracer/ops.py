"""Custom operators that torch.export keeps whole: RMSNorm, the rotary embedding and causal attention.

Each is its own reference: the body runs in eager mode, and `whole` compares it with a model's module or function
before it puts the operator in that one's place.
"""

import torch


@torch.library.custom_op("dcomc::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float, offset: float, late: bool) -> torch.Tensor:
    """x / sqrt(mean(x²) + epsilon) over the last dimension in float32, times offset + weight, weight being [H].

    The quotient is rounded to x's type before the product; or, with `late`, the product of float32 after it.
    """
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    if late:
        return (scaled * (offset + weight.float())).to(x.dtype)
    return (offset + weight if offset else weight) * scaled.to(x.dtype)


@rms_norm.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, epsilon: float, offset: float, late: bool) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("dcomc::rope_table", mutates_args=())
def rope_table(
    like: torch.Tensor, frequencies: list[float], scaling: float, function: str, dtype: torch.dtype
) -> torch.Tensor:
    """f(s · frequencies[i]) · scaling, [S, D], where f is `cos` or `sin`; `like` [B, S, …] gives S."""
    positions = torch.arange(like.shape[1], dtype=torch.float32, device=like.device)
    angles = positions[:, None] * torch.tensor(frequencies, dtype=torch.float32, device=like.device)
    return ((angles.cos() if function == "cos" else angles.sin()) * scaling).to(dtype)


@rope_table.register_fake
def _(like: torch.Tensor, frequencies: list[float], scaling: float, function: str, dtype: torch.dtype) -> torch.Tensor:
    return like.new_empty(like.shape[1], len(frequencies), dtype=dtype)


@torch.library.custom_op("dcomc::rope", mutates_args=())
def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """Rotate pairs of channels of x [B, heads, S, D] by the angles of the tables [S, P].

    The first 2P channels are rotated, in pairs (x[i], x[i + P]) or, if interleaved, (x[2i], x[2i + 1]); the rest is
    left as it is.
    """
    pairs = cos.shape[-1]
    if interleaved:
        low, high = x[..., : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    else:
        low, high = x[..., :pairs], x[..., pairs : 2 * pairs]
    rotated = low * cos - high * sin, high * cos + low * sin
    turned = torch.stack(rotated, -1).flatten(-2) if interleaved else torch.cat(rotated, -1)
    return torch.cat((turned, x[..., 2 * pairs :]), -1).to(x.dtype)


@rope.register_fake
def _(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    if x.shape[-1] < 2 * cos.shape[-1]:
        raise ValueError(f"a rotary embedding of {2 * cos.shape[-1]} of {x.shape[-1]} channels is not supported")
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("dcomc::attention", mutates_args=())
def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int, cap: float
) -> torch.Tensor:
    """Causal attention of query [B, heads, S, D] on key and value [B, groups, S, D]; the result is [B, S, heads, D].

    A token sees itself and the window − 1 tokens before it (all of them if `window` is 0). Scores s are scaled, and
    become cap · tanh(s / cap) if `cap` is not 0.
    """
    ratio, tokens = query.shape[1] // key.shape[1], query.shape[2]
    key, value = key.repeat_interleave(ratio, 1), value.repeat_interleave(ratio, 1)
    scores = query.float() @ key.float().mT * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (distance >= 0) & (distance < (window or tokens))
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return (weights @ value.float()).to(query.dtype).transpose(1, 2).contiguous()


@attention.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int, cap: float
) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    if heads % key.shape[1]:
        raise ValueError(f"{heads} query heads do not divide among {key.shape[1]} key and value heads")
    if key.shape[:3] != value.shape[:3] or key.shape[-1] != query.shape[-1]:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in (query, key, value))
        raise ValueError(f"query, key and value of attention do not fit: {shapes}")
    return query.new_empty(batch, tokens, heads, value.shape[-1])


@torch.library.custom_op("dcomc::other_attention", mutates_args=())
def other_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature: str) -> torch.Tensor:
    """Attention with a feature that has no lowering: it stands in the graph so that it is reported with the rest."""
    raise NotImplementedError(f"attention with {feature}")


@other_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature: str) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1])
