"""Products of matrices in torch, by the fastest library that it has for them."""

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor

_LINEAR: Callable[..., Any] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's `x @ w.T`, of x [M, K] and w [N, K], where torch is built with it."""

_LEAST_WORK = 1 << 18
"""Multiplications below which a product by oneDNN gains nothing."""


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`; large float32 matrices on the CPU by oneDNN.

    It multiplies with the widest vectors that the processor has. MKL, which torch itself takes, does so on Intel's
    only: on another make's, with AVX-512, it takes twice the time.
    """
    if a.ndim == 3 and (b.ndim == 2 or (b.ndim == 3 and len(b) == 1)):
        count, rows, inner = a.shape
        return matmul(a.reshape(count * rows, inner), b.reshape(b.shape[-2:])).reshape(count, rows, b.shape[-1])
    plain = a.ndim == b.ndim == 2 and a.dtype == b.dtype == torch.float32 and a.device.type == "cpu"
    if _LINEAR is None or not plain or a.requires_grad or b.requires_grad or a.numel() * b.shape[1] < _LEAST_WORK:
        return torch.matmul(a, b)
    return _LINEAR(a, b.mT, None, "none", [], "")
