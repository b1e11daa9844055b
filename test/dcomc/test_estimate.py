"""`dcomc estimate`: the list schedule, what overlaps, memory, and the command."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_layer import llama_layer
from xdsl.dialects.builtin import ModuleOp

import dcomc
from dcomc.cli import main
from dcomc.dcom_times import program_seconds
from dcomc.estimate import Event, Options, Run, estimate
from dcomc.gpu_model import LanczosWork
from dcomc.host_kernels import module_steps, weight_bytes
from dcomc.host_memory import memory
from dcomc.ir import parse_module
from dcomc.list_schedule import Task, schedule
from dcomc.model import resolve_model
from dcomc.pipeline import Decomposition, WeightDecomposition
from dcomc.timeline import print_timeline
from passes._sites import module_size
from runtime.gpu import load_gpu
from runtime.machine import Grid, load_machine, machine_file

A100 = load_gpu("a100-80gb")
A100_FILE = Path(dcomc.__file__).parent / "configs" / "gpus" / "a100-80gb.toml"


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    count = draw(st.integers(1, 12))
    return [
        Task(
            draw(st.sampled_from("abc")),
            draw(st.integers(0, 5)),
            tuple(draw(st.lists(st.integers(0, number - 1), max_size=3))) if number else (),
        )
        for number in range(count)
    ]


@given(task_lists())
def test_a_schedule_keeps_needs_and_resources_and_is_within_its_bounds(tasks: list[Task]) -> None:
    made = schedule(tasks)
    for number, task in enumerate(tasks):
        assert made.ends[number] == made.starts[number] + task.seconds
        assert all(made.ends[need] <= made.starts[number] for need in task.needs)
        for other in range(number):
            if tasks[other].resource == task.resource:
                assert made.ends[other] <= made.starts[number] or made.ends[number] <= made.starts[other]
    busy = [sum(task.seconds for task in tasks if task.resource == name) for name in "abc"]
    assert max(busy) <= made.seconds <= sum(busy)


def test_the_longest_way_goes_first() -> None:
    tasks = [Task("a", 1), Task("a", 1), Task("b", 5, (1,))]
    assert schedule(tasks).seconds == 6
    assert schedule([]).seconds == 0


@pytest.fixture(scope="module")
def program() -> dcomc.Program:
    return dcomc.compile(llama_layer(512, layers=2), [1], rank=10)


def runs(program: dcomc.Program, factor: float, batch: int = 8) -> dict[str, Run]:
    """The variants where a D-com takes `factor` of what the dense layer does."""
    module = parse_module(program.host, "host")

    def seconds(work: LanczosWork, layer: int | None, site: str) -> float:
        return factor * 1e-3 * work.matrices

    return {run.variant: run for run in estimate(module, 1, seconds, Options(A100, 4, batch, graph=True))}


def test_a_slow_decomposer_is_what_the_model_waits_for_and_a_fast_one_hides(program: dcomc.Program) -> None:
    slow, fast = runs(program, 100.0), runs(program, 0.001)
    assert slow["dcom"].busy("D-com") == pytest.approx(8 * 4 * 0.1)
    assert slow["dcom"].seconds > slow["dcom"].busy("D-com")
    assert slow["dcom"].busy("D-com") / slow["dcom"].seconds > 0.95
    assert fast["dcom"].seconds < fast["dense"].seconds < fast["gpu"].seconds
    for run in (*slow.values(), *fast.values()):
        assert run.fastest < run.seconds < run.slowest
        assert 8 % run.parts == 0


@cache
def traced(batch: int) -> ModuleOp:
    return dcomc.trace("tiny", seq_len=64, batch=batch)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block": 16},
        {"gram_schmidt": "modified", "reorthogonalisation": 1, "start": "mean"},
        {"mapping": "8x8", "streams": "2x1"},
        {"mapping": "cluster", "config": 'rank = 3\n[sites.o]\nmapping = "column"\n'},
        {"machine": replace(load_machine("dcom-16x16"), name="mine", grid=Grid(8, 16))},
    ],
    ids=("defaults", "block", "modified", "streams", "config", "machine"),
)
def test_a_d_com_takes_as_long_as_the_model_compiled_for_as_many_prompts(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Also where the machine, or the config, is a file that the program does not hold."""
    if "config" in options:
        (tmp_path / "sites.toml").write_text(options["config"])
        options = {**options, "config": tmp_path / "sites.toml"}
    if "machine" in options:
        with machine_file(options["machine"]) as file:
            options = {**options, "machine": copy(file, tmp_path)}

    def compiled(batch: int) -> dcomc.Program:
        return dcomc.compile(traced(batch), [1], sites=["qkv", "o"], rank=4, **options)

    own = compiled(2)
    own.save(tmp_path / "p.bin")
    made = dcomc.load(tmp_path / "p.bin")
    for batch, other in ((2, own), (24, compiled(24))):
        seconds = {site: dcom_busy(made, site, batch) for site in ("qkv", "o")}
        assert seconds == {
            each.launch.site: each.cycles / made.machine.clock.hz for each in other.simulate(timing_only=True).launches
        }


