"""Weights in factors from a model to its run: numbers against transformers, files beside the program, mistakes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import save_model, words
from transformers import LlamaForCausalLM

import dcomc
from dcomc.cli import main
from dcomc.diagnostics import DcomError
from dcomc.model import resolve_model
from dcomc.pipeline import WeightDecomposition
from dcomc.statistics import Statistics
from dcomc.weights import SafetensorsWeights
from runtime.weight_factors import truncated, tucker2, whitened

TEXT = words(64, seed=3)
Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def traced(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traced") / "model.mlir"
    assert main(["trace", str(model), "--seq-len=16", "--batch=2", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def statistics(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two layers over 62 tokens, in prompts of 10 that the last of them does not fill."""
    folder = tmp_path_factory.mktemp("statistics")
    text, path = folder / "text.txt", folder / "moments.safetensors"
    text.write_text(TEXT)
    options = ["--text", str(text), "--layers=1,2", "--seq-len=10", "--max-tokens=62", "-o", str(path)]
    assert main(["statistics", str(model), *options]) == 0
    return path


@pytest.fixture
def compile(model: Path, traced: Path, tmp_path: Path) -> Compile:
    def compile(*options: str) -> Path:
        program = tmp_path / "prog.bin"
        assert main(["compile", str(traced), *weights_of(model, options), *options, "-o", str(program)]) == 0
        return program

    return compile


def weights_of(model: Path, options: Sequence[str]) -> list[str]:
    """The option that names the weights, where they are put into factors: for others `dcomc compile` refuses it."""
    factors = any(option.startswith(("--weight-rank", "--config")) for option in options)
    return [f"--model={model}"] if factors else []


def run(program: Path, model: Path, *options: str) -> dict[str, Any]:
    output = program.with_suffix(".json")
    command = ["run", str(program), "--model", str(model), "--prompt", TEXT, "--json", str(output)]
    assert main([*command, "--no-controls", *options]) == 0
    return json.loads(output.read_text())


def perplexity_with(model: Path, change: Callable[[torch.nn.Module], None]) -> float:
    """Of transformers' model after a change of its weights, over prompts of 16 tokens."""
    known = resolve_model(str(model))
    module: Any = known.torch_model("f32")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        change(module)
        ids = torch.tensor(known.tokenizer().encode(TEXT)).split(16)
        with torch.no_grad():
            losses = [
                torch.nn.functional.cross_entropy(module(prompt[None]).logits[0, :-1], prompt[1:], reduction="sum")
                for prompt in ids
            ]
        return float(torch.exp(sum(losses, torch.tensor(0.0)) / sum(len(prompt) - 1 for prompt in ids)))
    finally:
        module.load_state_dict(before)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_full_rank_is_the_dense_model(compile: Compile, model: Path, backend: str) -> None:
    program = compile("--weight-rank=64", "--weight-layers=1,2", "--weight-sites=o,gate_up,down")
    result = run(program, model, f"--backend={backend}")
    assert result["ratio"] == pytest.approx(1, abs=1e-5)
    assert result["max_logit_difference"] < 1e-3


@pytest.mark.parametrize(("dtype", "rounding"), [("f16", 2e-3), ("bf16", 2e-2)])
def test_weights_of_half_precision(model: Path, tmp_path: Path, dtype: str, rounding: float) -> None:
    """At full rank the program is the dense one; its factors are stored in half precision, but for the cores."""
    traced = tmp_path / "half.mlir"
    assert main(["trace", str(model), "--seq-len=16", f"--dtype={dtype}", "-o", str(traced)]) == 0

    def perplexity(name: str, *options: str) -> float:
        program = tmp_path / f"{name}.bin"
        assert main(["compile", str(traced), *weights_of(model, options), *options, "-o", str(program)]) == 0
        return run(program, model, "--decompose-with=float32")["perplexity"]

    weights = ("--weight-layers=1,2", "--weight-sites=o,down")
    dense = perplexity("dense")
    assert perplexity("full", "--weight-rank=64", *weights) == pytest.approx(dense, rel=rounding)
    stored = SafetensorsWeights(tmp_path / "full.weights.safetensors")
    kinds = {name.rpartition(".")[2]: tensor.dtype for name, tensor in stored.items()}
    assert kinds == {"u": np.float16, "core": np.float32, "v": np.float16}
    options = ("--weight-rank=6", "--weight-method=tucker2", "--weight-layers=1", "--decompose-layers=1", "--rank=4")
    both = perplexity("both", "--sites=qkv", *options)
    assert both != pytest.approx(dense, rel=rounding)
    wide = tmp_path / "wide.mlir"
    assert main(["trace", str(model), "--seq-len=16", "-o", str(wide)]) == 0
    traced = wide
    assert perplexity("wide", "--sites=qkv", *options) == pytest.approx(both, rel=10 * rounding)


