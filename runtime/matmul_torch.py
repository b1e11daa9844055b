"""Products of matrices in torch, by the fastest library that it has for them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

Tensor = torch.Tensor

_LINEAR: Callable[..., Any] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's `x @ w.T`, of x [M, K] and w [N, K], where torch is built with it."""

_LEAST_WORK = 1 << 18
"""Multiplications below which a product by oneDNN gains nothing."""


_MANY_ROWS = 256


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`; large matrices of float32 or bfloat16 on the CPU by oneDNN.

    It multiplies with the widest vectors that the processor has. MKL, which torch itself takes of float32, does so on
    Intel's only: on another make's, with AVX-512, it takes twice the time; on Intel's it takes a tenth less of many
    rows, and two to three times as long of ten. Of few rows of bfloat16 torch takes neither.
    """
    if a.ndim == 3 and (b.ndim == 2 or (b.ndim == 3 and len(b) == 1)):
        count, rows, inner = a.shape
        return matmul(a.reshape(count * rows, inner), b.reshape(b.shape[-2:])).reshape(count, rows, b.shape[-1])
    known = a.dtype == b.dtype and (a.dtype == torch.float32 or (a.dtype == torch.bfloat16 and fast_bfloat16("cpu")))
    plain = a.ndim == b.ndim == 2 and known and a.device.type == "cpu"
    if _LINEAR is None or not plain or a.requires_grad or b.requires_grad or a.numel() * b.shape[1] < _LEAST_WORK:
        return torch.matmul(a, b)
    if a.dtype == torch.float32 and len(a) >= _MANY_ROWS and _suits_mkl():
        return torch.matmul(a, b)
    # Of a view that leaves out parts of rows it multiplies element by element, 2,000 times as slowly.
    return _LINEAR(a, (b if b.is_contiguous() or b.mT.is_contiguous() else b.contiguous()).mT, None, "none", [], "")


@cache
def _suits_mkl() -> bool:
    """Whether this processor is of the make that MKL is for, and torch built with it."""
    return torch.backends.mkl.is_available() and str(torch.cpu.get_capabilities().get("cpu_name")).startswith("Intel")


@cache
def fast_bfloat16(device: str) -> bool:
    """Whether a kind of device multiplies bfloat16 faster than float32."""
    return device != "cpu" or (_LINEAR is not None and torch.ops.mkldnn._is_mkldnn_bf16_supported())
