"""Run benchmarks and write what they print to docs/benchmarks, and a page of all of them, docs/benchmarks.md.

    python docs/update_benchmarks.py            # those that are not there yet
    python docs/update_benchmarks.py NAME …     # these, again

Progress goes to the terminal. All take about 40 minutes on 2 processors that have nothing else to do.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, did_you_mean, write_text

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
NAMES = (
    "real_layer",
    "token_blocks",
    "expansion",
    "streams",
    "engine",
    "scale_sim",
    "executor",
    "compile_llama",
    "pass_scaling",
    "startup",
    "fuzz",
)
"""In the order of the page."""
HEAD = """# Benchmarks

Made by `python docs/update_benchmarks.py`, which runs the scripts of `benchmarks/`. Ratios are of runs that took turns
on one machine; seconds are that machine's alone. Above each table stands what its script says of it; the last line that
a script prints, all numbers as JSON, is left out.

"""


def run(name: str) -> str:
    """What a benchmark prints to standard output.

    Raises:
        DcomError: it fails.
    """
    script = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode != 0:
        raise DcomError(f"benchmarks/{name}.py failed with exit code {done.returncode}")
    return done.stdout


def page(outputs: dict[str, str]) -> str:
    """The page of what benchmarks printed: all goals in one table, then each benchmark by itself."""
    rows: list[str] = []
    sections: list[str] = []
    for name, output in outputs.items():
        *lines, last = output.rstrip("\n").splitlines()
        goals: list[dict[str, Any]] = json.loads(last)["goals"]
        for goal in goals:
            met = "yes" if goal["met"] else "no"
            rows.append(f"| [{name}](#{name}) | {goal['what']} | {goal['measured']:.4g} | {goal['bound']} | {met} |")
        text = "\n".join(line.rstrip() for line in lines).strip("\n")
        console = f"```console\n$ python benchmarks/{name}.py\n{text}\n```\n"
        sections.append("\n\n".join([f"## {name}", *about(name), console]))
    table = ["| benchmark | goal | measured | bound | met |", "| --- | --- | ---: | --- | --- |", *rows]
    return HEAD + "\n".join([*table, "", *sections])


def about(name: str) -> list[str]:
    """The paragraphs of a benchmark's script on what it measures and how, without those on how it is called."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    paragraphs = (ast.get_docstring(tree) or "").split("\n\n")
    return [text for text in paragraphs if not text.startswith(("    ", "Run: "))]


def stored() -> dict[str, str]:
    """What benchmarks printed when they last ran."""
    paths = {name: FOLDER / f"{name}.txt" for name in NAMES}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.exists()}


def update(names: Sequence[str]) -> int:
    """Run these, or those that are missing, and write the page."""
    for name in names:
        if name not in NAMES:
            raise DcomError(f"there is no benchmark '{name}'", hint=did_you_mean(name, NAMES))
    FOLDER.mkdir(exist_ok=True)
    for name in names or [name for name in NAMES if name not in stored()]:
        print(f"{name}: {about(name)[0]}", file=sys.stderr)
        write_text(FOLDER / f"{name}.txt", run(name))
    write_text(PAGE, page(stored()))
    return 0


if __name__ == "__main__":
    sys.exit(guard(lambda: update(sys.argv[1:])))
