"""Options that choose an engine, and the progress of what it does."""

import argparse
import sys
import time
from types import TracebackType
from typing import Self

ENGINES = ("auto", "reference", "fast")
_SECONDS_BETWEEN_LINES = 10.0


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """`--engine`, `--threads` and `--memory-limit`."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="reference: NumPy; fast: compiled on first use, the same bits; auto: fast for large work (default: auto)",
    )
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="prompts at a time (default: as many as processors)"
    )
    parser.add_argument(
        "--memory-limit", type=_bytes, metavar="SIZE", help="such as 4GB: use fewer threads, or refuse, beyond it"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of threads from 1 to 1024")
    return int(text)


def _bytes(text: str) -> int:
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    number = text.rstrip("BbGgIiKkMm ")
    try:
        size = int(float(number) * units[text[len(number) :].strip().upper()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no size of memory, such as 4GB or 512MiB")
    return size


class PromptProgress:
    """A bar on a terminal; elsewhere a line on stderr now and then."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Remaining())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("prompts", total=total)
        self._lines = not console.is_terminal
        self._total = total
        self._done = 0
        self._started = self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """One more prompt is done."""
        self._done += 1
        self._bar.advance(self._task)
        now = time.monotonic()
        if self._lines and self._done < self._total and now - self._spoke >= _SECONDS_BETWEEN_LINES:
            self._spoke = now
            left = (now - self._started) / self._done * (self._total - self._done)
            print(f"{self._done} of {self._total} prompts, about {left:.0f} s left", file=sys.stderr, flush=True)
