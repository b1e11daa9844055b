"""What a user sees when something is wrong, and files that are written whole or not at all."""

import difflib
import errno
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import IO


class DcomError(Exception):
    """A mistake in what the user gave: one line `place: error: what; hint`, exit code 1, no traceback.

    Args:
        what: what is wrong, in one clause.
        hint: what to do about it.
        place: `file:line[:column]` of the mistake where it has one.
    """

    def __init__(self, what: str, *, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        text = f"{self.place}: error: {self.what}" if self.place else f"error: {self.what}"
        if self.hint:
            text += f"; {self.hint}"
        return " ".join(text.split())


def did_you_mean(name: str, known: Iterable[str], also: Mapping[str, str] = MappingProxyType({})) -> str:
    """A hint that names what begins as `name` in `known`, or else is close to it, and all of `known`.

    Args:
        also: other words for some of `known`.
    """
    names = sorted(known)
    nearest = nearest_word(name, [*names, *also])
    suggestion = f"did you mean '{also.get(nearest, nearest)}'? " if nearest else ""
    return f"{suggestion}known: {', '.join(names)}"


def nearest_word(name: str, words: Sequence[str]) -> str | None:
    """The word that begins as `name` or is what it begins with, the nearest in length; or else a close one."""
    begun = [word for word in words if len(word) > 1 < len(name) and (word.startswith(name) or name.startswith(word))]
    bare = {word.lstrip("-"): word for word in words}  # the dashes of two options make them no closer
    close = [bare[word] for word in difflib.get_close_matches(name.lstrip("-"), bare, n=1)]
    nearest = sorted(begun, key=lambda word: abs(len(word) - len(name))) or close
    return nearest[0] if nearest else None


def cannot_import(package: str | None, what: str, extra: str = "") -> DcomError:
    """The error of a package that is missing, or cannot be loaded.

    Args:
        package: its name, or that of a module in it.
        what: needs it, such as `a trace`.
        extra: of dcomc, that brings it; none for what all of dcomc needs.
    """
    name = f"'dcomc[{extra}]'" if extra else "dcomc"
    return DcomError(
        f"cannot import {str(package).partition('.')[0]}, which {what} needs", hint=f"`pip install {name}` brings it"
    )


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count and the noun: `1 layer`, `1,024 layers`; the plural is the noun with an s unless given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size(count: int) -> str:
    """A number of bytes for people, to two digits: `64 kB`, `1.5 GB`."""
    for exponent, unit in ((18, "EB"), (15, "PB"), (12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**exponent:
            amount = count / 10**exponent
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{count} B"


def say_written(path: Path) -> None:
    """Say on stderr that a file has been written, and how large it is; of a device or a pipe, nothing."""
    if path.is_file():
        print(f"wrote {readable(path)}, {size(path.stat().st_size)}", file=sys.stderr)


def readable(name: str | Path) -> str:
    """The name of a file as text that can be written anywhere: bytes that are no UTF-8 become `\\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


@contextmanager
def atomic_write(path: Path) -> Generator[IO[bytes]]:
    """Open a temporary binary file beside `path` and rename it to `path` only when the block ends without an exception.

    A symbolic link keeps pointing where it does; a device or a pipe (`/dev/null`) is written to, never replaced.

    Raises:
        DcomError: the folder does not exist or cannot be written, `path` is a folder, or the disk is full.
    """
    if path.is_dir():
        raise DcomError(f"cannot write {path}: it is a folder", hint="give a file name")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
        else:
            with _replacing(path) as file:
                yield file
    except OSError as error:
        if error.filename is not None:
            raise
        hint = "make room on the disk" if error.errno == errno.ENOSPC else None
        raise DcomError(f"cannot write {path}: {error.strerror}", hint=hint) from error


@contextmanager
def _replacing(path: Path) -> Generator[IO[bytes]]:
    """A new file that takes the place of `path`, or of what that links to, when the block ends without an exception."""
    target = Path(os.path.realpath(path))
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".dcomc-", dir=target.parent)
    except OSError as error:
        raise DcomError(
            f"cannot write {path}: {error.strerror}", hint="give a file in a folder that exists and is writable"
        ) from error
    with _unfinished(Path(temporary)):
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


_UNFINISHED: set[Path] = set()
"""Temporary files that are being written."""


@contextmanager
def _unfinished(file: Path) -> Generator[None]:
    """Remove the file if the process is terminated meanwhile, unless the program that we are part of sees to that."""
    _UNFINISHED.add(file)
    in_main = threading.current_thread() is threading.main_thread()
    ours = in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        _UNFINISHED.discard(file)
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, _: FrameType | None) -> None:
    """Leave nothing half-written, and end as the signal would have ended us."""
    remove_unfinished()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def remove_unfinished() -> None:
    """Remove what `atomic_write` has begun and not finished, in a process that ends at once."""
    for file in list(_UNFINISHED):
        file.unlink(missing_ok=True)


def check_output(path: Path | None, *inputs: str | Path | None) -> None:
    """Fail before long work, not after it, where `path` could not be written; None is no file at all.

    Args:
        path: what is to be written.
        inputs: files that are read, of another kind than what is written: none of them may be lost.

    Raises:
        DcomError: the folder does not exist or cannot be written, `path` is a folder, or it is one of the inputs.
    """
    if path is None:
        return
    if path.is_file() and any(each is not None and Path(each).is_file() and path.samefile(each) for each in inputs):
        raise DcomError(f"cannot write {path}: it is read, too", hint="give another file")
    if path.is_dir():
        raise DcomError(f"cannot write {path}: it is a folder", hint="give a file name")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        reason = os.strerror(errno.EACCES if path.parent.is_dir() else errno.ENOENT)
        raise DcomError(f"cannot write {path}: {reason}", hint="give a file in a folder that exists and is writable")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())
