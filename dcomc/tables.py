"""Tables for people."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.bounds import Bounds


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    stderr: bool = False,
    caption: str | None = None,
) -> None:
    """Print a table: the first `left` columns aligned to the left, as names are, the others to the right.

    A caption stands below it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console = Console(stderr=stderr, width=140)
    console.print(table)
    if caption is not None:
        console.print(caption, highlight=False, soft_wrap=True)


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
