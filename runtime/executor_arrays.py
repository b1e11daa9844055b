"""What the kernels of the executor ask of a library of arrays, its back end.

Kernels are written with NumPy's functions and element types. `arrays.function(np.add)` is that function in the back
end's library, and what a library lacks runs in NumPy: a kernel is written once. `reshape`, `shape`, `ndim` and indexing
are taken to be the same everywhere.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, cannot_import
from runtime import lanczos
from runtime.lanczos import Factored
from runtime.loops import Nest

Array: TypeAlias = NDArray[Any]

Value: TypeAlias = Any
"""An array of the back end (a scalar is one of no dimensions, or NumPy's scalar), or what a dcom type holds."""

Function: TypeAlias = Callable[..., Value]

BACKENDS = ("numpy", "torch")

Loops: TypeAlias = Callable[..., Sequence[Value] | None]
"""Takes the operands of a structured operation; gives its results, or None if the operands are not for it."""

FLOAT = np.dtype(np.float32)
"""What products are summed in."""


class Arrays(Protocol):
    """A library of arrays. Every value that a kernel gets or makes is one of its own, unless said otherwise."""

    part: int | None
    """Elements of a part of a large map or fold, so that its temporaries stay in the cache; None: all at once."""

    attention: "Attention | None"
    """The library's fused attention, where it has one."""

    def from_numpy(self, x: Value) -> Value:
        """A NumPy array or scalar as a value of this library, without a copy where that can be; its own as they are."""
        ...

    def to_numpy(self, x: Value) -> Value:
        """A value as a NumPy array, without a copy where that can be; anything else as it is."""
        ...

    def weight(self, name: str, x: Array, dtype: np.dtype[Any]) -> Value:
        """A weight, used again under the same name in each run."""
        ...

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Value:
        """An array to be filled."""
        ...

    def for_each(self, work: Callable[[slice], None], parts: Sequence[slice]) -> None:
        """Do the work for each part, on all cores."""
        ...

    def cast(self, x: Value, dtype: np.dtype[Any]) -> Value:
        """The value in another element type."""
        ...

    def function(self, function: Function) -> Function:
        """A NumPy function, or one made of NumPy functions, on values of this library."""
        ...

    def fold(self, combine: np.ufunc) -> Function:
        """`fold(x, axes)`: the reduction of the axes by an associative function, in the element type of x."""
        ...

    def product(self, a: Value, b: Value, dtype: np.dtype[Any]) -> Value:
        """`a @ b`, summed in float32 and rounded once to an element type."""
        ...

    def loops(self, nest: Nest) -> Loops | None:
        """The compiled code of a large structured operation, where there is any."""
        ...

    def lanczos(self, x: Value, batch: int, rank: int, iterations: int, **options: Any) -> Factored:
        """What `lanczos.decompose` does, with these options.

        A library with attention of its own also takes `prompts`, how many there are, and `without`: which columns of
        each prompt are taken as zero, as indices and counts of `take_columns`, given its `column_squares`.
        """
        ...

    def kernel(self, kernel: Callable[..., Sequence[Value]]) -> Callable[..., Sequence[Value]]:
        """A kernel that is written for NumPy alone, on values of this library."""
        ...


class Attention(Protocol):
    """softmax(scale q kᵀ) v, each query seeing the keys up to its own place."""

    def __call__(self, q: Value, k: Value, v: Value, scale: float, window: int | None) -> Value:
        """[B, S, G, R, D] float32 of q [B, G, R, S, D] and k, v [B, G, S, D]; R query heads share a key head.

        Args:
            window: the number of last keys that a query sees; all unless given.
        """
        ...


class NumpyArrays:
    """NumPy itself."""

    part: int | None
    attention: Attention | None = None

    def __init__(self, part: int | None = 1 << 16) -> None:
        """Cut large maps into parts of so many elements."""
        self.part = part

    def from_numpy(self, x: Value) -> Value:
        return x

    def to_numpy(self, x: Value) -> Value:
        return x

    def weight(self, name: str, x: Array, dtype: np.dtype[Any]) -> Value:
        return x.astype(dtype, copy=False)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        return np.empty(shape, dtype)

    def for_each(self, work: Callable[[slice], None], parts: Sequence[slice]) -> None:
        def quietly(part: slice) -> None:
            with np.errstate(all="ignore"):
                work(part)

        for _ in _pool().map(quietly, parts):
            pass

    def cast(self, x: Value, dtype: np.dtype[Any]) -> Value:
        return np.asarray(x).astype(dtype, copy=False)[()]

    def function(self, function: Function) -> Function:
        return function

    def fold(self, combine: np.ufunc) -> Function:
        def fold(x: Array, axes: tuple[int, ...]) -> Array:
            return combine.reduce(x, axes, x.dtype)

        return fold

    def product(self, a: Value, b: Value, dtype: np.dtype[Any]) -> Value:
        return self.cast(self.cast(a, FLOAT) @ self.cast(b, FLOAT), dtype)

    def loops(self, nest: Nest) -> Loops | None:
        return None

    def lanczos(self, x: Value, batch: int, rank: int, iterations: int, **options: Any) -> Factored:
        return lanczos.decompose(x, batch, rank, iterations, **options)

    def kernel(self, kernel: Callable[..., Sequence[Value]]) -> Callable[..., Sequence[Value]]:
        return kernel


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "arrays")


