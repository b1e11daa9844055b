"""Causal attention in torch on the CPU: a block of queries after another, each by one kernel of our own.

torch's own fused attention multiplies by MKL, or by narrow vectors: on AMD's processors it takes from twice to four
times as long, on Intel's about as long, but for bfloat16 where these multiply whole tiles of it (`torch_is_faster`).
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import torch

Tensor = torch.Tensor

LEAST_TOKENS = 512
"""Tokens below which torch's own attention is as fast."""

_QUERIES = 512
"""Queries of a call of the kernel."""


@cache
def torch_is_faster(dtype: torch.dtype) -> bool:
    """Whether torch's own attention on the CPU is the faster one for queries, keys and values of this type.

    That is so where it multiplies tiles of bfloat16 (AMX): it takes a fifth of this one's time there.
    """
    return dtype == torch.bfloat16 and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def blocked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    window: int | None,
    run: Callable[[Callable[[int], None], Iterable[int]], None],
) -> Tensor:
    """See `executor_arrays.Attention`; [B, S, G, R, D] float32.

    Scores, softmax and all sums are float32. Where all are bfloat16, so is what the values are multiplied by, as in
    libraries.

    Args:
        run: calls a function with each of some numbers, on all cores.
    """
    from runtime import attention_kernel as kernel  # and numba, only where prompts are long

    batch, groups, shared, tokens, width = q.shape
    pairs = {x.dtype for x in (q, k, v)} == {torch.bfloat16} and kernel.multiplies_bfloat16()
    queries, heads, mixed = (x.view(torch.uint16).numpy() if pairs else x.float().numpy() for x in (q, k, v))
    group, panels = 1 + pairs, -(-tokens // kernel.COLUMNS)
    shapes = (panels, -(-width // group)), (-(-v.shape[-1] // kernel.COLUMNS), panels * kernel.COLUMNS // group)
    kind = np.uint32 if pairs else np.float32
    keys, values = (np.zeros((batch, groups, *shape, kernel.COLUMNS), kind) for shape in shapes)
    result = torch.empty(batch, tokens, groups, shared, v.shape[-1])
    out, parts = result.numpy(), -(-tokens // _QUERIES)

    def pack(number: int) -> None:
        place = divmod(number, groups)
        kernel.pack_keys(heads[place], keys[place])
        kernel.pack_values(mixed[place], values[place])

    def attend(number: int) -> None:
        rest, part = divmod(number, parts)
        head, share = divmod(rest, shared)
        prompt, group = divmod(head, groups)
        given = queries[prompt, group, share], keys[prompt, group], values[prompt, group], out[prompt, :, group, share]
        start = part * _QUERIES
        kernel.attend(*given, np.float32(scale), window or tokens, start, min(start + _QUERIES, tokens))

    run(pack, range(batch * groups))
    run(attend, range(batch * groups * shared * parts))
    return result
