"""Activations for launches: from files, or made from a seed."""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, readable

Array = NDArray[Any]

SPECTRUM_RANK = 256
NOISE = 1e-3

# What NumPy and zipfile raise for damaged files: they trust sizes, methods and headers before checksums.
_DAMAGED = (
    ValueError,
    LookupError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def made_from_seed(rows: int, cols: int, *seeds: int) -> NDArray[np.float32]:
    """A matrix with a decaying spectrum: sum over i of g_i h_i^T / i, and a little noise; g, h and noise normal.

    Args:
        seeds: numbers that together seed the generator.

    Returns:
        [rows, cols] float32.
    """
    random = np.random.default_rng(seeds)
    terms = min(rows, cols, SPECTRUM_RANK)
    decay = (1 / np.arange(1, terms + 1)).astype(np.float32)
    left = random.standard_normal((rows, terms), np.float32) * decay
    right = random.standard_normal((terms, cols), np.float32)
    noise = random.standard_normal((rows, cols), np.float32)
    return (left @ right + NOISE * noise).astype(np.float32)


def read_array(path: str) -> Array:
    """A real matrix, or a batch of them, from an .npy file.

    Returns:
        [S, H] or [B, S, H], as stored.

    Raises:
        DcomError: no such file, no .npy, or not a finite real matrix.
    """
    arrays = load_arrays(path)
    if "" not in arrays:
        raise DcomError(f"{path} holds named arrays", hint="give it the ending .npz")
    return _check(arrays[""], path)


def read_archive(path: str) -> dict[str, Array]:
    """The matrices of an .npz file by name, such as `layer10.qkv`, each [prompts * S, H].

    Raises:
        DcomError: no such file, no .npz, or an entry that is no finite real matrix.
    """
    arrays = {name: _check(array, f"{path}, {name}") for name, array in load_arrays(path).items() if name}
    if not arrays:
        raise DcomError(f"{path} holds no named arrays", hint="give an .npz file with names like layer10.qkv")
    return _by_name(arrays)


def load_arrays(path: str) -> dict[str, Array]:
    """The arrays of a NumPy file by name; that of an .npy file has the name ""."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": cast(Array, loaded)}
        with loaded:
            return {str(name): np.asarray(loaded[name]) for name in loaded.files}
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror or error}", hint="give an .npy or .npz file") from error
    except _DAMAGED as error:
        raise DcomError(
            f"{path} is no NumPy file, or it is damaged", hint="save it by numpy.save or numpy.savez"
        ) from error


def given_activations(given: Mapping[str, Array] | Array | str | Path) -> tuple[dict[str, Array] | Array, str]:
    """Activations by launch, or one array for all, and what to call them in errors.

    Args:
        given: an array [S, H] or [B, S, H]; arrays by launch, such as `layer10.qkv`; or an .npy or .npz file of them.

    Raises:
        DcomError: a file that cannot be read, or an array that is no finite real matrix.
    """
    if isinstance(given, str | Path):
        return (read_archive if is_archive(str(given)) else read_array)(str(given)), readable(given)
    what = "the input"
    if isinstance(given, np.ndarray):
        return _check(given, what), what
    return _by_name({name: _check(array, f"{what}, {name}") for name, array in given.items()}), what


def _by_name(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Each array as [prompts * S, H]."""
    return {name: array.reshape(-1, array.shape[-1]) for name, array in arrays.items()}


def _check(array: Array, what: str) -> Array:
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or not array.size:
        raise DcomError(f"{what} is no real matrix", hint="give [rows, columns] or [prompts, rows, columns] of numbers")
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise DcomError(f"{what} has {array[place]} at {place}", hint="every value must be finite")
    return array


def is_archive(path: str) -> bool:
    """Whether a file name says .npz."""
    return Path(path).suffix == ".npz"


def to_half(arrays: Mapping[str, Array]) -> dict[str, NDArray[np.float16]]:
    """The arrays in binary16, as a program stores them; raises `DcomError` for a value that overflows it."""
    halves: dict[str, NDArray[np.float16]] = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            halves[name] = array.astype(np.float16)
        if not np.isfinite(halves[name]).all():
            raise DcomError(f"activations '{name}' overflow binary16", hint="scale them by a power of two")
    return halves
