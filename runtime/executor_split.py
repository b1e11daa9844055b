"""Kernels of the splits of `dcom`: channels and tokens of activations that stay exact, apart from what is left.

Arrays are the back end's. What a prompt's scores choose, a few numbers, is chosen in NumPy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import ml_dtypes
import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime.executor_arrays import FLOAT, Array, Arrays, Value, column_squares, split_columns
from runtime.executor_block import Builder, Host, Kernel, element_dtype, failure
from runtime.lanczos import Factored

Decompose: TypeAlias = Callable[[dcom.DecomposeOp, Value], Factored]
"""Takes a decomposition and its input in M whole blocks of T rows, [M*T, H]; returns the factors of each."""

Site: TypeAlias = dcom.OutlierSplitOp | dcom.TokenSplitOp | dcom.DecomposeOp | dcom.ProjectOp


class DcomHost(Host, Protocol):
    """The host as these kernels see it."""

    decompose: Decompose
    """In the back end's arrays."""
    valid_rows: Sequence[int] | None


@dataclass(frozen=True)
class Outliers:
    """The channels of each prompt that are kept exact."""

    values: Value
    """[B*S, C]; a slot that holds no channel is zero."""
    indices: Value
    """[B, C] int64, the channel in each slot."""


@dataclass(frozen=True)
class Tokens:
    """The rows of each prompt that are kept exact."""

    values: Value
    """[B, C, H]; a slot that holds no row is zero."""
    indices: Value
    """[B, C] int64, the row in each slot."""


def prompts_of(op: Site, x: Value, batch: int, host: DcomHost) -> Value:
    """`x` as [B, S, H], with the rows of padding zero."""
    arrays, valid = host.arrays, host.valid_rows
    prompts = x.reshape(batch, -1, x.shape[-1])
    if isinstance(op.input.owner, dcom.OutlierSplitOp | dcom.TokenSplitOp):  # which has done all of this
        return prompts
    rows = prompts.shape[1]
    if valid is not None and any(count < rows for count in valid):
        if len(valid) != batch:
            raise failure(op, f"{len(valid)} numbers of valid rows are given for {batch} prompts")
        inside = np.zeros((batch, rows, 1), np.bool_)
        for prompt, count in zip(inside, valid, strict=True):
            prompt[:count] = True
        prompts = _kept(op, prompts, inside, arrays)
    return prompts


def check_finite(op: Site, prompts: Value, scores: Array | None, arrays: Arrays) -> None:
    """Check that numbers are finite.

    Args:
        scores: what is not finite where a number is not; the sum of all unless given.

    Raises:
        DcomError: a NaN or an infinity.
    """
    if isinstance(op.input.owner, dcom.OutlierSplitOp | dcom.TokenSplitOp):  # which has done this
        return
    totals = arrays.to_numpy(arrays.fold(np.add)(prompts, (0, 1, 2))) if scores is None else scores
    if not np.isfinite(totals).all():  # or they are too large, of numbers that are not
        finite = arrays.to_numpy(arrays.function(np.isfinite)(prompts))
        if not finite.all():
            what = "NaN" if np.isnan(arrays.to_numpy(prompts)).any() else "infinity"
            raise failure(op, f"{what} in the activations of layer {op.layer.value.data}, site {op.site.data}")


def _kept(op: Operation, x: Value, where: Array, arrays: Arrays) -> Value:
    """`x` where it is to be kept, and zero elsewhere."""
    zero = arrays.from_numpy(element_dtype(op.operands[0].type, op).type(0))
    return arrays.function(np.where)(arrays.from_numpy(where), x, zero)