def dcom_busy(program: dcomc.Program, site: str, batch: int) -> float:
    """What a D-com takes for a site of layer 1 where all prompts of a batch come together."""
    module = parse_module(program.host, "host")
    works = {
        step.kernel.site: step.kernel.of_prompts(Fraction(batch, module_size(module, "batch"))).decomposition
        for step in module_steps(module)
        if step.layer == 1 and step.kernel.decomposition is not None
    }
    work = works[site]
    assert work is not None
    return program_seconds(program)(work, 1, site)


def test_short_prompts_stand_side_by_side_on_a_d_com(program: dcomc.Program) -> None:
    one, many = (dcom_busy(program, "qkv", batch) for batch in (1, 64))
    assert many < 0.8 * 64 * one


def test_parts_overlap_only_on_different_resources(program: dcomc.Program) -> None:
    run = runs(program, 1.0)["dcom"]
    assert run.parts > 1
    work = sum(run.busy(resource) for resource in run.resources)
    assert max(run.busy(resource) for resource in run.resources) < run.seconds < work
    decomposing = [event for event in run.events if event.resource == "D-com"]
    beside = [(e, d) for d in decomposing for e in run.events if e.resource == "GPU" and d.start < e.start < d.end]
    assert {event.part for event, _ in beside} == set(range(run.parts))
    own = {event.name for event, other in beside if event.part == other.part and event.layer == 1}
    assert own <= {"outlier_matmul", "exact_track"}, "only the exact track does not wait for the factors"


def test_memory_is_what_the_shapes_say() -> None:
    module = llama_layer(512)
    found = memory(module_steps(module), weight_bytes(module), 4, 1)
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    assert found.weights == 2 * (layer + 2 * 32000 * 4096 + 4096)
    assert found.kv_cache == 4 * 512 * 2 * 4096 * 2
    tokens = 4 * 512 * 2
    # The most: gate and up side by side with their product, and the residual.
    assert dict(found.layers)[0] == tokens * (3 * 11008 + 4096)
    assert found.outside >= tokens * 32000
    four = memory(module_steps(module), weight_bytes(module), 4, 4)
    assert four.kv_cache * 4 == found.kv_cache
    assert four.total < found.total


def test_weights_in_factors_count_as_dense_in_the_dense_model() -> None:
    traced = llama_layer(128, layers=2)
    weights = WeightDecomposition((1,), ("qkv", "down"), rank=16)
    lowered = dcomc.lower(traced.clone(), Decomposition((1,), rank=4, outliers=3.0, weights=weights), level="dcom")
    assert weight_bytes(lowered, dense=True) == weight_bytes(traced) == weight_bytes(traced, dense=True)
    of_factors = sum(2 * (rows * 16 + 16 * cols) for rows, cols in (*((4096, 4096),) * 3, (11008, 4096)))
    saved = 2 * (3 * 4096 * 4096 + 11008 * 4096) - of_factors
    assert weight_bytes(lowered) == pytest.approx(weight_bytes(traced) - saved, abs=4 * 4 * 16 * 16)


def test_another_length_of_a_model_from_a_folder_is_made_with_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    folder, stats = tmp_path / "mine", tmp_path / "stats.json"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(resolve_model("tiny").config()))
    program = dcomc.compile(dcomc.trace(folder, 32), [1], rank=3, reuse=["o"], sites=["qkv", "o"])
    program.save(tmp_path / "p.bin")
    arguments = ["estimate", str(tmp_path / "p.bin"), "--seq-len", "64"]
    assert main(arguments) == 1
    assert "give --model" in capsys.readouterr().err
    for unused in ([], ["--seq-len", "32"]):
        assert main(["estimate", str(tmp_path / "p.bin"), "--model", "smollm2-135m", *unused]) == 1
        assert "the program is of 'mine', and 'smollm2-135m' differs from it: " in capsys.readouterr().err
        assert main(["estimate", str(tmp_path / "p.bin"), "--model", str(folder), *unused]) == 0
        assert "1 prompt of 32 tokens" in capsys.readouterr().out
    for wrong, message in (
        (["--model", "none"], "error: no model folder, GGUF file or preset 'none'; "),
        (["--model", "smollm2-135m"], "the program is of 'mine', and 'smollm2-135m' differs from it: "),
        (["--model", str(folder), "--seq-len", "99999"], "cannot be made anew: seq-len 99999 is out of range; it goes"),
    ):
        error = mistake(*arguments, *wrong)
        assert message in error and "give --model" not in error
    assert main([*arguments, "--model", str(folder), "--stats", str(stats)]) == 0
    assert "1 prompt of 64 tokens" in capsys.readouterr().out
    options = json.loads(stats.read_text())["options"]
    assert options["model"]["seq_len"] == 64
    assert {name: options[name] for name in ("rank", "reuse", "sites")} == {
        name: program.options[name] for name in ("rank", "reuse", "sites")
    }