NUMPY = NumpyArrays()


def add_rows(rows: int, indices: Array, values: Array) -> Array:
    """[B, rows, N], zero but for the rows [B, C, N] that are added at indices [B, C]."""
    result = np.zeros((len(values), rows, values.shape[-1]), values.dtype)
    for prompt, places, added in zip(result, indices, values, strict=True):
        np.add.at(prompt, places, added)
    return result


def column_squares(x: Array) -> Array:
    """The sums of squares of the columns [B, H] of x [B, S, H], float32: part by part, which stay in the cache."""
    batch, rows, cols = x.shape
    total = np.zeros((batch, cols), FLOAT)
    step = max((1 << 16) // (batch * cols), 1)
    for start in range(0, rows, step):
        exact = x[:, start : start + step].astype(FLOAT)
        total += (exact * exact).sum(1)
    return total


def take_rows(x: Array, indices: Array) -> Array:
    """The rows [B, C, N] of x [K, N] at indices [B, C]."""
    return x[indices]


def scale_rows(core: Array, v: Array) -> Array:
    """core · v [M, R, N] of float32 core [M, R, R] and v [M, R, N]; a diagonal core, as most are, scales the rows.

    In float32; a back end may round it to the bfloat16 of v, to which a product would round it next.
    """
    diagonal, wide = core.diagonal(axis1=1, axis2=2), v.astype(FLOAT, copy=False)
    if np.count_nonzero(core) == np.count_nonzero(diagonal):
        return diagonal[:, :, None] * wide
    return core @ wide


def take_columns(x: Array, indices: Array, counts: Array) -> Array:
    """Columns [B, S, C] of x [B, S, H].

    Args:
        indices: [B, C] int64; of the columns of each prompt.
        counts: [B] int64; how many of these, the first, are meant. The others are zero.
    """
    used = np.less(np.arange(int(indices.shape[1])), counts[:, None])
    return np.where(used[:, None], np.take_along_axis(x, indices[:, None], 2), x.dtype.type(0))


def split_columns(x: Array, indices: Array, counts: Array) -> tuple[Array, Array]:
    """The columns of x [B, S, H] that `take_columns` gives, and x with zeros in their place."""
    rest = x.copy()
    for prompt, places, count in zip(rest, indices, counts, strict=True):
        prompt[:, places[:count]] = 0
    return take_columns(x, indices, counts), rest


def make_arrays(backend: str, device: str = "cpu") -> Arrays:
    """A back end by name.

    Args:
        backend: `numpy` or `torch`.
        device: where torch computes, such as `cpu` or `cuda:1`.

    Raises:
        DcomError: torch is not installed, or has no such device.
    """
    if backend == "numpy":
        if device != "cpu":
            raise DcomError(f"NumPy does not run on '{device}'", hint="leave out the device, or take torch")
        return NUMPY
    try:
        from runtime.executor_torch import TorchArrays
    except ImportError as error:
        raise cannot_import(error.name, "the torch back end", "model") from error
    return TorchArrays(device)
