"""Run the demo and paste what it prints into README.md between its session markers.

    python docs/update_readme.py

What the commands report as progress goes to the terminal; README.md changes only when all of them have succeeded.
"""

import os
import subprocess
import sys
from pathlib import Path

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, write_text

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- session:begin -->\n"
END = "<!-- session:end -->\n"


def paste(readme: str, session: str) -> str:
    """`readme` with `session` as a code block between the markers, in place of what stood there.

    Raises:
        DcomError: the markers are not there once each, in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise DcomError(
            "README.md has no place for the session", hint=f"it needs one {BEGIN.strip()} and then one {END.strip()}"
        )
    lines = "\n".join(line.rstrip() for line in session.strip("\n").splitlines())
    return f"{before}{BEGIN}\n```console\n{lines}\n```\n\n{END}{after}"


def update() -> int:
    """Run the demo, then rewrite README.md."""
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    paste(readme, "")
    demo = subprocess.run(
        ["bash", str(ROOT / "demo.sh")],
        env={**os.environ, "COLUMNS": "110"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    if demo.returncode != 0:
        raise DcomError(f"the demo failed with exit code {demo.returncode}", hint="README.md is as it was")
    write_text(path, paste(readme, demo.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(guard(update))
