"""The executor's torch back end: whole-array operations on the CPU or a GPU, with the library's fused attention."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from dcomc.diagnostics import DcomError
from runtime import columns, lanczos_torch
from runtime import executor_scalar as scalar
from runtime.attention_torch import LEAST_TOKENS, blocked_attention, torch_is_faster
from runtime.executor_arrays import (
    FLOAT,
    Array,
    Attention,
    Function,
    Loops,
    Value,
    add_rows,
    column_squares,
    scale_rows,
    split_columns,
    take_columns,
    take_rows,
)
from runtime.lanczos import Factored
from runtime.loops import Nest
from runtime.loops_torch import compiled_loops
from runtime.matmul_torch import fast_bfloat16, matmul

Tensor = torch.Tensor

T = TypeVar("T")

# Large tensors in huge pages, where the system gives them: a new one of 64 MB then takes 600 page faults, not 16,000.
# torch asks for this at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

_DTYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.float16): torch.float16,
    _BFLOAT16: torch.bfloat16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.int8): torch.int8,
    np.dtype(np.int16): torch.int16,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.bool_): torch.bool,
}


def _expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x[tuple(None if axis in axes else slice(None) for axis in range(x.ndim + len(axes)))]


def _take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    return x.index_select(axis, index)


def _sum(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.sum(axes, dtype=x.dtype)


def _add_rows(rows: int, indices: Tensor, values: Tensor) -> Tensor:
    result = values.new_zeros(len(values), rows, values.shape[-1])
    for prompt, places, added in zip(result, indices, values, strict=True):
        prompt.index_add_(0, places, added)
    return result


def _column_squares(x: Tensor) -> Tensor:
    if _has_kernels(x):
        return torch.from_numpy(columns.column_squares(lanczos_torch.bits(x), torch.get_num_threads()))
    return x.float().square().sum(1)


def _take_rows(x: Tensor, indices: Tensor) -> Tensor:
    if not x.mT.is_contiguous():
        return x[indices]
    # A weight lies as its transpose: each row of that is read once, from one end to the other.
    if _has_kernels(x.mT):
        taken = x.new_empty(*indices.shape, x.shape[1])
        rows = lanczos_torch.bits(taken).reshape(-1, x.shape[1])
        columns.take_columns(lanczos_torch.bits(x.mT), indices.flatten().numpy(), rows, torch.get_num_threads())
        return taken
    places, order = indices.flatten().sort()
    return x.mT.index_select(1, places).mT.index_select(0, order.argsort()).reshape(*indices.shape, -1)


def _scale_rows(core: Tensor, v: Tensor) -> Tensor:
    diagonal = core.diagonal(dim1=1, dim2=2)
    if core.device.type != "cpu" or core.count_nonzero() != diagonal.count_nonzero():
        return matmul(core, v.float())
    if v.dtype == torch.bfloat16 and not (core.requires_grad or v.requires_grad):
        return torch.mul(diagonal[:, :, None], v, out=torch.empty_like(v))
    return diagonal[:, :, None] * v.float()


def _take_columns(x: Tensor, indices: Tensor, counts: Tensor) -> Tensor:
    if _has_kernels(x):
        values = x.new_zeros(*x.shape[:2], indices.shape[1])
        for prompt, taken, places, count in zip(*map(lanczos_torch.bits, (x, values)), indices, counts, strict=True):
            columns.take_columns(prompt, places[:count].numpy(), taken[:, :count].T, torch.get_num_threads())
        return values
    used = torch.arange(indices.shape[1], device=x.device) < counts[:, None]
    return torch.where(used[:, None], torch.take_along_dim(x, indices[:, None], 2), 0)


def _split_columns(x: Tensor, indices: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    rest = x.clone()
    for prompt, (places, count) in enumerate(zip(indices, counts, strict=True)):
        rest[prompt, :, places[:count]] = 0
    return _take_columns(x, indices, counts), rest


def _has_kernels(x: Tensor) -> bool:
    """Whether the kernels of `runtime.columns` are for it."""
    return x.dtype in (torch.float32, torch.bfloat16) and not x.requires_grad and lanczos_torch.is_large(x)


_FUNCTIONS: dict[Function, Function] = {
    add_rows: _add_rows,
    column_squares: _column_squares,
    scale_rows: _scale_rows,
    split_columns: _split_columns,
    take_columns: _take_columns,
    take_rows: _take_rows,
    np.add: torch.add,
    np.subtract: torch.subtract,
    np.multiply: torch.multiply,
    np.divide: torch.divide,
    np.negative: torch.negative,
    np.abs: torch.abs,
    np.maximum: torch.maximum,
    np.minimum: torch.minimum,
    np.fmax: torch.fmax,
    np.fmin: torch.fmin,
    np.ceil: torch.ceil,
    np.floor: torch.floor,
    np.trunc: torch.trunc,
    np.rint: torch.round,
    np.sqrt: torch.sqrt,
    np.exp: torch.exp,
    np.exp2: torch.exp2,
    np.expm1: torch.expm1,
    np.log: torch.log,
    np.log1p: torch.log1p,
    np.log2: torch.log2,
    np.log10: torch.log10,
    np.power: torch.pow,
    np.sin: torch.sin,
    np.cos: torch.cos,
    np.tan: torch.tan,
    np.tanh: torch.tanh,
    scalar.rsqrt: torch.rsqrt,
    scalar.erf: torch.erf,
    scalar.silu: torch.nn.functional.silu,
    scalar.select: torch.where,
    np.equal: torch.eq,
    np.not_equal: torch.ne,
    np.less: torch.lt,
    np.less_equal: torch.le,
    np.greater: torch.gt,
    np.greater_equal: torch.ge,
    np.bitwise_and: torch.bitwise_and,
    np.bitwise_or: torch.bitwise_or,
    np.bitwise_xor: torch.bitwise_xor,
    np.broadcast_to: torch.broadcast_to,
    np.concatenate: torch.concatenate,
    np.copy: torch.clone,
    np.expand_dims: _expand_dims,
    np.isfinite: torch.isfinite,
    np.matmul: matmul,
    np.repeat: torch.repeat_interleave,
    np.squeeze: torch.squeeze,
    np.take: _take,
    np.take_along_axis: torch.take_along_dim,
    np.where: torch.where,
    np.transpose: torch.permute,
}
"""NumPy's functions in torch. Any other function runs in NumPy, on a copy where the tensors are on a GPU."""

