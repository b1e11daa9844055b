"""Safetensors files: memory-mapped and read when asked for, and written whole or not at all."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from dcomc.diagnostics import DcomError, atomic_write, readable

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The types of the tensors that are read; a file may hold others, such as counters, beside them."""
_INDEX = "model.safetensors.index.json"


class SafetensorsWeights(Mapping[str, Array]):
    """The tensors of a file, or of a folder's safetensors files, by name.

    A value is a view of the mapped file, except that bfloat16, which NumPy lacks, is widened to float32 at each access.
    One that is no floating-point number of 16 bits or more raises `DcomError` there.

    Attributes:
        metadata: the texts that the files carry beside their tensors.

    Args:
        path: a safetensors file, or a folder that holds `model.safetensors`, or shards with their index.
        aliases: names of tied weights, each with the name under which the checkpoint holds it.
        hint: what to do about a damaged file.

    Raises:
        DcomError: no safetensors in the folder, or a file of them is missing, truncated or corrupt.
    """

    def __init__(
        self, path: Path, aliases: Mapping[str, str] | None = None, hint: str = "copy the checkpoint again"
    ) -> None:
        self._places: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
        self.metadata: dict[str, str] = {}
        for file in _files(path) if path.is_dir() else [path]:
            places, metadata = _read_header(file, hint)
            self._places.update(places)
            self.metadata.update(metadata)
        for alias, name in (aliases or {}).items():
            if alias not in self._places and name in self._places:
                self._places[alias] = self._places[name]
        self._maps: dict[Path, np.memmap[Any, np.dtype[np.uint8]]] = {}

    def __getitem__(self, name: str) -> Array:
        file, kind, shape, offset = self._places[name]
        if kind not in _DTYPES:
            hint = f"convert the checkpoint: weights are read as {', '.join(_DTYPES)}"
            raise DcomError(f"{name} in {readable(file)} is of element type {kind}", hint=hint)
        if file not in self._maps:
            self._maps[file] = np.memmap(file, dtype=np.uint8, mode="r")
        dtype = np.dtype(_DTYPES[kind])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        data = self._maps[file][offset : offset + size].view(dtype).reshape(shape)
        return (data.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else data

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the index's shards, or else all there are."""
    index = folder / _INDEX
    if index.is_file():
        try:
            shards = cast(dict[str, str], json.loads(index.read_text(encoding="utf-8"))["weight_map"])
            files = [folder / name for name in sorted(set(shards.values()))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DcomError(f"{index} is not an index of safetensors", hint="copy the checkpoint again") from error
        for file in files:
            if not file.is_file():
                raise DcomError(f"{folder} lacks the shard {file.name}", hint="copy the whole checkpoint")
        return files
    files = (
        [folder / "model.safetensors"]
        if (folder / "model.safetensors").is_file()
        else sorted(folder.glob("*.safetensors"))
    )
    if not files:
        raise DcomError(f"{folder} holds no weights", hint="dcomc reads safetensors: convert other checkpoints to them")
    return files


def write_safetensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write tensors of float16 or float32 in the order of their names, one after another.

    Raises:
        DcomError: the file cannot be written.
    """
    kinds = {np.dtype(text): kind for kind, text in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            file.write(np.ascontiguousarray(tensor).data)


def weight_digest(weight: Array) -> str:
    """The SHA-256 of a weight's shape and values, whatever floating-point type up to float32 they are stored in."""
    values = np.ascontiguousarray(weight, np.float32)
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()


def _read_header(file: Path, hint: str) -> tuple[dict[str, tuple[Path, str, tuple[int, ...], int]], dict[str, str]]:
    """Name to (file, element type, shape, offset) for each tensor of a file, and its metadata."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if 8 + length > size:
                raise ValueError("the header is cut off")
            header = cast(dict[str, dict[str, Any]], json.loads(stream.read(length)))
        places: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        for name, entry in header.items():
            start, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            kind, shape = str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"])
            wanted = (
                np.prod(shape, dtype=np.int64) * np.dtype(_DTYPES[kind]).itemsize if kind in _DTYPES else end - start
            )
            if not 8 + length <= start <= end <= size or end - start != wanted:
                raise ValueError(f"the data of {name} is cut off")
            places[name] = (file, kind, shape, start)
    except OSError as error:
        raise DcomError(f"cannot read {file}: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DcomError(f"{file} is not a valid safetensors file: {error}", hint=hint) from error
    return places, metadata


def weights_digest(weights: Mapping[str, Array]) -> str:
    """SHA-256 of names, element types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {weight.shape}\n".encode())
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
