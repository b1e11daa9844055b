"""Tables for people: one style and one rule of width for all commands."""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import TextWrapper
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rich.console import Console

    from runtime.bounds import Bounds

_PIPE_WIDTH = 100
_GAP = 2
_NUMBER = re.compile(r"(?!.*[^\W\d]{4})[-+±]?\d.{,30}|[-…]?")
"""A cell of a column of numbers, with units but no words: `1,024`, `2.5 ms`, `64 x 4096`, `1 to 2 GiB`, or nothing."""
_WORD = 16
"""Characters of a text's word that stay together where the console is too narrow for whole words."""


def make_console(*, stderr: bool = False) -> "Console":
    """Standard output or error, as wide as its terminal, else as COLUMNS says, else 100 columns."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns
    return console


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    stderr: bool = False,
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Print a table below an empty line; a title stands above it, a caption below, wrapped to the console.

    A column of numbers is aligned to the right and never wrapped or cut, so that a table of many is wider than its
    console; other columns are aligned to the left and wrapped.
    """
    console, cells = make_console(stderr=stderr), list(rows)
    by_column = list(zip(*cells, strict=True)) if cells else [()] * len(columns)
    numbers = [any(column) and all(map(_NUMBER.fullmatch, column)) for column in by_column]
    widths = _fit([(name, *column) for name, column in zip(columns, by_column, strict=True)], numbers, console.width)
    console.print(f"{title}\n" if title else "", soft_wrap=True)
    for line in _lines(columns, widths, numbers):
        console.print(line, style="bold", soft_wrap=True)
    console.print("─" * (sum(widths) + _GAP * (len(widths) - 1)), soft_wrap=True)
    for row in cells:
        for line in _lines(row, widths, numbers):
            console.print(line, soft_wrap=True)
    if caption is not None:
        console.print(soft_wrap=True)
        print_notes(caption.splitlines(), stderr=stderr)


def print_notes(notes: Iterable[str], *, stderr: bool = False, indent: int = 0) -> None:
    """Print texts, each wrapped to the console; of one that is indented the further lines are twice as far."""
    console = make_console(stderr=stderr)
    wrapper = _Wrapper(console.width, initial_indent=" " * indent, subsequent_indent=" " * (2 * indent))
    for note in notes:
        console.print("\n".join(wrapper.wrap(note)), soft_wrap=True)


def _fit(columns: Sequence[Sequence[str]], numbers: Sequence[bool], width: int) -> list[int]:
    """Widths of columns for a table of a width: as wide as they are, or else the widest texts narrower, if they may be.

    Args:
        columns: heading and cells of each.
        numbers: whether a column is of numbers, of which only the heading may wrap.
    """

    def longest_word(texts: Iterable[str]) -> int:
        return max((len(word) for text in texts for word in text.split()), default=0)

    widths = [max(map(len, column)) for column in columns]
    whole = [
        max(longest_word(column[:1]), *map(len, column[1:])) if number else longest_word(column)
        for column, number in zip(columns, numbers, strict=True)
    ]
    parted = [least if number else min(least, _WORD) for least, number in zip(whole, numbers, strict=True)]
    for least in (whole, parted):
        while sum(widths) + _GAP * (len(widths) - 1) > width:
            spare = [(wide, at) for at, (wide, few) in enumerate(zip(widths, least, strict=True)) if wide > few]
            if not spare:
                break
            widths[max(spare)[1]] -= 1
    return widths


class _Wrapper(TextWrapper):
    """Words that are too long, such as paths, break behind a slash, or else behind a point, or else anywhere."""

    def _split(self, text: str) -> list[str]:
        chunks = super()._split(text)
        for mark in "/.":
            chunks = [part for chunk in chunks for part in self._parts(chunk, mark)]
        return chunks

    def _parts(self, chunk: str, mark: str) -> list[str]:
        return re.findall(f"[^{mark}]*[{mark}]|[^{mark}]+", chunk) if len(chunk) > self.width else [chunk]


def _lines(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> Iterable[str]:
    """A row, as many lines as its cells need."""
    wrappers = [_Wrapper(max(width, 1), break_on_hyphens=False) for width in widths]
    parts = [wrapper.wrap(cell) for wrapper, cell in zip(wrappers, cells, strict=True)]
    for line in zip_longest(*parts, fillvalue=""):
        aligned = (
            part.rjust(width) if number else part.ljust(width)
            for part, width, number in zip(line, widths, numbers, strict=True)
        )
        yield (" " * _GAP).join(aligned).rstrip()


def number(value: float) -> str:
    """Three significant digits without zeros at the end; of 1,000 and more, whole: `0.98`, `280`, `1,024`."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.3g}" if abs(rounded) < 1000 else f"{value:,.0f}"


def energy(joules: "Bounds") -> str:
    """A range of energies with a unit that suits it: `1.2 to 3.4 mJ`."""
    unit, size = next(
        ((unit, size) for unit, size in (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6)) if joules.high >= size), ("nJ", 1e-9)
    )
    return f"{number(joules.low / size)} to {number(joules.high / size)} {unit}"


def duration(seconds: float) -> str:
    """A time with a unit that suits it: `12.1 us`, `3 min`; nothing is `-`."""
    for unit, size, least in (("h", 3600, 2), ("min", 60, 2), ("s", 1, 1), ("ms", 1e-3, 1), ("us", 1e-6, 1)):
        if seconds >= least * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns" if seconds else "-"


def memory_size(count: float) -> str:
    """Bytes of a memory, by powers of 1,024: `13.2 GiB`, `640 KiB`."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{number(count)} B"


def value_text(value: object) -> str:
    """A JSON value for people: without quotes, brackets and braces, `none` for null and what is empty."""
    match value:
        case dict():
            entries = cast(dict[str, object], value).items()
            text = ", ".join(f"{key}: {value_text(entry)}" for key, entry in entries)
        case list():
            text = ", ".join(map(value_text, cast(list[object], value)))
        case str():
            text = value
        case _:
            text = "none" if value is None else json.dumps(value)
    return text or "none"
