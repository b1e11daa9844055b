"""Causal attention in torch on the CPU, a block of queries after another, its products by oneDNN.

torch's own fused attention multiplies there by MKL, or by narrow vectors: from a few hundred tokens on it takes three
times as long as the same two products by oneDNN, which leave the scores of a block in the cache between them.
"""

from collections.abc import Callable, Iterable

import torch

from runtime.matmul_torch import matmul

Tensor = torch.Tensor

LEAST_TOKENS = 512
"""Tokens below which torch's own attention is as fast."""

_QUERIES = 256
"""Queries of a block, those of all heads that share a key together."""


def blocked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    window: int | None,
    run: Callable[[Callable[[int], None], Iterable[int]], None],
) -> Tensor:
    """See `executor_arrays.Attention`; [B, S, G, R, D] in the element type of v.

    Scores and softmax are float32. The probabilities are rounded to bfloat16 where v is of it, as libraries do.

    Args:
        run: calls a function with each of some numbers, on all cores.
    """
    batch, groups, shared, tokens, width = q.shape
    step = max(_QUERIES // shared, 1)
    place = torch.arange(step)
    future = place[:, None] < place
    result = v.new_empty(batch, tokens, groups, shared, v.shape[-1])
    blocks = -(-tokens // step)

    def work(number: int) -> None:
        rest, group = divmod(number, groups)
        prompt, block = divmod(rest, blocks)
        start = block * step
        end = min(start + step, tokens)
        first = 0 if window is None else max(start - window + 1, 0)
        count, keys = end - start, end - first
        queries = q[prompt, group, :, start:end].float() * scale
        scores = matmul(queries.reshape(shared * count, width), k[prompt, group, first:end].float().mT)
        scores = scores.view(shared, count, keys)
        scores[:, :, start - first :].masked_fill_(future[:count, :count], -torch.inf)
        if window is not None:
            past = torch.arange(first, end) <= torch.arange(start, end)[:, None] - window
            scores.masked_fill_(past, -torch.inf)
        shares = torch.softmax(scores, 2, out=scores).view(shared * count, keys)
        values = v[prompt, group, first:end]
        half = v.dtype == torch.bfloat16
        mixed = matmul(shares.bfloat16(), values) if half else matmul(shares, values.float())
        result[prompt, start:end, group] = mixed.view(shared, count, -1).transpose(0, 1)

    run(work, range(batch * blocks * groups))
    return result
