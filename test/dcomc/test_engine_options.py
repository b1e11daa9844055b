"""`--engine`, `--threads`, `--memory-limit` and `--no-errors` of `dcomc sim`; the same options of `dcomc run`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dcomc.cli import main


@pytest.fixture(scope="module")
def program(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layer 1 of `tiny`, 2 prompts of 24 tokens."""
    path = tmp_path_factory.mktemp("compiled") / "prog.bin"
    assert main(["compile", str(tiny_ir), "--decompose-layers", "1", "--rank", "4", "-o", str(path)]) == 0
    return path


def simulated(program: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    stats = tmp_path / "stats.json"
    assert main(["sim", str(program), *options, "--stats", str(stats)]) == 0
    return json.loads(stats.read_text())


def test_every_engine_and_number_of_threads_gives_the_same(program: Path, tmp_path: Path) -> None:
    wanted = simulated(program, tmp_path, "--engine", "reference", "--threads", "1")
    assert wanted["engine"] == "reference"
    for engine, threads in (("fast", "1"), ("fast", "3"), ("auto", "2")):
        got = simulated(program, tmp_path, "--engine", engine, "--threads", threads)
        assert got["engine"] == ("fast" if engine == "fast" else "reference")
        assert got["decompositions"] == wanted["decompositions"]


def test_the_engine_is_printed(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sim", str(program), "--engine", "fast"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "engine: fast"
    assert main(["sim", str(program), "--timing-only"]) == 0
    assert "engine" not in capsys.readouterr().out


def test_no_errors(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, got = simulated(program, tmp_path), simulated(program, tmp_path, "--no-errors")
    for one, other in zip(wanted["decompositions"], got["decompositions"], strict=True):
        assert other == one | {"relative_error": None, "optimal_error": None}
    assert "truncated SVD" not in capsys.readouterr().out.split("total:")[-1]


def test_long_work_is_announced(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.engines.PATIENCE_SECONDS", 1e-3)
    monkeypatch.setattr("dcomc.progress._SECONDS_BETWEEN_LINES", 0.0)
    assert simulated(program, tmp_path, "--threads", "1")["engine"] == "fast"
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("engine: fast (large work), 1 thread, about 1 s and 2")
    assert [line.split(", ")[0] for line in others] == [f"{done} of 8 prompts" for done in range(1, 8)]


@pytest.mark.parametrize("command", ["sim", "run"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "slow"), "argument --engine: invalid choice: 'slow'"),
        (("--threads", "0"), "argument --threads: '0' is no number from 1 to 1024"),
        (("--threads", "two"), "argument --threads: 'two' is no number"),
        (("--memory-limit", "much"), "argument --memory-limit: 'much' is no size of memory, such as 4GB or 512MiB"),
        (("--memory-limit", "-1GB"), "argument --memory-limit: "),
        (("--memory-limit", "infGB"), "argument --memory-limit: 'infGB' is no size of memory"),
    ],
)
def test_mistakes(
    command: str, options: tuple[str, ...], message: str, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    text = ("--model", "tiny", "--prompt", "text") if command == "run" else ()
    assert main([command, str(program), *text, *options]) == 1
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") == 1
    assert message in streams.err


@pytest.mark.parametrize(("size", "enough"), [("100MB", False), ("1 MiB", False), ("4GB", True), ("1.5gib", True)])
def test_memory_limit(size: str, enough: bool, program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sim", str(program), "--memory-limit", size]) == (0 if enough else 1)
    if not enough:
        error = capsys.readouterr().err
        assert error.startswith("error: one thread needs about ") and re.search(
            r"; give --memory-limit \d+MB or more$", error, re.MULTILINE
        )
