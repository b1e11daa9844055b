"""Text and rows out of local files and folders: plain text, JSON lines, perhaps packed with gzip, and data sets as
`datasets` of Hugging Face saves them (`save_to_disk`)."""

import gzip
import importlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from dcomc.diagnostics import DcomError, cannot_import

_ROWS = (".jsonl", ".jsonl.gz")
_TEXTS = (".txt", ".md")
_SAVED = "dataset_info.json"
"""A file that every data set saved by `datasets` has."""
_ENCODING = "utf-8-sig"
"""UTF-8, which may begin with a byte order mark."""


@dataclass(frozen=True)
class Document:
    """A text that stands on its own."""

    name: str
    """The file, and the line where a file holds several."""
    text: str


@dataclass(frozen=True)
class Row:
    """An object of a JSON lines file."""

    place: str
    """`file:line`, for errors."""
    values: dict[str, Any]

    def text(self, key: str) -> str:
        """A value that must be a text with something in it.

        Raises:
            DcomError: it is not.
        """
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            state = "is missing" if key not in self.values else f"is {json.dumps(value)[:40]}"
            raise DcomError(f"'{key}' {state}", hint="give it a text", place=self.place)
        return value


def find_files(paths: Iterable[str | Path], endings: tuple[str, ...] = (*_TEXTS, *_ROWS)) -> list[Path]:
    """The files, and of the folders all files within them with one of the endings, by name.

    A saved data set is a folder that counts as a file; one of several splits, as each of them.

    Raises:
        DcomError: nothing of that name, or a folder without such a file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        saved = sorted(file.parent for file in path.rglob(_SAVED)) if path.is_dir() else []
        if saved:
            found += saved
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(endings))
            if not inside:
                raise DcomError(f"{path} holds no file that ends in {', '.join(endings)}", hint="write such files")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DcomError(f"there is no file or folder {path}", hint="give text files, .jsonl files or folders")
    return found


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON lines file, one after the other, without its empty lines; or the rows of a saved data set.

    Raises:
        DcomError: the file cannot be read, or a line is no JSON object.
    """
    if path.is_dir():
        yield from _saved_rows(path)
        return
    try:
        with (
            gzip.open(path, "rt", encoding=_ENCODING)
            if path.suffix == ".gz"
            else path.open(encoding=_ENCODING) as lines
        ):
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _row(line, f"{path}:{number}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DcomError(f"{path} is damaged: {error}", hint="copy it again") from error
    except UnicodeDecodeError as error:
        raise DcomError(f"{path} is not UTF-8 text", hint="give JSON lines") from error
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint="give a file of JSON lines") from error


def _saved_rows(path: Path) -> Iterator[Row]:
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise cannot_import("datasets", f"the data set {path}", "harness") from error
    try:
        saved: Iterable[dict[str, Any]] = datasets.load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DcomError(f"{path} is no data set that `datasets` can read", hint="save it again") from error
    for number, values in enumerate(saved):
        yield Row(f"{path}[{number}]", values)


def _row(line: str, place: str) -> Row:
    try:
        values: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DcomError(f"not JSON: {error}", hint="write one JSON object a line", place=place) from error
    if not isinstance(values, dict):
        raise DcomError("the line is no JSON object", hint="write one JSON object a line", place=place)
    return Row(place, cast(dict[str, Any], values))


def read_documents(paths: Iterable[str | Path], limit: int | None = None) -> Iterator[Document]:
    """The first `limit` texts of files and folders, read when they are asked for; empty ones are passed over.

    A text file is one document; a line of a JSON lines file, and a row of a saved data set, is one by its key `text`.

    Raises:
        DcomError: a file that is not there, not readable, or has a line without a text.
    """
    return islice((document for path in find_files(paths) for document in _documents(path)), limit)


def _documents(path: Path) -> Iterator[Document]:
    if path.is_dir() or path.name.endswith(_ROWS):
        for row in read_rows(path):
            yield Document(row.place, row.text("text"))
        return
    try:
        text = path.read_text(encoding=_ENCODING)
    except OSError as error:
        raise DcomError(f"cannot read {path}: {error.strerror}", hint="give a text file") from error
    except UnicodeDecodeError as error:
        raise DcomError(f"{path} is not UTF-8 text", hint="give a text file") from error
    if text.strip():
        yield Document(str(path), text)
