"""Run benchmarks and write what they print to docs/benchmarks, and a page of all of them, docs/benchmarks.md.

    python docs/update_benchmarks.py            # those that have run on no processor yet
    python docs/update_benchmarks.py NAME …     # these, again

What they printed on another processor stays, and stands on the page before what they print on this one, or after it.

Progress goes to the terminal. All take about 40 minutes on 2 processors that have nothing else to do.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcomc.cli import guard
from dcomc.diagnostics import DcomError, did_you_mean, write_text
from dcomc.doctor import processor

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
on one machine; seconds are that machine's alone. Above each output stands what its script says of it; its goals stand
in the table here, and the last line that it prints, all numbers as JSON, is left out. Where a script ran on several
processors, each has its output, from when it last ran there.

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


def page(outputs: dict[str, list[str]]) -> str:
    """The page of what benchmarks printed: all goals in one table, then each benchmark by itself."""
    rows: list[str] = []
    sections: list[str] = []
    for name, printed in outputs.items():
        section = [f"## {name}", *about(name)]
        for output in printed:
            *lines, where, last = output.rstrip("\n").splitlines()
            found: dict[str, Any] = json.loads(last)
            if found["goals"]:
                lines = lines[: next(number for number, line in enumerate(lines) if line.startswith("goal "))]
            for goal in found["goals"]:
                met, on = "yes" if goal["met"] else "no", found["machine"]["processor"]
                cells = (f"[{name}](#{name})", goal["what"], on, f"{goal['measured']:.4g}", goal["bound"], met)
                rows.append(f"| {' | '.join(cells)} |")
            text = "\n".join([*"\n".join(line.rstrip() for line in lines).strip("\n").splitlines(), where])
            section.append(f"```console\n$ python benchmarks/{name}.py\n{text}\n```")
        sections.append("\n\n".join(section) + "\n")
    table = ["| benchmark | goal | on | measured | bound | met |", "| --- | --- | --- | ---: | --- | --- |", *rows]
    return HEAD + "\n".join([*table, "", *sections])


def about(name: str) -> list[str]:
    """The paragraphs of a benchmark's script on what it measures and how, without those on how it is called."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    paragraphs = (ast.get_docstring(tree) or "").split("\n\n")
    return [text for text in paragraphs if not text.startswith(("    ", "Run: "))]


def stored() -> dict[str, list[str]]:
    """What benchmarks printed when they last ran, on each processor."""
    found = {name: sorted(FOLDER.glob(f"*/{name}.txt")) for name in NAMES}
    return {name: [path.read_text(encoding="utf-8") for path in paths] for name, paths in found.items() if paths}


def update(names: Sequence[str]) -> int:
    """Run these, or those that have run nowhere yet, and write the page."""
    for name in names:
        if name not in NAMES:
            raise DcomError(f"there is no benchmark '{name}'", hint=did_you_mean(name, NAMES))
    folder = FOLDER / "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\(\w+\)", "", processor().lower())))
    for name in names or [name for name in NAMES if name not in stored()]:
        print(f"{name}: {about(name)[0]}", file=sys.stderr)
        printed = run(name)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.txt", printed)
    write_text(PAGE, page(stored()))
    return 0


if __name__ == "__main__":
    sys.exit(guard(lambda: update(sys.argv[1:])))
