"""The machine's arithmetic in NumPy: sums in the order of its trees, and how numbers are rounded."""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from runtime.operands import PIECES_DROP, Values

Single = NDArray[np.float32]


def tree(terms: Single) -> Single:
    """Sum over the last axis by a binary tree of binary32 additions; an odd last term passes through a level."""
    while terms.shape[-1] > 1:
        pairs = terms.shape[-1] // 2
        sums = terms[..., 0 : 2 * pairs : 2] + terms[..., 1 : 2 * pairs : 2]
        terms = np.concatenate((sums, terms[..., 2 * pairs :]), axis=-1)
    return terms[..., 0]


def line_sum(terms: Single) -> Single:
    """Sum over the last axis, one after another from each end to the middle; the first half is the larger."""
    middle = (terms.shape[-1] + 1) // 2
    first, last = (np.moveaxis(half, -1, 0) for half in (terms[..., :middle], terms[..., : middle - 1 : -1]))
    total = reduce(np.add, first)
    return total + reduce(np.add, last) if len(last) else total


def to_half(values: Single) -> NDArray[np.float16]:
    """Round to binary16, to nearest even; a NaN becomes 0x7E00."""
    halves = values.astype(np.float16)
    halves.view(np.uint16)[np.isnan(values)] = 0x7E00
    return halves


def with_one_nan(values: Single) -> Single:
    """The same numbers, and 0x7FC00000 for every NaN."""
    return np.where(np.isnan(values), np.uint32(0x7FC00000).view(np.float32), values)


def in_pieces(values: Single, v: Values) -> Single:
    """Binary32 factors rounded to the `pieces` of an instruction, to nearest even."""
    dropped = PIECES_DROP[int(v["pieces"])]
    if not dropped:
        return values
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = bits + ((1 << dropped - 1) - 1 + (bits >> dropped & 1)) >> dropped << dropped
    return np.where(np.isnan(values), values, rounded.astype(np.uint32).view(np.float32))


def chunk_sums(terms: Single, lanes: int) -> Single:
    """Sum over the last axis: a tree for each chunk of the array's multipliers, chunks in order from zero."""
    padding = -terms.shape[-1] % lanes
    padded = np.pad(terms, [(0, 0)] * (terms.ndim - 1) + [(0, padding)])
    total = np.zeros(terms.shape[:-1], np.float32)
    for chunk in np.split(padded, padded.shape[-1] // lanes, axis=-1) if padded.shape[-1] else []:
        total += tree(chunk)
    return total