def test_another_length_of_a_program_with_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, file, stats = tmp_path / "sites.toml", tmp_path / "p.bin", tmp_path / "stats.json"
    config.write_text("rank = 3\n[sites.o]\nblock = 16\n")
    dcomc.compile(traced(1), [1], sites=["qkv", "o"], config=config).save(file)
    arguments = ["estimate", str(file), "--seq-len"]
    for wrong, message in (
        (["32"], "a file that it does not hold; give that file, sites.toml, by --config, or trace and compile"),
        (["32", "--config", str(config), "--outliers", str(config)], "compiled without a file by --outliers; leave"),
        (["64", "--config", str(config)], "--config is of use for another --seq-len alone; "),
        (["32", "--config", str(config), "--json", str(config)], f"cannot write {config}: it is read, too"),
    ):
        assert main([*arguments, *wrong]) == 1
        assert message in capsys.readouterr().err
    assert main([*arguments, "8", "--config", str(config)]) == 1
    assert re.match(rf"{config}:3: error: .* made anew: block 16 is not between 1 and", capsys.readouterr().err)
    assert main([*arguments, "32", "--config", str(config), "--json", str(stats)]) == 0
    assert "1 prompt of 32 tokens" in capsys.readouterr().out
    anew, own = json.loads(stats.read_text()), tmp_path / "own.json"
    dcomc.compile(dcomc.trace("tiny", 32), [1], sites=["qkv", "o"], config=config).save(file)
    assert main(["estimate", str(file), "--json", str(own)]) == 0
    assert anew["variants"] == json.loads(own.read_text())["variants"]
    dcomc.compile(traced(1), [1], rank=3).save(file)
    assert main([*arguments, "32", "--config", str(config)]) == 1
    assert "error: the program was compiled without a file by --config; leave it out" in capsys.readouterr().err


def test_another_length_of_a_program_with_a_thresholds_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., str]
) -> None:
    """The table is the one that is given, not what has its name in the working folder."""
    table, other, file = tmp_path / "table.toml", tmp_path / "here" / "table.toml", tmp_path / "p.bin"
    table.write_text("capacity_percent = 5.0\nmin_tokens_percent = 1.0\n[thresholds.1]\no = 2.123456789\n")
    other.parent.mkdir()
    other.write_text(table.read_text().replace("2.1", "3.1"))
    dcomc.compile(traced(1), [1], sites=["o"], rank=3, outliers=table).save(file)
    monkeypatch.chdir(other.parent)
    error = mistake("estimate", file, "--seq-len", "32")
    assert "what --outliers gave is in a file that it does not hold; give that file, table.toml, by --outliers" in error
    error = mistake("estimate", file, "--seq-len", "32", "--outliers", other)
    assert (
        "cannot be made anew: other decompositions would come of it; give the files that it was compiled with, or"
        in error
    )
    assert main(["estimate", str(file), "--seq-len", "32", "--outliers", str(table)]) == 0


