"""`dcomc profile`: every view has all cycles, names what they are spent on, and fits a terminal."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dcomc.cli import main
from dcomc.commands.profile import VIEWS as SHOWN
from dcomc.profile import VIEWS


@pytest.fixture(scope="module")
def program(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers 1 and 2 of `tiny`, 2 prompts of 24 tokens: eight launches by two kernels."""
    path = tmp_path_factory.mktemp("compiled") / "prog.bin"
    assert main(["compile", str(tiny_ir), "--decompose-layers", "1,2", "--rank", "4", "-o", str(path)]) == 0
    return path


@pytest.fixture
def told(program: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["profile", str(program), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_view_has_all_cycles(program: Path, told: dict[str, Any], tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    assert main(["sim", str(program), "--timing-only", "--stats", str(stats)]) == 0
    simulated = json.loads(stats.read_text())
    assert told["cycles"] == simulated["total_cycles"] == sum(told["causes"].values())
    assert told["seconds"] == told["cycles"] / 1e9
    assert set(VIEWS) == set(SHOWN) <= set(told)
    for view in VIEWS:
        lines = told[view]
        assert sum(line["cycles"] for line in lines) == told["cycles"]
        assert sum(line["instructions"] for line in lines) == told["instructions"]
        assert [line["cycles"] for line in lines] == sorted((line["cycles"] for line in lines), reverse=True)
        for direction, banks in told["bank_bytes"].items():
            assert sum(line["bank_bytes"][direction] for line in lines) == sum(banks)
        for unit, busy in told["busy"].items():
            assert sum(line["busy"][unit] for line in lines) == pytest.approx(busy)
        assert all(sum(line["causes"].values()) == line["cycles"] for line in lines)
    for joules in told["joules"].values():
        assert 0 < joules["low"] < joules["high"] < 1e-3
    uses = [entry["multiplications"] for entry in simulated["decompositions"]]
    assert told["multiplications"] == {use: sum(launch[use] for launch in uses) for use in told["multiplications"]}
    assert told["multiplications"]["useful"] > 0 == told["multiplications"]["other"]


def test_views_name_what_they_are_of(told: dict[str, Any]) -> None:
    def names(view: str) -> set[str]:
        return {line["name"] for line in told[view]}

    sites = ("qkv", "o", "gate_up", "down")
    assert names("decomposition") == {f"layer{layer}.{site}" for layer in (1, 2) for site in sites}
    assert names("kernel") == {"lanczos_24x64_k9_r2_s0", "lanczos_24x160_k9_r2_s0"}
    file = "transformers/models/llama/modeling_llama.py"
    assert all(re.fullmatch(rf"{file}:\d+(, \d+)*", name) for name in names("line"))
    assert len(names("line")) == 3, "q, k and v; o; gate, up and down"
    assert {"set up", "z = A^T u", "y = A v", "alpha = ||z||", "store the factors"} <= names("op")
    assert {"mv.row", "mv.col", "dots", "ld", "halt"} <= names("opcode")
    assert all(re.fullmatch(r"lanczos_\w+:\d+ [a-z0-9.]+( .*)?", name) for name in names("instruction"))


def test_a_layer_takes_what_its_like_takes(told: dict[str, Any]) -> None:
    cycles = {line["name"]: line["cycles"] for line in told["decomposition"]}
    assert cycles["layer1.qkv"] == cycles["layer2.qkv"] == cycles["layer1.o"] < cycles["layer1.down"]


def table(program: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["profile", str(program), *options]) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_tables(program: Path, told: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    text = table(program, capsys)
    assert text[0].startswith("machine: dcom-16x16 (")
    assert text[1].startswith(f"total: {told['cycles']:,} cycles, ")
    largest = told["kernel"][0]
    share = f"{largest['cycles'] / told['cycles']:.1%}"
    assert any(re.match(rf"{largest['name']} +{largest['cycles']:,} +{share} ", line) for line in text)
    assert any(re.match(r"modeling_llama.py:\d+ ", line) for line in text), "without its folders"
    assert any(line.startswith("and 7 more, ") and line.endswith("(--top 17 shows all)") for line in text)


@pytest.mark.parametrize("sort", ["cycles", "waits", "instructions", "bytes", "name"])
def test_order_of_lines(program: Path, sort: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = table(program, capsys, "--by", "opcode", "--sort", sort, "--top", "4")
    begin = next(number for number, line in enumerate(text) if line.startswith("opcode"))
    header, lines = re.split(r"  +", text[begin]), [re.split(r"  +", line) for line in text[begin + 2 : begin + 6]]
    column = {"name": 0, "cycles": 1}.get(sort, 3)
    assert sort in ("name", "cycles") or header[column] == sort
    keys: Sequence[Any] = [line[0] if sort == "name" else -int(line[column].replace(",", "")) for line in lines]
    assert list(keys) == sorted(keys) and len(set(keys)) > 1


def test_tables_fit_a_terminal_of_80_columns(program: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    views = [argument for view in VIEWS for argument in ("--by", view)]
    command = [sys.executable, "-m", "dcomc", "profile", str(program), *views, "--sort", "instructions"]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            output += part
    os.close(ours)
    assert process.returncode == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output.decode().splitlines()]
    assert max(map(len, lines)) == 80, max(lines, key=len)
    assert not any("…" in line for line in lines)
    assert sum("waits most for" in line for line in lines) == len(VIEWS)


def test_program_without_launches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, path = tmp_path / "empty.s", tmp_path / "empty.bin"
    source.write_text(".machine dcom-16x16\n")
    assert main(["asm", str(source), "-o", str(path)]) == 0
    capsys.readouterr()
    assert "the program decomposes nothing: it has no launches" in table(path, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.bin"], "cannot read missing.bin: No such file or directory"),
        ([__file__], "no program: the file "),
        (["{program}", "--by", "file"], "invalid choice: 'file'"),
        (["{program}", "--sort", "size"], "invalid choice: 'size'"),
        (["{program}", "--technology", "3nm"], "unknown technology '3nm'"),
        (["{program}", "--top", "0"], "'0' is no number of lines"),
    ],
)
def test_mistakes(program: Path, options: list[str], message: str, mistake: Callable[..., str]) -> None:
    assert message in mistake("profile", *(option.format(program=program) for option in options))
