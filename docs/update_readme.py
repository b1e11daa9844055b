"""Run the demo and paste what it prints into README.md between its session markers, and its main lines at the top.

    python docs/update_readme.py            # that, and the goals of docs/quality.md and docs/benchmarks.md
    python docs/update_readme.py goals      # the goals alone, once a page has been made anew

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
    r"(\$ dcomc compile|decomposed sites:|total:|dense, transformers|program|skip_layers \(control\)) | +perplexity "
)
"""How the lines of the session begin that stand at the top: what is asked for, gained, taken and paid in quality."""
PAGES = {"quality": "dcomc reproduce quality -o docs", "benchmarks": "python docs/update_benchmarks.py"}
"""Pages whose first table, of goals, stands in README.md too, between markers of their name, and what makes them."""


def put(readme: str, text: str, place: str) -> str:
    """`readme` with `text` between the markers of a place, instead of what stood there.

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
    return f"{before}{first}\n{text}\n\n{last}{after}"


def paste(readme: str, text: str, place: str = "session") -> str:
    """`readme` with `text` as a code block between the markers of a place; raises `DcomError` as `put`."""
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return put(readme, f"```console\n{lines}\n```", place)


def paste_goals(readme: str, page: str, place: str) -> str:
    """`readme` with the first table of a page between the markers of its name.

    Raises:
        DcomError: as `put`, or the page has no table.
    """
    _, begin, rest = page.partition("\n\n|")
    if not begin:
        raise DcomError(f"docs/{place}.md has no table of goals", hint=f"make it with `{PAGES[place]}`")
    table = f"|{rest}".partition("\n\n")[0].rstrip("\n")
    return put(readme, table.replace("](#", f"](docs/{place}.md#"), place)


def excerpt(session: str) -> str:
    """The main lines of a session."""
    return "\n".join(line.rstrip() for line in session.splitlines() if EXCERPT.match(line))


def update() -> int:
    """Run the demo unless the goals alone are asked for, then rewrite README.md."""
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    alone = sys.argv[1:] == ["goals"]
    if sys.argv[1:] and not alone:
        raise DcomError(f"unknown part '{' '.join(sys.argv[1:])}'", hint="give goals, or nothing")
    for place in PAGES:
        readme = paste_goals(readme, (ROOT / "docs" / f"{place}.md").read_text(encoding="utf-8"), place)
    if not alone:
        for place in ("excerpt", "session"):
            paste(readme, "", place)
        session = _demo()
        readme = paste(paste(readme, session), excerpt(session), "excerpt")
    write_text(path, readme)
    return 0


def _demo() -> str:
    """What the demo prints."""
    demo = subprocess.run(
        ["bash", str(ROOT / "demo.sh")],
        env={**os.environ, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    if demo.returncode != 0:
        raise DcomError(f"the demo failed with exit code {demo.returncode}", hint="README.md is as it was")
    return demo.stdout


if __name__ == "__main__":
    sys.exit(guard(update))