def test_the_command_prints_all_and_writes_statistics_and_a_trace(
    program: dcomc.Program, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file, stats, trace = tmp_path / "p.bin", tmp_path / "stats.json", tmp_path / "trace.json"
    program.save(file)
    arguments = ["estimate", str(file), "--tp", "4", "--batch", "4", "--stats", str(stats), "--timeline", str(trace)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "4 x a100-80gb" in out and "tokens, weights of 16 bits; decomposed" in out
    assert "decomposed with D-com" in out and "timeline of layer 1" in out
    document = json.loads(stats.read_text())
    assert document["gpu"] == {"name": "a100-80gb", "hash": A100.hash, "tensor_parallel": 4}
    seconds = {name: run["seconds"] for name, run in document["variants"].items()}
    assert seconds["gpu"] > seconds["dense"]
    events = json.loads(trace.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {"dense", "gpu", "dcom"}
    ends = [event["ts"] + event["dur"] for event in events if event["ph"] == "X" and event["pid"] == "dcom"]
    assert max(ends) == pytest.approx(1e6 * seconds["dcom"])


@pytest.mark.parametrize(
    ("gpus", "capacity", "ending"),
    [
        (1, "1_600_000_000", None),
        (1, "500_000_000", "which the times do not count; --tp 4 has room\n"),
        (4, "500_000_000", None),
        (4, "40_000_000", "give fewer prompts by --batch, or shorter ones by --seq-len\n"),
    ],
)
def test_a_batch_beyond_the_memory_of_a_gpu_is_a_warning(
    program: dcomc.Program,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    gpus: int,
    capacity: str,
    ending: str | None,
) -> None:
    gpu, count = re.subn(r"(?m)^memory_bytes = \S+", f"memory_bytes = {capacity}", A100_FILE.read_text("utf-8"))
    assert count == 1
    (tmp_path / "small.toml").write_text(gpu, encoding="utf-8")
    program.save(tmp_path / "p.bin")
    assert main(["estimate", str(tmp_path / "p.bin"), "--gpu", str(tmp_path / "small.toml"), "--tp", str(gpus)]) == 0
    error = capsys.readouterr().err
    if ending is None:
        assert not error
    else:
        assert re.match(
            r"warning: the whole batch needs more than the \S+ MiB of a GPU's memory \(dense \S+ [MG]iB, ", error
        )
        assert error.endswith(ending) and error.count("\n") == 1


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_the_timeline_is_no_wider_than_the_console(
    program: dcomc.Program, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_timeline(runs(program, 1.0)["dcom"], 1)
    lines = capsys.readouterr().out.splitlines()
    bars = [line for line in lines if line.endswith("|")]
    assert max(map(len, lines)) <= columns
    assert {len(bar) for bar in bars} == {min(columns, 111)} and {bar.split()[0] for bar in bars} == {"GPU", "D-com"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch 0 is too small; give 1 or more"),
        (["--batch", "1" + 20 * "0"], "--batch 100000000000000000000 is too large; give 1,000,000 or fewer"),
        (["--seq-len", "0"], "--seq-len 0 is too small; give 1 or more"),
        (["--gpu", "v100"], "unknown gpu 'v100'"),
        (["--tp", "3"], "invalid choice"),
        (["--seq-len", "64"], "the program is for 512 tokens a prompt, and cannot be made anew"),
    ],
)
def test_mistakes_are_one_line(
    program: dcomc.Program, tmp_path: Path, mistake: Callable[..., str], arguments: list[str], message: str
) -> None:
    program.save(tmp_path / "p.bin")
    assert message in mistake("estimate", tmp_path / "p.bin", *arguments)


def test_a_gpu_that_is_no_toml_has_the_hint_of_one_that_is_not_there(
    program: dcomc.Program, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    program.save(tmp_path / "p.bin")
    (tmp_path / "gpu.json").write_text('{"name": "h100"}')
    error = mistake("estimate", tmp_path / "p.bin", "--gpu", tmp_path / "gpu.json")
    assert f"gpu.json:1:1: error: not TOML: Invalid statement; give a TOML file or one of: {A100.name}, " in error


def test_more_prompts_than_a_stream_may_take(tmp_path: Path, mistake: Callable[..., str]) -> None:
    options: dict[str, Any] = {"mapping": "2x2", "streams": "2x2", "machine": "edge-4x4"}
    dcomc.compile(traced(1), [1], sites=["o"], **options).save(tmp_path / "p.bin")
    error = mistake("estimate", tmp_path / "p.bin", "--batch", 1_000_000)
    assert "error: the stream issues more than 100,000,000 instructions; give fewer prompts by --batch\n" in error


def test_a_program_whose_layers_are_all_decomposed_has_nothing_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dcomc.compile(llama_layer(512), [0], rank=4).save(tmp_path / "p.bin")
    assert main(["estimate", str(tmp_path / "p.bin")]) == 1
    assert "every layer is decomposed" in capsys.readouterr().err


def test_layers_that_do_the_same_take_the_same_whenever_they_begin() -> None:
    begins = [0.0, 0.1, 1 / 3, 7.7]
    events = [Event("GPU", "a", layer, "qkv", 0, begin, begin + 0.01605) for layer, begin in enumerate(begins)]
    run = Run("gpu", 1, 1.0, 1.0, 1.0, tuple(events))
    assert len({event.end - event.start for event in events}) > 1
    assert [(run.work(layer), run.span(layer)) for layer in range(4)] == [({"GPU": 0.01605}, 0.01605)] * 4


def test_of_a_dense_program_there_is_no_table_of_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    dcomc.compile(llama_layer(64)).save(tmp_path / "p.bin")
    assert main(["estimate", str(tmp_path / "p.bin")]) == 0
    out = capsys.readouterr().out
    assert "decomposed: nothing" in out and "memory of a GPU" in out and "work of each layer" not in out


def test_wide_weights_are_said_to_be_slow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dcomc.compile(dcomc.trace("tiny", 64, 1, "f32")).save(tmp_path / "p.bin")
    assert main(["estimate", str(tmp_path / "p.bin")]) == 0
    assert "weights of 32 bits, multiplied at 1/16 of the peak rate of 16 bits; decomposed" in capsys.readouterr().out
