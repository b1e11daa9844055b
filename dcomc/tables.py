"""Tables for people: one style and one rule of width for all commands."""

import re
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from runtime.bounds import Bounds

_PIPE_WIDTH = 100
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
    """Print a table below an empty line; a title stands above it, a caption below.

    A column of numbers is aligned to the right and never wrapped or cut, so that a table of many is wider than its
    console; other columns are aligned to the left and wrapped.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    cells, console = list(rows), make_console(stderr=stderr)
    by_column = list(zip(*cells, strict=True)) if cells else [()] * len(columns)
    numbers = [any(column) and all(map(_NUMBER.fullmatch, column)) for column in by_column]
    longest = [
        max(map(len, (*heading.split(), *(column if number else " ".join(column).split()))), default=0)
        for heading, column, number in zip(columns, by_column, numbers, strict=True)
    ]
    if _sum(longest) > console.width:
        longest = [width if number else min(width, _WORD) for width, number in zip(longest, numbers, strict=True)]
    for heading, number, width in zip(columns, numbers, longest, strict=True):
        table.add_column(Text(heading), justify="right" if number else "left", overflow="fold", min_width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    for line in (title, "") if title else ("",):
        console.print(line, soft_wrap=True)
    with console.capture() as captured:
        console.print(table, width=max(console.width, _sum(longest)), crop=False, no_wrap=True)
    for line in captured.get().splitlines():
        print(line.rstrip(), file=console.file)
    if caption is not None:
        console.print(f"\n{caption}", soft_wrap=True)


def _sum(widths: Sequence[int]) -> int:
    """Of a table, with two spaces between its columns."""
    return sum(widths) + 2 * (len(widths) - 1)


def energy(joules: "Bounds") -> str:
    """A range of energies with a unit that suits it: `1.2 to 3.4 mJ`."""
    unit, size = next(
        ((unit, size) for unit, size in (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6)) if joules.high >= size), ("nJ", 1e-9)
    )
    return f"{joules.low / size:.3g} to {joules.high / size:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns" if seconds else "-"
