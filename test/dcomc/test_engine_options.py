"""`--engine`, `--threads`, `--memory-limit` and `--no-errors` of `dcomc sim`; the same options of `dcomc run`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import simulated

from dcomc.cli import main


def test_every_engine_and_number_of_threads_gives_the_same(one_layer: Path, tmp_path: Path) -> None:
    wanted = simulated(one_layer, tmp_path, "--engine", "reference", "--threads", "1")
    assert wanted["engine"] == "reference"
    for engine, threads in (("fast", "1"), ("fast", "3"), ("auto", "2")):
        got = simulated(one_layer, tmp_path, "--engine", engine, "--threads", threads)
        assert got["engine"] == ("fast" if engine == "fast" else "reference")
        assert got["decompositions"] == wanted["decompositions"]


def test_the_engine_is_printed(one_layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sim", str(one_layer), "--engine", "fast"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "engine: fast"
    assert main(["sim", str(one_layer), "--timing-only"]) == 0
    assert "engine" not in capsys.readouterr().out


def test_no_errors(one_layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, got = simulated(one_layer, tmp_path), simulated(one_layer, tmp_path, "--no-errors")
    for one, other in zip(wanted["decompositions"], got["decompositions"], strict=True):
        assert other == one | {"relative_error": None, "optimal_error": None}
    assert "truncated SVD" not in capsys.readouterr().out.split("total:")[-1]


def test_long_work_is_announced(
    one_layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.engines.PATIENCE_SECONDS", 1e-3)
    monkeypatch.setattr("dcomc.progress._SECONDS_BETWEEN_LINES", 0.0)
    assert simulated(one_layer, tmp_path, "--threads", "1")["engine"] == "fast"
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
    command: str, options: tuple[str, ...], message: str, one_layer: Path, mistake: Callable[..., str]
) -> None:
    text = ("--model", "tiny", "--prompt", "text") if command == "run" else ()
    assert message in mistake(command, one_layer, *text, *options)


@pytest.mark.parametrize(("size", "enough"), [("100MB", False), ("1 MiB", False), ("4GB", True), ("1.5gib", True)])
def test_memory_limit(size: str, enough: bool, one_layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sim", str(one_layer), "--memory-limit", size]) == (0 if enough else 1)
    if not enough:
        error = capsys.readouterr().err
        assert error.startswith("error: one thread needs about ") and re.search(
            r"; give --memory-limit \d+MB or more$", error, re.MULTILINE
        )
