"""Run the demo and paste what it prints into README.md between its session markers, and its main lines at the top.

    python docs/update_readme.py

What the commands report as progress goes to the terminal; README.md changes only when all of them have succeeded.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, write_text

ROOT = Path(__file__).resolve().parents[1]
EXCERPT = re.compile(
    r"(compiled|decomposed sites:|total:|dense, transformers|program|skip_layers \(control\)) | +perplexity "
)
"""How the lines of the session begin that stand at the top: what is gained, what it takes, and what it costs."""


def paste(readme: str, text: str, place: str = "session") -> str:
    """`readme` with `text` as a code block between the markers of a place, instead of what stood there.

    Raises:
        DcomError: the markers are not there once each, in order.
    """
    first, last = (f"<!-- {place}:{end} -->\n" for end in ("begin", "end"))
    before, begin, rest = readme.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in after:
        raise DcomError(
            f"README.md has no place for the {place}", hint=f"it needs one {first.strip()} and then one {last.strip()}"
        )
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return f"{before}{first}\n```console\n{lines}\n```\n\n{last}{after}"


def excerpt(session: str) -> str:
    """The main lines of a session."""
    return "\n".join(line.rstrip() for line in session.splitlines() if EXCERPT.match(line))


def update() -> int:
    """Run the demo, then rewrite README.md."""
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    for place in ("excerpt", "session"):
        paste(readme, "", place)
    demo = subprocess.run(
        ["bash", str(ROOT / "demo.sh")],
        env={**os.environ, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    if demo.returncode != 0:
        raise DcomError(f"the demo failed with exit code {demo.returncode}", hint="README.md is as it was")
    write_text(path, paste(paste(readme, demo.stdout), excerpt(demo.stdout), "excerpt"))
    return 0


if __name__ == "__main__":
    sys.exit(guard(update))
