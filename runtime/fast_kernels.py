"""Compiled kernels of the fast engine over planar buffers, [16-bit word][cluster]; addresses are in words.

Every sum is in the order of `runtime.reference`, so that the bits are the same. Compiled code is cached on disk.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from runtime.fast_words import load_half, load_single, store_half, store_single, tree_of_halves

Words = NDArray[np.uint16]
Single = NDArray[np.float32]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile on the first call, without the interpreter's lock, and keep the code; the bits are IEEE's."""
    return cast(Kernel, njit(nogil=True, cache=True, fastmath=False, error_model="numpy")(kernel))


@cache
def matvec(rows: int, cols: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Row and column matvec for tiles of rows x cols: kernel(words, y, a, x, tile_rows, tile_cols, accumulate)."""

    @compiled
    def row(words: Words, y: int, a: int, x: int, tile_rows: int, tile_cols: int, accumulate: bool) -> None:
        clusters = words.shape[1]
        total = np.empty(clusters, np.float32)
        for r in range(tile_rows):
            for i in range(rows):
                out = y + 2 * (r * rows + i)
                for n in range(clusters):
                    total[n] = load_single(words, out, n) if accumulate else np.float32(0)
                for c in range(tile_cols):
                    base = a + ((r * tile_cols + c) * rows + i) * cols
                    for n in range(clusters):
                        total[n] += tree_of_halves(words, base, 1, x + c * cols, n, cols)
                for n in range(clusters):
                    store_single(words, out, n, total[n])

    @compiled
    def column(words: Words, y: int, a: int, x: int, tile_rows: int, tile_cols: int, accumulate: bool) -> None:
        clusters = words.shape[1]
        total = np.empty((tile_cols * cols, clusters), np.float32)
        for j in range(tile_cols * cols):
            for n in range(clusters):
                total[j, n] = load_single(words, y + 2 * j, n) if accumulate else np.float32(0)
        for r in range(tile_rows):
            for c in range(tile_cols):
                for j in range(cols):
                    base = a + (r * tile_cols + c) * rows * cols + j
                    for n in range(clusters):
                        total[c * cols + j, n] += tree_of_halves(words, base, cols, x + r * rows, n, rows)
        for j in range(tile_cols * cols):
            for n in range(clusters):
                store_single(words, y + 2 * j, n, total[j, n])

    return row, column


@compiled
def _chunk_tree(terms: Single, out: int, total: Single) -> None:
    """total[out] += the tree of all rows of `terms`, which is overwritten."""
    count, clusters = terms.shape
    while count > 1:
        for i in range(count // 2):
            for n in range(clusters):
                terms[i, n] = terms[2 * i, n] + terms[2 * i + 1, n]
        if count % 2:
            for n in range(clusters):
                terms[count // 2, n] = terms[count - 1, n]
        count = (count + 1) // 2
    for n in range(clusters):
        total[out, n] += terms[0, n]


@compiled
def dots(words: Words, d: int, basis: int, x: int, count: int, length: int, lanes: int) -> None:
    clusters = words.shape[1]
    total = np.zeros((count, clusters), np.float32)
    terms = np.empty((lanes, clusters), np.float32)
    for i in range(count):
        for start in range(0, length, lanes):
            for k in range(lanes):
                e = start + k
                for n in range(clusters):
                    terms[k, n] = (
                        load_half(words, basis + i * length + e, n) * load_single(words, x + 2 * e, n)
                        if e < length
                        else np.float32(0)
                    )
            _chunk_tree(terms, i, total)
    for i in range(count):
        for n in range(clusters):
            store_single(words, d + 2 * i, n, total[i, n])


@compiled
def norm2(words: Words, d: int, x: int, length: int, lanes: int) -> None:
    clusters = words.shape[1]
    total = np.zeros((1, clusters), np.float32)
    terms = np.empty((lanes, clusters), np.float32)
    for start in range(0, length, lanes):
        for k in range(lanes):
            e = start + k
            for n in range(clusters):
                value = load_single(words, x + 2 * e, n) if e < length else np.float32(0)
                terms[k, n] = value * value
        _chunk_tree(terms, 0, total)
    for n in range(clusters):
        store_single(words, d, n, total[0, n])


@compiled
def subtract(words: Words, x: int, basis: int, c: int, count: int, length: int) -> None:
    clusters = words.shape[1]
    value = np.empty(clusters, np.float32)
    for e in range(length):
        for n in range(clusters):
            value[n] = load_single(words, x + 2 * e, n)
        for i in range(count):
            for n in range(clusters):
                value[n] -= load_single(words, c + 2 * i, n) * load_half(words, basis + i * length + e, n)
        for n in range(clusters):
            store_single(words, x + 2 * e, n, value[n])


@compiled
def scale(words: Words, d: int, x: int, by: Single, length: int) -> None:
    for e in range(length):
        for n in range(words.shape[1]):
            store_half(words, d + e, n, load_single(words, x + 2 * e, n) * by[n])


@compiled
def load(words: Words, banks: Words, buffer: int, bank: int, stride: int, count: int, rows: int, cols: int) -> None:
    """Copy from banks [word, column] to the first rows x cols clusters; all in 16-bit words."""
    columns = banks.shape[1]
    for k in range(count):
        for r in range(rows):
            source = bank + r * stride + k
            for c in range(cols):
                words[buffer + k, r * columns + c] = banks[source, c]


@compiled
def store(words: Words, banks: Words, buffer: int, bank: int, stride: int, count: int, rows: int, cols: int) -> None:
    """Copy back; cluster rows in order, so that the last wins where they overlap."""
    columns = banks.shape[1]
    for r in range(rows):
        for k in range(count):
            target = bank + r * stride + k
            for c in range(cols):
                banks[target, c] = words[buffer + k, r * columns + c]


@compiled
def read_singles(words: Words, x: int, length: int) -> Single:
    """[length, clusters]"""
    values = np.empty((length, words.shape[1]), np.float32)
    for e in range(length):
        for n in range(words.shape[1]):
            values[e, n] = load_single(words, x + 2 * e, n)
    return values


@compiled
def write_singles(words: Words, x: int, values: Single) -> None:
    for e in range(values.shape[0]):
        for n in range(words.shape[1]):
            store_single(words, x + 2 * e, n, values[e, n])