def exact_channels(op: dcom.OutlierSplitOp, host: DcomHost) -> Callable[[Value, Value | None], tuple[Value, Value]]:
    """A function that chooses the exact channels of prompts [B, S, H], given the sums of squares of channels [B, H].

    These are computed where they are None. It gives the channels in each slot [B, C], and how many slots of each
    prompt, the first, hold one [B].
    """
    batch, _, cols = op.outliers.type.dimensions
    capacity, arrays = op.capacity.value.data, host.arrays
    threshold = None if op.threshold is None else arrays.from_numpy(np.float32(op.threshold.value.data))
    cutoff = 0 if op.min_count is None else op.min_count.value.data - 1
    magnitude, above = arrays.function(np.abs), arrays.function(np.greater)

    def counts(prompts: Value) -> Value:
        """How many numbers of each channel are above the threshold [B, H]: part by part, as in `column_squares`."""
        rows = prompts.shape[1]
        step = rows if arrays.part is None else max(arrays.part // (batch * cols), 1)
        total = arrays.from_numpy(FLOAT.type(0))
        for start in range(0, rows, step):
            exact = arrays.cast(prompts[:, start : start + step], FLOAT)
            total = total + arrays.fold(np.add)(arrays.cast(above(magnitude(exact), threshold), FLOAT), (1,))
        return total

    def choose(prompts: Value, squares: Value | None) -> tuple[Value, Value]:
        if threshold is not None:
            scores = arrays.to_numpy(counts(prompts))
        else:
            scores = arrays.to_numpy(arrays.function(column_squares)(prompts) if squares is None else squares)
        check_finite(op, prompts, scores if threshold is None else None, arrays)
        indices, chosen = _choose(scores, capacity, cutoff)
        return arrays.from_numpy(indices), arrays.from_numpy(chosen.sum(1))

    return choose


def _outlier_split(op: dcom.OutlierSplitOp, host: DcomHost) -> Kernel:
    choose, split = exact_channels(op, host), host.arrays.function(split_columns)

    def kernel(x: Value) -> tuple[Value, Outliers]:
        prompts = prompts_of(op, x, op.outliers.type.dimensions[0], host)
        indices, counts = choose(prompts, None)
        values, dense = split(prompts, indices, counts)
        return dense.reshape(x.shape), Outliers(values.reshape(-1, indices.shape[1]), indices)

    return kernel


def _choose(scores: Array, capacity: int, cutoff: float) -> tuple[Array, Array]:
    """Of scores [B, N] the indices of the highest above the cutoff [B, C], 0 in empty slots, and which slots are used.

    Highest score first; a stable sort leaves the lower index first among equals.
    """
    order = np.argsort(-scores, 1, kind="stable")[:, :capacity]
    chosen = np.take_along_axis(scores, order, 1) > cutoff
    return np.where(chosen, order, 0), chosen


def _not_chosen(indices: Array, chosen: Array, size: int) -> Array:
    """[B, size] bool: false at the indices of slots that hold something."""
    keep = np.ones((len(indices), size), np.bool_)
    for row, places, used in zip(keep, indices, chosen, strict=True):
        row[places[used]] = False
    return keep


def _token_split(op: dcom.TokenSplitOp, host: DcomHost) -> Kernel:
    batch, rows, _ = op.tokens.type.dimensions
    capacity, arrays = op.capacity.value.data, host.arrays
    take = arrays.function(np.take_along_axis)

    def kernel(x: Value, *like: Tokens) -> tuple[Value, Tokens]:
        prompts = prompts_of(op, x, batch, host)
        if like:
            check_finite(op, prompts, None, arrays)
            indices = arrays.to_numpy(like[0].indices)
            chosen = arrays.to_numpy(energies(like[0].values, arrays)) > 0
        else:
            scores = arrays.to_numpy(energies(prompts, arrays))
            check_finite(op, prompts, scores, arrays)
            indices, chosen = _choose(scores.astype(ml_dtypes.bfloat16).astype(FLOAT), capacity, 0)
        places = arrays.from_numpy(indices)
        values = _kept(op, take(prompts, places[:, :, None], 1), chosen[:, :, None], arrays)
        dense = _kept(op, prompts, _not_chosen(indices, chosen, rows)[:, :, None], arrays)
        return dense.reshape(x.shape), Tokens(values, places)

    return kernel


def energies(x: Value, arrays: Arrays) -> Value:
    """The sum of squares over the last axis, float32."""
    exact = arrays.cast(x, FLOAT)
    return arrays.fold(np.add)(exact * exact, (exact.ndim - 1,))


BUILDERS: dict[type[Operation], Builder] = {
    dcom.OutlierSplitOp: cast(Builder, _outlier_split),
    dcom.TokenSplitOp: cast(Builder, _token_split),
}
"""The operations that split activations."""
