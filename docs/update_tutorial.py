"""Run the commands of docs/tutorial.md and write what they print below them.

    python docs/update_tutorial.py [--check]

With `--check` nothing is written; the exit code is 1 where the page differs from what its commands print.
"""

import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
_END = "(end of what a command prints)"


def refreshed(page: str) -> str:
    """`page` with the output of each command of its console blocks, all run by one shell in an empty folder.

    Raises:
        DcomError: a command fails.
    """
    commands = [line[2:] for block in _BLOCK.findall(page) for line in block.splitlines() if line.startswith("$ ")]
    outputs = iter(_outputs(commands))

    def fill(block: re.Match[str]) -> str:
        lines = [line for line in block[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"{line}\n{next(outputs)}" for line in lines) + "```\n"

    return _BLOCK.sub(fill, page)


def _outputs(commands: list[str]) -> list[str]:
    """What each command prints to standard output, without spaces at the ends of lines."""
    python = f'python() {{ PYTHONPATH="{ROOT}" COLUMNS=120 "{sys.executable}" "$@"; }}'
    script = "\n".join(
        [python, 'dcomc() { python -m dcomc "$@"; }', *(f'{command}\necho "{_END}"' for command in commands)]
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    *outputs, rest = re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).split(f"{_END}\n")
    if done.returncode != 0 or "error:" in done.stderr:  # what fails at the head of a pipe has no say in its exit code
        which = f"`{commands[len(outputs)]}`" if len(outputs) < len(commands) else "a command"
        raise DcomError(f"{which} failed: {done.stderr.strip() or rest}", hint=f"{PAGE.name} is as it was")
    return outputs


def update() -> int:
    """Rewrite the page, or check it."""
    page = PAGE.read_text(encoding="utf-8")
    new = refreshed(page)
    if "--check" not in sys.argv[1:]:
        write_text(PAGE, new)
    elif new != page:
        print(
            *difflib.unified_diff(page.splitlines(), new.splitlines(), "the page", "its commands", lineterm=""),
            sep="\n",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(guard(update))