_FOLDS: dict[np.ufunc, Function] = {
    np.add: _sum,
    np.maximum: torch.amax,
    np.minimum: torch.amin,
}


@cache
def _pool() -> ThreadPoolExecutor:
    """A thread for each core, in which torch itself uses one: parts of a map need no barrier after each operation."""
    count = torch.get_num_threads()
    barrier = Barrier(count)

    def start() -> None:
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(count, "torch")
    for future in [pool.submit(start) for _ in range(count)]:
        future.result()
    torch.set_num_threads(count)
    return pool


def _on_all_cores(work: Callable[[T], None], parts: Iterable[T]) -> None:
    mode = torch.is_inference_mode_enabled()

    def in_mode(part: T) -> None:
        with torch.inference_mode(mode):
            work(part)

    for _ in _pool().map(in_mode, parts):
        pass


class TorchArrays:
    """Tensors on one device. Scalars are tensors of no dimensions."""

    part: int | None
    attention: Attention | None

    def __init__(self, device: str = "cpu", part: int | None = 1 << 20) -> None:
        """Compute on `device`; on the CPU large maps are cut into parts of so many elements (a few MB each).

        Raises:
            DcomError: torch has no such device here.
        """
        try:
            self.device = torch.device(device)
            torch.ones(1, device=self.device).cpu()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DcomError(f"torch cannot compute on '{device}': {reason}", hint="cpu works everywhere") from error
        self.attention = self._attention
        self.part = part if self.device.type == "cpu" else None
        self._weights: dict[str, Tensor] = {}

    def from_numpy(self, x: Value) -> Tensor:
        if isinstance(x, Tensor):
            return x
        array: Array = np.asarray(x)
        if array.ndim and array.size and not any(array.strides):
            return self.from_numpy(array.flat[0]).expand(array.shape)
        if any(stride < 0 for stride in array.strides):
            array = array.copy()
        half = array.dtype == _BFLOAT16
        with warnings.catch_warnings():
            # A mapped file may not be written, and no value of the executor ever is.
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
            tensor = torch.from_numpy(array.view(np.int16) if half else array)
        return (tensor.view(torch.bfloat16) if half else tensor).to(self.device)

    def to_numpy(self, x: Value) -> Value:
        if not isinstance(x, Tensor):
            return x
        if x.dtype == torch.bfloat16:
            return x.cpu().view(torch.int16).numpy().view(_BFLOAT16)
        return x.cpu().numpy()

    def weight(self, name: str, x: Array, dtype: np.dtype[Any]) -> Tensor:
        """On a GPU weights stay where they are used; on the CPU they are views of the file, or cast anew in a run."""
        if name in self._weights:
            return self._weights[name]
        tensor = self.cast(self.from_numpy(x), dtype)
        if self.device.type != "cpu":
            self._weights[name] = tensor
        return tensor

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Tensor:
        return torch.empty(tuple(shape), dtype=_DTYPES[dtype], device=self.device)

    def for_each(self, work: Callable[[slice], None], parts: Sequence[slice]) -> None:
        _on_all_cores(work, parts)

    def cast(self, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
        return x.to(_DTYPES[dtype])

    def function(self, function: Function) -> Function:
        if function in _FUNCTIONS:
            return _FUNCTIONS[function]

        def in_numpy(*operands: Value) -> Tensor:
            return self.from_numpy(function(*map(self.to_numpy, operands)))

        return in_numpy

    def fold(self, combine: np.ufunc) -> Function:
        if combine in _FOLDS:
            return _FOLDS[combine]

        def fold(x: Tensor, axes: tuple[int, ...]) -> Tensor:
            array: Array = self.to_numpy(x)
            return self.from_numpy(combine.reduce(array, axes, array.dtype))

        return fold

    def product(self, a: Tensor, b: Tensor, dtype: np.dtype[Any]) -> Tensor:
        """Where all are of one type of 16 bits, by the library's own kernel, which sums in float32.

        So, too, where the result is bfloat16, or one operand is and the other is wider: the wider one is rounded before
        and the product after, a float32 result, too, which costs about what the rounding of a bfloat16 result does.
        (Float32 takes twice the time, and four times where a weight has to be widened first.)
        """
        wanted, half = _DTYPES[dtype], torch.bfloat16
        rounded = half in (wanted, a.dtype, b.dtype) and not (a.dtype == b.dtype == half != wanted)
        if rounded and fast_bfloat16(self.device.type):
            a, b = a.to(half), b.to(half)
        elif not a.dtype == b.dtype == wanted:
            a, b = self.cast(a, FLOAT), self.cast(b, FLOAT)
        return matmul(a, b).to(wanted)

    def loops(self, nest: Nest) -> Loops | None:
        return compiled_loops(nest) if self.device.type == "cpu" else None

    def lanczos(self, x: Value, batch: int, rank: int, iterations: int, **options: Any) -> Factored:
        return lanczos_torch.decompose(self.from_numpy(x), batch, rank, iterations, **options)

    def kernel(self, kernel: Callable[..., Sequence[Value]]) -> Callable[..., Sequence[Value]]:
        def run(*operands: Value) -> list[Value]:
            results = kernel(*map(self.to_numpy, operands))
            return [self.from_numpy(x) if isinstance(x, np.ndarray | np.generic) else x for x in results]

        return run

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """See `executor_arrays.Attention`; the probabilities are rounded to the element type of v, as libraries do.

        So is the result, of types of 16 bits, where it is torch's.
        """
        batch, groups, shared, tokens, width = q.shape
        if scale <= 0:  # which torch's takes on no CPU
            q, scale = (-q, -scale) if scale else (q * 0, 1.0)
        window = None if window is None or window >= tokens else window
        differentiable = any(x.requires_grad for x in (q, k, v))
        # torch's computes what a window leaves out, too.
        fits = window is None and v.shape[-1] == width and torch_is_faster(q.dtype)
        if self.device.type == "cpu" and tokens >= LEAST_TOKENS and not (differentiable or fits):
            return blocked_attention(q, k, v, scale, window, _on_all_cores)
        seen = None
        if window is not None:
            place = torch.arange(tokens, device=self.device)
            distance = place[:, None] - place
            seen = (distance >= 0) & (distance < window)
        result = scaled_dot_product_attention(
            q.reshape(batch, groups * shared, tokens, width),
            k,
            v,
            attn_mask=seen,
            is_causal=seen is None,
            scale=scale,
            enable_gqa=shared > 1,
        )
        return result.transpose(1, 2).reshape(batch, tokens, groups, shared, -1).float()
