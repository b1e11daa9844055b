"""Docstrings as Markdown, and tables."""

import re
import textwrap
from collections.abc import Iterator, Sequence

WRITTEN = "Written by `python -m dcomc.reference` from {source}; edit there, not here."


def prose(docstring: str) -> str:
    """A docstring as Markdown: signs that Markdown would take for its own escaped, indented blocks fenced."""
    return "\n\n".join(
        _fenced(part) if part.startswith("    ") else escape(part) for part in _parts(docstring) if part.strip()
    )


def _parts(docstring: str) -> Iterator[str]:
    """The paragraphs; indented ones that follow each other are one."""
    block: list[str] = []
    for part in [*docstring.strip("\n").split("\n\n"), ""]:
        if part.startswith("    "):
            block.append(part)
        else:
            yield "\n\n".join(block)
            yield part
            block = []


def _fenced(block: str) -> str:
    """An indented block of IR, or of TOML, whose first line is `key = value`."""
    text = textwrap.dedent(block)
    return f"```{'toml' if re.match(r'[a-z_.]+ = ', text) else 'mlir'}\n{text}\n```"


def escape(text: str) -> str:
    """Text with the signs of Markdown and HTML outside of backquotes escaped."""
    pieces = text.split("`")
    pieces[::2] = (re.sub(r"\*|<(?=\w)|(?<!\w)_|_(?!\w)", r"\\\g<0>", piece) for piece in pieces[::2])
    return "`".join(pieces)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are Markdown, and a column that is empty in every row is left out."""
    kept = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    lines = [[columns[number] for number in kept], ["---"] * len(kept)]
    lines += [[row[number].replace("|", r"\|").replace("\n", " ") for number in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
