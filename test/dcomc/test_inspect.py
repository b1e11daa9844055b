"""`dcomc inspect`: everything that a program holds, in tables and as JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from programs import MACHINE, program

from dcomc.cli import main
from runtime.program import KernelStream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    program().save(tmp_path / "prog.bin")
    return tmp_path / "prog.bin"


def rows(text: str, first: str) -> list[list[str]]:
    """The table whose heading begins with `first`, cells apart by two spaces."""
    block = next(block for block in text.split("\n\n") if block.startswith(first))
    return [re.split(r" {2,}", line.strip()) for line in block.splitlines() if not line.startswith("─")]


def test_tables(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == f"{path}: dcom program, format 3, {path.stat().st_size:,} bytes"
    assert lines[1] == f"machine dcom-16x16 ({MACHINE.hash}): 16 x 16 clusters of 8 x 8, 1 GHz"
    assert rows(printed.out, "option") == [
        ["option", "value"],
        ["layers", "1, 3"],
        ["outliers", "3.0"],
        ["rank", "3"],
        ["sites", "qkv: true"],
    ]
    sections = rows(printed.out, "section")
    assert [row[0] for row in sections[1:]] == [
        ".note.dcom",
        ".text",
        ".rodata",
        ".dcom.kernels",
        ".dcom.launch",
        ".dcom.srcmap",
        ".dcom.options",
        ".dcom.host",
    ]
    assert sections[2][1] == "320"
    assert rows(printed.out, "kernel") == [
        ["kernel", "S x H", "iterations", "slice", "seed", "instructions", "bytes a bank"],
        ["lanczos_4x12", "4 x 12", "3", "8 x 8", "0", "10", "280"],
        ["other", "4 x 12", "3", "8 x 8", "1099511627776", "10", "280"],
    ]
    launches = rows(printed.out, "layers")
    assert launches[0] == ["layers", "site", "prompts x S x H", "rank", "kernel", "activation"]
    assert launches[1] == ["1", "qkv", "2 x 4 x 12", "3", "lanczos_4x12", "stored"]
    assert launches[2] == ["3", "down", "1 x 4 x 12", "1", "other"]
    sources = printed.out.split("\n\n")[-1].splitlines()
    assert sources[0].split() == ["layers", "site", "from"]
    assert sources[2].split() == ["1", "qkv", "model.layers.*.self_attn", "(modeling_llama.py:1)"]


def test_decompositions_that_differ_in_the_layer_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They share a row; with --all each has one. Without stored activations there is no column for them."""
    first, _ = program().launches
    launches = [replace(first, layer=n, location=f"model.layers.{n}.self_attn (llama.py:7)") for n in (0, 1, 3)]
    replace(program(), launches=tuple(launches), activations={}).save(path)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert rows(shown, "layers") == [
        ["layers", "site", "prompts x S x H", "rank", "kernel"],
        ["0-1, 3", "qkv", "2 x 4 x 12", "3", "lanczos_4x12"],
    ]
    assert shown.count("model.layers.*.self_attn (llama.py:7)\n") == 1
    assert main(["inspect", str(path), "--all"]) == 0
    shown = capsys.readouterr().out
    assert [row[0] for row in rows(shown, "layer")] == ["layer", "0", "1", "3"]
    assert all(shown.count(f"model.layers.{n}.self_attn (llama.py:7)\n") == 1 for n in (0, 1, 3))


def test_streams_of_a_kernel(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    first, second = program().kernels
    streams = (KernelStream(0, 0, 8, 8, 0), KernelStream(0, 8, 8, 8, 0), KernelStream(8, 0, 8, 16, 4))
    layout = replace(second.layout, span_rows=8, span_cols=8, in_flight=2)
    replace(program(), kernels=(first, replace(second, layout=layout, streams=streams))).save(path)
    headings = ["kernel", "streams", "clusters of each", "a matrix on", "at a time", "entry"]
    whole = [first.name, "0", "16 x 16, rows 0-15, columns 0-15", "16 x 16", "1", "0"]
    last = ["other", "2", "8 x 16, rows 8-15, columns 0-15", "8 x 8", "4", "4"]
    assert main(["inspect", str(path)]) == 0
    assert rows(capsys.readouterr().out, "kernel        stream") == [
        headings,
        whole,
        ["other", "0-1", "8 x 8, rows 0-7, columns 0-15", "8 x 8", "2", "0"],
        last,
    ]
    assert main(["inspect", str(path), "--all"]) == 0
    assert rows(capsys.readouterr().out, "kernel        stream") == [
        headings,
        whole,
        ["other", "0", "8 x 8, rows 0-7, columns 0-7", "8 x 8", "2", "0"],
        ["other", "1", "8 x 8, rows 0-7, columns 8-15", "8 x 8", "2", "0"],
        last,
    ]
    assert main(["inspect", "--json", str(path)]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    assert [len(kernel["streams"]) for kernel in kernels] == [0, 3]


def test_a_table_shows_text_as_it_is(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names with what a terminal library may take for its own markup."""
    monkeypatch.setenv("COLUMNS", "200")
    launch = replace(program().launches[0], location="[bold]x[/] :smile: [r0+0x100]")
    replace(program(), launches=(launch,)).save(path)
    assert main(["inspect", str(path)]) == 0
    assert "[bold]x[/] :smile: [r0+0x100]" in capsys.readouterr().out


def test_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == [
        "format",
        "bytes",
        "machine",
        "sections",
        "kernels",
        "launches",
        "activations",
        "host_lines",
        "options",
    ]
    assert shown["bytes"] == path.stat().st_size
    assert shown["machine"] == {**json.loads(MACHINE.to_json()), "hash": MACHINE.hash}
    assert [section["bytes"] for section in shown["sections"] if section["name"] == ".rodata"] == [192]
    assert all(re.fullmatch("[0-9a-f]{64}", section["sha256"]) for section in shown["sections"])
    assert [(k["name"], k["instructions"], k["rows"], k["seed"]) for k in shown["kernels"]] == [
        ("lanczos_4x12", 10, 4, 0),
        ("other", 10, 4, 2**40),
    ]
    assert [(entry["layer"], entry["site"], entry["rank"], entry["stored"]) for entry in shown["launches"]] == [
        (1, "qkv", 3, True),
        (3, "down", 1, False),
    ]
    assert shown["launches"][1]["location"] == program().launches[1].location
    assert shown["activations"] == [{"key": "layer1.qkv", "shape": [8, 12]}]
    assert shown["options"] == program().options


def test_a_program_of_the_dense_model(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(program(), kernels=(), launches=(), activations={}, options={}).save(path)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\n\nno activation is decomposed\n")
    assert "instructions  bytes a bank" not in shown and "prompts x S x H" not in shown


def test_a_damaged_program(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"module @tiny")] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{path}: error: section .dcom.host is damaged (checksum does not match); compile it again\n"
    )