@pytest.mark.parametrize("method", ["svd", "whitened", "tucker2"])
def test_a_run_equals_transformers_with_the_reconstructed_weights(
    compile: Compile, model: Path, statistics: Path, method: str
) -> None:
    """Weights alone: what the program computes is the model whose weights are the products of their factors."""
    calibrated = [f"--weight-statistics={statistics}"] if method == "whitened" else []
    program = compile(
        "--weight-rank=6", f"--weight-method={method}", "--weight-layers=1", "--weight-sites=qkv,down", *calibrated
    )
    moments = Statistics.read(str(statistics))

    def decompose(module: torch.nn.Module) -> None:
        layer: Any = module.get_submodule("model.layers.1")
        attention = layer.self_attn
        for site, stack in (
            ("qkv", [attention.q_proj]),
            ("qkv", [attention.k_proj, attention.v_proj]),
            ("down", [layer.mlp.down_proj]),
        ):
            matrices = [part.weight.detach().numpy().T for part in stack]
            if method == "tucker2":
                factors = tucker2(matrices, 6)
            elif method == "whitened":
                factors = [whitened(matrix, 6, moments.of(1, site, len(matrix))) for matrix in matrices]
            else:
                factors = [truncated(matrix, 6) for matrix in matrices]
            for part, found in zip(stack, factors, strict=True):
                part.weight.data = torch.from_numpy(found.reconstruct().T.astype(np.float32))

    expected = perplexity_with(model, decompose)
    result = run(program, model)
    assert result["perplexity"] == pytest.approx(expected, rel=1e-4)
    assert abs(result["ratio"] - 1) > 1e-3


