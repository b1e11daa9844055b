"""`dcomc sim`: tables, statistics, where activations come from, and every mistake."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import simulated

from dcomc.activations import made_from_seed
from dcomc.cli import main
from dcomc.container import read_program
from runtime.accelerator import run_kernel, time_kernel
from runtime.lanczos import bidiagonalise, optimal_error, relative_error, truncate

KEYS = {"layer", "site", "rows", "cols", "rank", "iterations", "cycles", "relative_error", "optimal_error"}
SHIPPED = Path(__file__).resolve().parents[2] / "dcomc" / "configs" / "machines" / "dcom-16x16.toml"


def matrix(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return made_from_seed(rows, cols, seed)


def test_statistics(one_layer: Path, tmp_path: Path) -> None:
    stats = simulated(one_layer, tmp_path)
    machine = read_program(str(one_layer)).machine
    assert stats["machine"] == {"name": "dcom-16x16", "hash": machine.hash}
    assert (stats["clock_hz"], stats["engine"], stats["seed"]) == (10**9, "reference", 0)
    entries = stats["decompositions"]
    assert [(e["layer"], e["site"]) for e in entries] == [(1, "qkv"), (1, "o"), (1, "gate_up"), (1, "down")]
    assert [(e["rows"], e["cols"]) for e in entries] == [(24, 64)] * 3 + [(24, 160)]
    for entry in entries:
        assert set(entry) >= KEYS
        assert (entry["rank"], entry["iterations"], entry["prompts"], entry["steps"]) == (4, 9, 2, [9, 9])
        assert entry["input"] == "made from seed 0"
        assert entry["cycles"] == sum(entry["causes"].values()) > 0
        assert entry["seconds"] == entry["cycles"] / 1e9
        assert 0 < entry["array_busy"] < 1 and 0 < entry["bank_busy"] < 1
        assert entry["optimal_error"] <= entry["relative_error"] < 1.05 * entry["optimal_error"] < 1
    assert stats["total_cycles"] == sum(entry["cycles"] for entry in entries)


def test_table(one_layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats = simulated(one_layer, tmp_path)
    streams = capsys.readouterr()
    assert streams.err == ""
    lines = streams.out.splitlines()
    assert lines[0] == f"machine: dcom-16x16 ({stats['machine']['hash']}), 1 GHz"
    assert lines[1] == "activations: made from seed 0"
    header = ["layer", "site", "shape", "rank", "steps", "cycles", "time", "arrays", "banks", "error", "optimal"]
    assert next(line.split() for line in lines if "shape" in line) == header
    for entry in stats["decompositions"]:
        (row,) = (line for line in lines if re.match(rf" +1 +{entry['site']} ", line))
        assert f"2 x 24 x {entry['cols']}" in row
        assert row.split()[7:9] == ["4", "9"]
        assert row.split()[9] == f"{entry['cycles']:,}"
        assert row.split()[-4] == f"{entry['array_busy']:.1%}"
        assert row.split()[-2:] == [f"{entry['relative_error']:.4f}", f"{entry['optimal_error']:.4f}"]
    assert re.search(r"^energy: [\d.]+ to [\d.]+ uJ \(arrays, buffers and banks; 15nm\)$", streams.out, re.MULTILINE)
    assert f"total: 4 decompositions, {stats['total_cycles']:,} cycles, " in streams.out


def test_numbers_are_those_of_the_kernels(one_layer: Path, tmp_path: Path) -> None:
    """An entry against kernels run one by one, and against float64."""
    x = np.concatenate([matrix(24, 64), 100 * matrix(24, 64, 1)])
    np.save(tmp_path / "x.npy", x)
    entry = simulated(one_layer, tmp_path, "--input", str(tmp_path / "x.npy"))["decompositions"][0]
    loaded = read_program(str(one_layer))
    results = [run_kernel(loaded.kernels[0], loaded.machine, prompt) for prompt in np.split(x, 2)]
    approximations = [u @ core @ v for u, core, v in (truncate(result.factors, 4) for result in results)]
    assert entry["cycles"] == results[0].timing.cycles, "both prompts in one run, each in a group of its own"
    assert entry["relative_error"] == pytest.approx(
        relative_error(x, np.eye(48), np.eye(48), np.concatenate(approximations))
    )
    best = [optimal_error(prompt, 4) * np.linalg.norm(prompt) for prompt in np.split(x, 2)]
    assert entry["optimal_error"] == pytest.approx(np.linalg.norm(best) / np.linalg.norm(x))
    exact = [
        u @ core @ v for u, core, v in (truncate(bidiagonalise(p.astype(np.float64), 9), 4) for p in np.split(x, 2))
    ]
    assert entry["relative_error"] == pytest.approx(
        np.linalg.norm(x - np.concatenate(exact)) / np.linalg.norm(x), rel=0.01
    )


def test_timing_only_gives_the_same_cycles(one_layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timed, full = simulated(one_layer, tmp_path, "--timing-only"), simulated(one_layer, tmp_path)
    assert timed["engine"] == "timing only"
    shown = capsys.readouterr().out
    assert "activations: none: timing only" in shown
    table = next(line.split() for line in shown.splitlines() if "shape" in line)
    assert table[-2:] == ["arrays", "banks"], "no columns without numbers"
    for one, other in zip(timed["decompositions"], full["decompositions"], strict=True):
        assert one["relative_error"] is one["optimal_error"] is None
        assert one["steps"] == []
        for key in ("cycles", "causes", "instructions", "bank_bytes", "array_busy", "bank_busy"):
            assert one[key] == other[key], key
    loaded = read_program(str(one_layer))
    assert timed["decompositions"][3]["cycles"] == time_kernel(loaded.kernels[1], loaded.machine, 2).cycles


def test_two_runs_give_identical_statistics(one_layer: Path, tmp_path: Path) -> None:
    texts: list[bytes] = []
    for seed in ("7", "7", "8"):
        simulated(one_layer, tmp_path, "--seed", seed)
        texts.append((tmp_path / "stats.json").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_array_for_every_launch_of_its_shape(one_layer: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", matrix(48, 64).reshape(2, 24, 64))
    stats = simulated(one_layer, tmp_path, "--input", str(tmp_path / "x.npy"))
    sources = [entry["input"] for entry in stats["decompositions"]]
    assert sources == [str(tmp_path / "x.npy")] * 3 + ["made from seed 0"]
    assert len({entry["relative_error"] for entry in stats["decompositions"][:3]}) == 1


def test_archive_by_launch(one_layer: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"layer1.down": matrix(48, 160), "layer1.o": matrix(48, 64).astype(np.float16)})
    stats = simulated(one_layer, tmp_path, "--input", str(tmp_path / "x.npz"))
    sources = [entry["input"] for entry in stats["decompositions"]]
    assert sources == ["made from seed 0", str(tmp_path / "x.npz")] * 2


def test_stored_activations(tiny_ir: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"layer1.o": matrix(48, 64, 5)})
    program = tmp_path / "prog.bin"
    options = ["--decompose-layers", "1", "--sites", "qkv,o", "--activations", str(tmp_path / "x.npz")]
    assert main(["compile", str(tiny_ir), *options, "-o", str(program)]) == 0
    stored = simulated(program, tmp_path)["decompositions"]
    assert [entry["input"] for entry in stored] == ["made from seed 0", "stored in the program"]
    np.save(tmp_path / "half.npy", matrix(48, 64, 5).astype(np.float16))
    given = simulated(program, tmp_path, "--input", str(tmp_path / "half.npy"))["decompositions"]
    assert given[1]["input"] == str(tmp_path / "half.npy")  # what is given goes before what is stored
    assert given[1]["relative_error"] == stored[1]["relative_error"]


def test_breakdown_is_seen_in_the_steps(one_layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.concatenate([np.zeros((24, 64)), np.outer(np.ones(24), np.arange(64))])
    np.save(tmp_path / "x.npy", x)
    stats = simulated(one_layer, tmp_path, "--input", str(tmp_path / "x.npy"))
    entry = stats["decompositions"][0]
    assert entry["steps"][0] == 0 and entry["steps"][1] in (1, 2)
    assert entry["relative_error"] < 1e-3
    assert f" 0-{entry['steps'][1]} " in capsys.readouterr().out
    np.save(tmp_path / "x.npy", np.zeros((48, 64)))
    entry = simulated(one_layer, tmp_path, "--input", str(tmp_path / "x.npy"))["decompositions"][0]
    assert (entry["relative_error"], entry["optimal_error"]) == (0.0, 0.0)


def test_program_that_decomposes_nothing(tiny_ir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tiny_ir), "-o", str(tmp_path / "prog.bin")]) == 0
    stats = simulated(tmp_path / "prog.bin", tmp_path)
    assert (stats["decompositions"], stats["total_cycles"]) == ([], 0)
    assert "the program decomposes nothing" in capsys.readouterr().out


def test_machine_that_is_the_programs(one_layer: Path, tmp_path: Path) -> None:
    (tmp_path / "same.toml").write_text(SHIPPED.read_text().replace('"dcom-16x16"', '"another name"'))
    simulated(one_layer, tmp_path, "--timing-only", "--machine", str(tmp_path / "same.toml"))


def test_machine_that_is_not(one_layer: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    (tmp_path / "other.toml").write_text(SHIPPED.read_text().replace("add = 2 ", "add = 3 "))
    error = mistake("sim", str(one_layer), "--machine", str(tmp_path / "other.toml"))
    assert re.match(
        r"error: the program is for machine dcom-16x16 \(\w{16}\), not dcom-16x16 \(\w{16}\); compile it", error
    )


WRONG: list[tuple[str, Any, str]] = [
    (
        "x.npy",
        np.zeros((24, 64)),
        "has shape (24, 64), which is that of no launch; the launches are: layer1.qkv 48 x 64",
    ),
    ("x.npy", np.zeros((3, 24, 64)), "has shape (3, 24, 64), which is that of no launch"),
    ("x.npy", np.zeros((64, 48)), "has shape (64, 48), which is that of no launch"),
    ("x.npy", np.zeros(48 * 64), "is no real matrix; give [rows, columns] or [prompts, rows, columns] of numbers"),
    ("x.npy", np.zeros((48, 0)), "is no real matrix"),
    ("x.npy", np.zeros((48, 64), complex), "is no real matrix"),
    ("x.npy", np.full((48, 64), np.nan), "has nan at (0, 0); every value must be finite"),
    ("x.npy", np.diag([1, np.inf]), "has inf at (1, 1); every value must be finite"),
    ("x.npy", np.full((48, 64), 1e60), "layer1.qkv: the activation's norm is beyond binary32"),
    ("x.npy", np.full((48, 64), 1e-60), "layer1.qkv: the activation's norm is too small for binary32"),
    (
        "x.npz",
        {"layer2.qkv": np.zeros((48, 64))},
        "has no array for a launch of the program; the launches are: layer1.qkv",
    ),
    (
        "x.npz",
        {"layer1.qkv": np.zeros((48, 65))},
        "layer1.qkv has shape (48, 65); the program takes layer1.qkv 48 x 64",
    ),
    ("x.npz", {"layer1.qkv": np.full((48, 64), np.nan)}, "layer1.qkv has nan at (0, 0)"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[message[:40] for *_, message in WRONG])
def test_input_that_does_not_fit(
    one_layer: Path, tmp_path: Path, mistake: Callable[..., str], name: str, value: Any, message: str
) -> None:
    if isinstance(value, dict):
        np.savez(tmp_path / name, **value)
    else:
        np.save(tmp_path / name, value)
    arguments = [str(one_layer), "--input", str(tmp_path / name), "--stats", str(tmp_path / "stats.json")]
    assert message in mistake("sim", *arguments)
    assert not (tmp_path / "stats.json").exists()


def test_input_that_is_no_array(one_layer: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    def error(name: str) -> str:
        return mistake("sim", str(one_layer), "--input", str(tmp_path / name))

    assert f"error: cannot read {tmp_path}/none.npy: No such file" in error("none.npy")
    (tmp_path / "text.npy").write_text("1 2 3\n")
    assert "text.npy is no NumPy file, or it is damaged" in error("text.npy")
    (tmp_path / "empty.npz").write_bytes(b"")
    assert "empty.npz is no NumPy file, or it is damaged" in error("empty.npz")
    np.savez(tmp_path / "x.npz", **{"layer1.qkv": matrix(48, 64)})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:5000])
    assert "cut.npz is no NumPy file, or it is damaged" in error("cut.npz")
    (tmp_path / "named.npy").write_bytes((tmp_path / "x.npz").read_bytes())
    assert "named.npy holds named arrays; give it the ending .npz" in error("named.npy")
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    assert "x.npy is no NumPy file, or it is damaged" in error("x.npy")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_archives_give_one_line(
    one_layer: Path, tmp_path: Path, mistake: Callable[..., str], compressed: bool
) -> None:
    """Whatever byte is wrong: an error of one line, or an archive that happens to be whole."""
    path = tmp_path / "x.npz"
    (np.savez_compressed if compressed else np.savez)(path, **{"layer1.o": np.arange(48.0).reshape(6, 8)})
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        mistake("sim", str(one_layer), "--input", str(path))


def test_mistakes(one_layer: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert mistake("sim", str(one_layer), "--seed", "-1") == "error: seed -1 is negative; give 0 or more\n"
    error = mistake("sim", str(one_layer), "--timing-only", "--input", "x.npy")
    assert error == "error: timing alone needs no input; leave one of them out\n"
    assert "error: unknown machine 'none'" in mistake("sim", str(one_layer), "--machine", "none")
    assert "unrecognized arguments: --sead" in mistake("sim", str(one_layer), "--sead", "1")
    missing = mistake("sim", str(tmp_path / "none.bin"))
    assert missing.startswith(f"error: cannot read {tmp_path}/none.bin: No such file")
    (tmp_path / "text.bin").write_text("module {}\n")
    assert "text.bin" in mistake("sim", str(tmp_path / "text.bin"))
    error = mistake("sim", str(one_layer), "--timing-only", "--stats", str(tmp_path / "none" / "stats.json"))
    assert error.startswith(f"error: cannot write {tmp_path}/none/stats.json: No such file or directory")


def test_a_runaway_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    """Two nested loops of 32,767 turns around four instructions."""
    source, path = tmp_path / "runaway.s", tmp_path / "runaway.bin"
    text = (Path(__file__).parent / "Inputs" / "two_kernels.s").read_text()
    body = "    loop 32767, end\n    loop 32767, end\n" + "    addi r3, r3, 16\n" * 4
    source.write_text(text.replace("    addi r3, r3, 16\n", body, 1))
    assert main(["asm", str(source), "-o", str(path)]) == 0
    for command in ("sim", "profile"):
        assert main([command, str(path)]) == 1
        error = capsys.readouterr().err
        assert "kernel multiply: error: the stream issues more than " in error
        assert "look for a runaway loop, or raise --max-instructions" in error
    assert "'0' is no number of instructions from 1 to" in mistake("sim", str(path), "--max-instructions", "0")


def test_a_count_that_grows_with_the_turn_is_counted(tmp_path: Path, mistake: Callable[..., str]) -> None:
    """A triangular loop: 0 + 1 + … + 299 instructions in its inner turns, none in the first."""
    source, path = tmp_path / "triangle.s", tmp_path / "triangle.bin"
    text = (Path(__file__).parent / "Inputs" / "two_kernels.s").read_text()
    body = "    li r9, 0\n    loop 300, end\n    loop r9, inner\n    li r8, 1\ninner:\n    addi r9, r9, 1\n"
    source.write_text(text.replace("    addi r3, r3, 16\n", body, 1))
    assert main(["asm", str(source), "-o", str(path)]) == 0
    for options in ([], ["--timing-only"]):
        error = mistake("sim", str(path), *options, "--max-instructions", "44000")
        assert "kernel multiply: error: the stream issues more than 44,000 instructions" in error


def test_what_comes_after_an_exit_is_counted(tmp_path: Path, mistake: Callable[..., str]) -> None:
    """Without data no exit is taken, and the stream is short."""
    source, path = tmp_path / "exit.s", tmp_path / "exit.bin"
    text = (Path(__file__).parent / "Inputs" / "two_kernels.s").read_text()
    body = (
        "    s.li s1, 1.0\n    exit.ngt s1, s1, long\n    halt\nlong:\n    loop 300, end\n    addi r3, r3, 16\nend:\n"
    )
    first, last = text.index("    ld [r0+0x100]"), text.index("    halt")
    without_data = text[last : text.index(".activation")] + text[text.index(".host") :]
    source.write_text(text[:first] + body + without_data)
    assert main(["asm", str(source), "-o", str(path)]) == 0
    for engine in ("reference", "fast"):
        options = ["--engine", engine, "--max-instructions"]
        error = mistake("sim", str(path), *options, "303")
        message = (
            "kernel multiply: error: layer1.down: the stream issues more than 303 instructions; look for a runaway"
        )
        assert message in error
        assert main(["sim", str(path), *options, "304"]) == 0
    assert main(["sim", str(path), "--timing-only", "--max-instructions", "4"]) == 0


def test_allowed_instructions(one_layer: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    longest = max(entry["instructions"] for entry in simulated(one_layer, tmp_path)["decompositions"])
    simulated(one_layer, tmp_path, "--timing-only", "--max-instructions", str(longest))
    error = mistake("sim", str(one_layer), "--max-instructions", str(longest - 1))
    assert f"issues more than {longest - 1:,} instructions" in error


def test_groups_give_the_factors_of_the_grid(tiny_ir: Path, tmp_path: Path) -> None:
    """Token blocks are spread over groups of clusters unless the mapping says otherwise, and take less time for it."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for mapping in ("auto", "grid", "column"):
        output = tmp_path / f"{mapping}.bin"
        arguments = [
            "compile",
            str(tiny_ir),
            "--decompose-layers",
            "1",
            "--rank",
            "3",
            "--block",
            "8",
            "-o",
            str(output),
        ]
        assert main([*arguments, "--mapping", mapping]) == 0
        assert read_program(str(output)).options["mapping"] == mapping
        entries[mapping] = simulated(output, tmp_path)["decompositions"]
    for auto, grid, column in zip(*entries.values(), strict=True):
        assert auto["prompts"] == 6
        for other in (auto, column):
            assert other["relative_error"] == pytest.approx(grid["relative_error"], rel=0.02, abs=1e-3)
            assert other["cycles"] < grid["cycles"]
        assert auto["cycles"] <= column["cycles"]
