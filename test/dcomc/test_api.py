"""The Python API: what the README and the package's docstring show, beside the command line that calls the same."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import words
from xdsl.dialects.builtin import ModuleOp

import dcomc
from dcomc.cli import main
from dcomc.container import program_bytes
from dcomc.ir import print_module
from dcomc.texts import squad_article

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module(model: Path) -> ModuleOp:
    return dcomc.trace(model, seq_len=16, batch=2)


@pytest.fixture(scope="module")
def program(module: ModuleOp) -> dcomc.Program:
    return dcomc.compile(module, decompose_layers=[2, 1], sites=["qkv", "down"], rank=4, iterations=6)


def test_it_makes_what_the_command_line_makes(
    model: Path, module: ModuleOp, program: dcomc.Program, tmp_path: Path
) -> None:
    traced, compiled = tmp_path / "model.mlir", tmp_path / "prog.bin"
    assert main(["trace", str(model), "--seq-len=16", "--batch=2", "-o", str(traced)]) == 0
    assert traced.read_text(encoding="utf-8") == print_module(module)
    options = ["--decompose-layers=1,2", "--sites=qkv,down", "--rank=4", "--iterations=6"]
    assert main(["compile", str(traced), *options, "-o", str(compiled)]) == 0
    again = dcomc.compile(traced, [1, 2], sites=("qkv", "down"), rank=4, iterations=6)
    assert again.options["source"] == "model.mlir"
    assert program_bytes(again) == compiled.read_bytes()
    assert (program.kernels, program.launches, program.host) == (again.kernels, again.launches, again.host)


def test_compiling_leaves_the_module_as_it_is(module: ModuleOp) -> None:
    before = print_module(module)
    first, second = (dcomc.compile(module, [1], rank=rank) for rank in (2, 3))
    assert print_module(module) == before
    assert [launch.rank for launch in (*first.launches, *second.launches)] == [2] * 4 + [3] * 4


def test_lowering_stops_at_a_level(module: ModuleOp) -> None:
    lowered = dcomc.lower(module.clone(), dcomc.Decomposition((1,), rank=2), level="dcom")
    names = {op.name for op in lowered.walk()}
    assert "dcom.decompose" in names and not any(name.startswith(("cluster.", "isa.")) for name in names)


def test_a_program_is_saved_and_loaded(program: dcomc.Program, tmp_path: Path) -> None:
    program.save(tmp_path / "prog.bin")
    assert dcomc.load(tmp_path / "prog.bin") == program
    with pytest.raises(dcomc.DcomError, match="cannot write"):
        program.save(tmp_path / "none" / "prog.bin")


def test_simulation(program: dcomc.Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulation = program.simulate(seed=3)
    assert [result.launch.key for result in simulation.launches] == [
        f"layer{layer}.{site}" for layer in (1, 2) for site in ("qkv", "down")
    ]
    assert simulation.cycles == program.simulate(timing_only=True).cycles > 0
    assert simulation.seconds == simulation.cycles / 1e9
    capsys.readouterr()
    stats = tmp_path / "stats.json"
    program.save(tmp_path / "prog.bin")
    assert main(["sim", str(tmp_path / "prog.bin"), "--seed=3", "--stats", str(stats)]) == 0
    assert json.loads(stats.read_text()) == {**simulation.to_json(), "options": json.loads(json.dumps(program.options))}


def test_simulation_of_arrays_and_of_a_file_of_them(program: dcomc.Program, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        launch.key: rng.standard_normal((2, 16, 64 if launch.site == "qkv" else 160)) for launch in program.launches
    }
    np.savez(tmp_path / "x.npz", **{key: array.reshape(32, -1) for key, array in arrays.items()})
    given, read = program.simulate(arrays), program.simulate(tmp_path / "x.npz")
    assert [r.relative_error for r in given.launches] == [r.relative_error for r in read.launches]
    one = program.simulate(arrays["layer1.qkv"])
    assert one.launches[0].relative_error == given.launches[0].relative_error
    assert {result.source for result in one.launches} == {"the input", "made from seed 0"}


@pytest.mark.parametrize(
    "wrong", [np.full((32, 64), np.nan), np.zeros(64), np.zeros((3, 3)), {"layer1.o": np.zeros((32, 64))}]
)
def test_arrays_that_do_not_fit(program: dcomc.Program, wrong: "np.ndarray | dict[str, np.ndarray]") -> None:
    with pytest.raises(dcomc.DcomError, match="the input"):
        program.simulate(wrong)


def test_running_beside_the_dense_model(
    model: Path, program: dcomc.Program, capsys: pytest.CaptureFixture[str]
) -> None:
    result = program.run(model, words(39), decompose_with="float32", controls=False)
    assert result.dense.tokens == 39 and result.windows == 2 and not result.controls
    assert result.ratio == result.program.perplexity / result.dense.perplexity
    assert set(result.inputs) == {launch.key for launch in program.launches}
    printed = capsys.readouterr()
    assert not printed.out and not printed.err


def test_a_model_in_memory(model: Path, module: ModuleOp, program: dcomc.Program) -> None:
    """It is traced and run like its folder, and stays as it is."""
    import torch
    import transformers

    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded.train()
    assert print_module(dcomc.trace(loaded, seq_len=16, batch=2)) == print_module(module)
    text, options = words(39), {"decompose_with": "float32", "controls": False}
    from_folder, from_memory = (program.run(whole, text, **options).ratio for whole in (model, loaded))
    assert from_folder == from_memory and loaded.training
    assert abs(program.run(loaded.half(), text, **options).ratio / from_folder - 1) < 0.01
    assert loaded.dtype == torch.float16
    made = transformers.LlamaForCausalLM(loaded.config)
    made.config.name_or_path = ""
    with pytest.raises(dcomc.DcomError, match="LlamaForCausalLM comes from no folder with a tokenizer"):
        program.run(made, text)
    with pytest.raises(dcomc.DcomError, match="Linear is no model of transformers"):
        dcomc.trace(torch.nn.Linear(2, 2))


def test_what_a_function_says_of_a_mistake(module: ModuleOp, program: dcomc.Program) -> None:
    for match, mistake in (
        ("layer 9 does not exist", lambda: dcomc.compile(module, [9])),
        ("rank", lambda: dcomc.compile(module, [1], rank=0)),
        ("batch 0 is out of range", lambda: dcomc.trace("tiny", batch=0)),
        ("has no weights", lambda: program.run("tiny", "a b")),
        ("cannot read none.bin", lambda: dcomc.load("none.bin")),
    ):
        with pytest.raises(dcomc.DcomError, match=match):
            mistake()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": "4"}, "rank is '4'; give an integer"),
        ({"block": 2.5}, "block is 2.5; give an integer"),
        ({"outliers": [3]}, "outliers is \\[3\\]; give a number, or a thresholds TOML file"),
        ({"outliers": None}, "outliers is None; give a number"),
        ({"outliers": ""}, "outliers is ''; give a number"),
        ({"outliers": True}, "outliers is True; give a number"),
        ({"exact_rows": None}, "exact_rows is None; give a number"),
        ({"seed": None}, "seed is None; give an integer"),
        ({"rank": True}, "rank is True; give an integer"),
        ({"streams": 2}, "streams is 2; give a word"),
        ({"mapping": None}, "mapping is None; give a word"),
        ({"decompose_layers": [1.0]}, "decompose_layers has 1.0; give numbers of layers"),
        ({"exact_rows": "1"}, "exact_rows is '1'; give a number"),
        ({"sites": [1]}, "sites has 1; give names, such as 'qkv'"),
        ({"decompose_layers": 1}, "decompose_layers is 1; give a sequence, such as"),
        ({"sites": "qkv"}, "sites is the text 'qkv'; give a sequence"),
    ],
)
def test_values_of_another_type(tiny_ir: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(dcomc.DcomError, match=message):
        dcomc.compile(tiny_ir, **options)


def readme_block(first: str) -> str:
    """The Python of the README that begins with an import of `first`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if block.split()[1] == first)
    return code


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in a folder of its own."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def test_the_session_of_the_readme(tmp_path: Path) -> None:
    """Every line of it, on real weights."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "article.txt").write_text(squad_article(27), encoding="utf-8")
    result = run_in(tmp_path, readme_block("pathlib"))
    cycles, ratio = result.stdout.split()
    assert int(cycles) > 100_000 and 1 < float(ratio) < 2 and not result.stderr


def test_the_readme_s_model_of_transformers(tmp_path: Path, model: Path) -> None:
    """The same lines, on a model of two layers."""
    code = readme_block("dcomc.hf").replace("path/to/llama", str(model)).replace("(14, 18, 24, 26)", "(0, 1)")
    run_in(tmp_path, code.replace("rank=10", "rank=4"))
    assert (tmp_path / "decomposed" / "config.json").is_file()


def test_every_public_name_is_there_and_no_other() -> None:
    assert set(dcomc.__all__) <= set(dir(dcomc))
    assert all(getattr(dcomc, name).__doc__ for name in dcomc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compiel'"):
        dcomc.__getattr__("compiel")


def test_importing_is_light() -> None:
    """Nothing but the standard library, in well under a tenth of a second."""
    script = (
        "import sys, time; start = time.process_time(); import dcomc; took = time.process_time() - start\n"
        "print(took, *{name.partition('.')[0] for name in sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    took, *modules = output.split()
    assert float(took) < 0.1
    assert not {"torch", "transformers", "numpy", "xdsl", "rich"} & set(modules)