def test_factors_times_factors_equal_factors_times_the_reconstructed_weights(
    compile: Compile, model: Path, tmp_path: Path
) -> None:
    """The paper's Eq. 7 in a whole model, beside Eq. 6 in a model whose weights are the products of their factors."""
    options = ["--decompose-layers=1,3", "--sites=qkv,o", "--rank=3", "--outliers=5", "--exact-rows=5"]
    program = compile(*options, "--weight-rank=6")
    host = dcomc.load(program).host
    assert "rank 3x6" in host
    assert "@model.layers.1.self_attn.q_proj.weight(" not in host
    result = run(program, model, "--decompose-with=float32")
    assert result["program"]["options"]["weights"] == {
        "layers": [1, 3],
        "sites": ["qkv", "o"],
        "rank": 6,
        "method": "svd",
        "statistics": None,
    }
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    module: Any = LlamaForCausalLM.from_pretrained(model)
    for layer in (1, 3):
        attention = module.model.layers[layer].self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            found = truncated(part.weight.detach().numpy(), 6).reconstruct()
            part.weight.data = torch.from_numpy(found.astype(np.float32))
    module.save_pretrained(changed)
    expected = run(compile(*options), changed, "--decompose-with=float32")
    assert result["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-4)
    simulated = run(compile(*options, "--weight-rank=6"), model, "--decompose-with=sim")
    assert simulated["perplexity"] == pytest.approx(expected["perplexity"], rel=2e-2)


def test_statistics_are_the_second_moments_of_the_inputs(model: Path, statistics: Path, tmp_path: Path) -> None:
    known = resolve_model(str(model))
    module: Any = known.torch_model("f32")
    seen: list[torch.Tensor] = []
    hook = module.model.layers[2].mlp.down_proj.register_forward_pre_hook(lambda _, x: seen.append(x[0][0]))
    with torch.no_grad():
        for prompt in torch.tensor(known.tokenizer().encode(TEXT)[:62]).split(10):
            module(prompt[None])
    hook.remove()
    x = torch.cat(seen).double().numpy()
    found = Statistics.read(str(statistics))
    assert (found.model, found.tokens) == (known.name, 62)
    assert sorted(found.moments) == [f"layer{n}.{site}" for n in (1, 2) for site in ("down", "gate_up", "o", "qkv")]
    assert np.abs(found.of(2, "down", 160) - x.T @ x).max() <= 1e-5 * np.abs(x.T @ x).max()
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    options = ["--layers=2", "--sites=down", "--diagonal", "--seq-len=10", "--max-tokens=62"]
    output = tmp_path / "diagonal.safetensors"
    assert main(["statistics", str(model), "--text", str(text), *options, "-o", str(output)]) == 0
    assert np.allclose(Statistics.read(str(output)).of(2, "down", 160), np.sum(x * x, 0), rtol=1e-4)
    with pytest.raises(DcomError, match="there are no statistics of site down of layer 3"):
        found.of(3, "down", 160)
    with pytest.raises(DcomError, match=r"shape \[64, 64\], but the site has 32 channels"):
        found.of(1, "o", 32)


def test_statistics_of_another_model_of_the_same_shape_are_refused(
    model: Path, traced: Path, statistics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_model(tmp_path / "other", seed=1)
    options = ["--weight-rank=6", "--weight-layers=1", "--weight-method=whitened", f"--weight-statistics={statistics}"]
    output = tmp_path / "prog.bin"
    for given, status in ((other, 1), (model, 0)):
        capsys.readouterr()
        assert main(["compile", str(traced), f"--model={given}", *options, "-o", str(output)]) == status
        assert output.exists() == (status == 0)
        if status:
            *_, error = capsys.readouterr().err.splitlines()
            assert error.startswith(f"{statistics}: error: the statistics are of another model, {model.name}: site qkv")
    older = tmp_path / "older.safetensors"
    older.write_bytes(statistics.read_bytes().replace(b"dcomc statistics 2", b"dcomc statistics 1"))
    with pytest.raises(DcomError, match="holds no statistics"):
        Statistics.read(str(older))


def test_whitening_is_better_on_the_text_it_knows(compile: Compile, model: Path, statistics: Path) -> None:
    options = ("--weight-rank=8", "--weight-layers=1,2")
    plain = run(compile(*options), model)
    calibrated = run(compile(*options, "--weight-method=whitened", f"--weight-statistics={statistics}"), model)
    assert calibrated["max_logit_difference"] < plain["max_logit_difference"]


def test_the_file_holds_what_the_program_asks_for(compile: Compile) -> None:
    program = compile("--weight-rank=5", "--weight-layers=2", "--weight-sites=qkv", "--weight-method=tucker2")
    stored = SafetensorsWeights(program.with_name("prog.weights.safetensors"))
    prefix = "model.layers.2.self_attn"
    assert {name: value.shape for name, value in stored.items()} == {
        f"{prefix}.q_proj.weight.u": (64, 5),
        f"{prefix}.q_proj.weight.core": (5, 5),
        f"{prefix}.q_proj.weight.v": (5, 64),
        f"{prefix}.k_proj.weight.u": (64, 5),
        f"{prefix}.k_proj.weight.core": (5, 5),
        f"{prefix}.k_proj.weight.v": (5, 32),
        f"{prefix}.v_proj.weight.core": (5, 5),
    }
    again = program.with_name("prog.weights.safetensors").read_bytes()
    compile("--weight-rank=5", "--weight-layers=2", "--weight-sites=qkv", "--weight-method=tucker2")
    assert program.with_name("prog.weights.safetensors").read_bytes() == again


def test_missing_foreign_and_damaged_files_are_one_line(
    compile: Compile, model: Path, mistake: Callable[..., str]
) -> None:
    options = ("--weight-layers=2", "--weight-sites=o")
    program = compile("--weight-rank=4", *options)
    file = program.with_name("prog.weights.safetensors")
    own = file.read_bytes()
    compile("--weight-rank=5", *options)
    foreign = file.read_bytes()
    program = compile("--weight-rank=4", *options)
    flipped = bytearray(own)
    flipped[-7] ^= 1
    for content, message in (
        (foreign, "the factors belong to another program"),
        (bytes(flipped), "the factors are damaged"),
        (own[:-9], "is not a valid safetensors file"),
        (b"", "is not a valid safetensors file"),
        (None, "cannot read"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        error = mistake("run", program, f"--model={model}", f"--prompt={TEXT}")
        assert message in error and str(file) in error
    file.write_bytes(own)
    assert run(program, model)["ratio"] > 0


def test_a_config_gives_ranks_and_methods_by_layer_and_site(
    compile: Compile, model: Path, traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sites.toml"
    config.write_text(
        """
        [sites.qkv]
        weight_rank = 6
        weight_method = "tucker2"
        [layers.2.sites.qkv]
        weight_rank = 4
        weight_method = "svd"
        [layers.2.sites.down]
        weight_rank = 5
        """
    )
    options = ("--decompose-layers=1,2", "--sites=qkv,down", "--rank=3", f"--config={config}")

    def ranks(program: Path) -> dict[tuple[str, str], tuple[str, int]]:
        found = re.findall(
            r'layer = (\d) : i64, site = "(\w+)", method = "(\w+)".* rank (\d+)x', dcomc.load(program).host
        )
        return {(layer, site): (method, int(rank)) for layer, site, method, rank in found}

    alone = ranks(compile(*options))
    assert alone == {("1", "qkv"): ("tucker2", 6), ("2", "qkv"): ("svd", 4), ("2", "down"): ("svd", 5)}
    assert run(tmp_path / "prog.bin", model, "--decompose-with=float32")["ratio"] > 0
    everywhere = ranks(compile(*options, "--weight-rank=7"))
    assert everywhere == {**alone, ("1", "down"): ("svd", 7)}
    # The same by the Python interface, and from a dump.
    program = dcomc.compile(traced, [1, 2], sites=["qkv", "down"], rank=3, config=config, model=model)
    compile(*options, f"--dump-ir-dir={tmp_path / 'dumps'}")
    assert program.host == dcomc.load(tmp_path / "prog.bin").host
    (dump,) = (tmp_path / "dumps").glob("*decompose-weights.mlir")
    assert main(["compile", str(dump), f"--model={model}", *options, "-o", str(tmp_path / "again.bin")]) == 0
    assert dcomc.load(tmp_path / "again.bin").host == program.host
    for change, message in (
        ("weight_rank = 99", "error: weight rank 99 is not between 1 and 64"),
        ("weight_rank = 0", "error: no weight has a rank"),
        ('weight_method = "svd"', "--weight-sites needs --weight-rank"),
        ('weight_rank = 4\nweight_method = "whitened"', "error: no statistics given"),
        ("[layers.3]\nweight_rank = 4", "[layers.3] is not decomposed"),
    ):
        config.write_text(change + "\n")
        capsys.readouterr()
        command = ["compile", str(traced), f"--model={model}", "-o", str(tmp_path / "no.bin"), *options]
        assert main([*command, "--weight-sites=qkv"]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weight-rank=65", "--weight-layers=1"], "weight rank 65 is not between 1 and 64"),
        (["--weight-rank=4", "--weight-layers=9"], "layer 9 does not exist"),
        (["--weight-rank=4"], "--weight-rank has no layers; choose some by --weight-layers"),
        (["--weight-rank=4", "--weight-layers=x"], "--weight-layers: 'x' is no layer"),
        (["--weight-sites=o"], "--weight-sites needs --weight-rank"),
        (["--weight-rank=4", "--weight-layers=1", "--weight-method=pca"], "unknown method 'pca'"),
        (["--weight-rank=4", "--weight-layers=1", "--weight-method=whitened"], "no statistics given"),
        (["--weight-rank=4", "--weight-layers=1", "--model=tiny"], "the preset tiny has no weights"),
    ],
)
def test_mistakes_are_one_line(
    model: Path, traced: Path, tmp_path: Path, options: list[str], message: str, mistake: Callable[..., str]
) -> None:
    program = tmp_path / "prog.bin"
    assert message in mistake("compile", traced, f"--model={model}", *options, "-o", program)
    assert not list(tmp_path.iterdir())


def test_compiling_needs_neither_torch_nor_transformers(model: Path, traced: Path, tmp_path: Path) -> None:
    options = [f"--model={model}", "--weight-rank=4", "--weight-layers=1", "-o", str(tmp_path / "p.bin")]
    code = (
        f"import sys; from dcomc.cli import main; main({['compile', str(traced), *options]!r}); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_every_dump_goes_on_to_the_same_program(compile: Compile, model: Path, traced: Path, tmp_path: Path) -> None:
    options = ["--decompose-layers=2", "--sites=qkv", "--rank=4", "--weight-rank=6"]
    whole = compile(*options, f"--dump-ir-dir={tmp_path / 'dumps'}").read_bytes()
    dumps = sorted((tmp_path / "dumps").iterdir())
    (at,) = (position for position, dump in enumerate(dumps) if "dcom-decompose-weights" in dump.name)
    factors = (tmp_path / "prog.weights.safetensors").read_bytes()
    for dump in dumps[at - 1 : at + 2]:
        output = tmp_path / dump.with_suffix(".bin").name
        assert main(["compile", str(dump), f"--model={model}", *options, "-o", str(output)]) == 0
        assert dcomc.load(output).host == dcomc.load(tmp_path / "prog.bin").host
        assert output.with_suffix(".weights.safetensors").read_bytes() == factors
    assert (tmp_path / "prog.bin").read_bytes() == whole


def test_the_python_interface_does_the_same(compile: Compile, model: Path, traced: Path, tmp_path: Path) -> None:
    weights = WeightDecomposition(layers=(1,), sites=("o",), rank=5)
    program = dcomc.compile(traced, weights=weights, model=model)
    assert program.factors
    result = program.run(model, TEXT, controls=False)
    program.save(tmp_path / "api.bin")
    command = compile("--weight-rank=5", "--weight-layers=1", "--weight-sites=o")
    assert (tmp_path / "api.bin").read_bytes() == command.read_bytes()
    assert dcomc.load(tmp_path / "api.bin").run(model, TEXT, controls=False).ratio == result.ratio
    with pytest.raises(DcomError, match="no model given"):
        dcomc.compile(traced, weights=weights)


def test_a_program_with_weights_in_factors_is_estimated(
    compile: Compile, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    program = compile("--decompose-layers=1", "--rank=3", "--weight-rank=6", "--weight-layers=1,2")
    assert main(["estimate", str(program), "--gpu", "a100-80gb"]) == 0
    assert "memory of a GPU" in capsys.readouterr().out
