"""`dcomc run` on a small Llama with random weights: numbers against transformers, controls, files, mistakes."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import save_model, words

import dcomc
from dcomc.cli import main
from dcomc.model import resolve_model

SEQ_LEN = 16


@pytest.fixture(scope="module")
def compiled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trace and compile once for each set of options."""
    folder = tmp_path_factory.mktemp("programs")
    known: dict[tuple[str, ...], Path] = {}

    def compile(*options: str, batch: int = 2) -> Path:
        key = (str(batch), *options)
        if key not in known:
            source, known[key] = folder / f"batch{batch}.mlir", folder / f"{len(known)}.bin"
            if not source.exists():
                assert main(["trace", str(model), f"--seq-len={SEQ_LEN}", f"--batch={batch}", "-o", str(source)]) == 0
            assert main(["compile", str(source), *options, "-o", str(known[key])]) == 0
        return known[key]

    return compile


def run(program: Path, model: Path, folder: Path, text: str, *options: str) -> dict[str, Any]:
    (folder / "text.txt").write_text(text)
    output = folder / "run.json"
    arguments = ["run", str(program), "--model", str(model), "--text", str(folder / "text.txt"), "--json", str(output)]
    assert main([*arguments, *options]) == 0
    return json.loads(output.read_text())


def transformers_perplexity(model: Path, text: str) -> float:
    """Of prompts of SEQ_LEN tokens each, computed as anyone would."""
    import torch

    known = resolve_model(str(model))
    ids = torch.tensor(known.tokenizer().encode(text))
    module: Any = known.torch_model("f32")
    losses: list[float] = []
    for prompt in ids.split(SEQ_LEN):
        logits = module(prompt[None], use_cache=False).logits[0, :-1].double()
        losses += torch.nn.functional.cross_entropy(logits, prompt[1:], reduction="none").tolist()
    return math.exp(sum(losses) / len(losses))


def test_without_decomposition_the_program_is_the_dense_model(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = words(71)
    result = run(compiled(), model, tmp_path, text)
    assert result["tokens"] == 71
    assert result["dense_perplexity"] == pytest.approx(transformers_perplexity(model, text), rel=1e-5)
    assert result["ratio"] == pytest.approx(1, abs=1e-5)
    assert result["top1_agreement"] == 1
    assert 0 < result["max_logit_difference"] < 1e-4
    assert result["controls"] == {}
    printed = capsys.readouterr()
    assert f"{result['perplexity']:.3f}" in printed.out
    assert "71 tokens in 3 windows of 2 x 16; no layer is decomposed" in printed.err


def test_the_mean_as_start_is_the_same_to_all(model: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """By the simulator, by torch and by NumPy; a config says it as the command line does, of one site here."""
    options = ("--decompose-layers=1,2", "--sites=qkv,o", "--rank=1", "--iterations=3")
    config = tmp_path / "sites.toml"
    config.write_text('start = "mean"\n[sites.o]\nstart = "random"\n')
    program = compiled(*options, f"--config={config}")
    starts = re.findall(
        r'site = "(\w+)", iterations = 3 .*? seed = 0 : i64(, start = "mean")?', dcomc.load(program).host
    )
    assert [(site, bool(mean)) for site, mean in starts] == [("qkv", True), ("o", False)] * 2
    text = words(39)
    found = run(program, model, tmp_path, text)
    assert found["perplexity"] == pytest.approx(found["controls"]["float32"]["perplexity"], rel=0.02)
    in_numpy = run(program, model, tmp_path, text, "--decompose-with=float32", "--backend=numpy", "--no-controls")
    assert in_numpy["perplexity"] == pytest.approx(found["controls"]["float32"]["perplexity"], rel=1e-3)
    everywhere = dcomc.load(compiled(*options, "--start=mean"))
    assert everywhere.options["start"] == "mean"
    assert [kernel.seed for kernel in everywhere.kernels] == [None]


def test_modified_gram_schmidt_is_the_same_to_all(model: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """By the simulator, by torch and by NumPy, and to the model as classical is."""
    options = ("--decompose-layers=1,2", "--sites=qkv,o", "--rank=4", "--iterations=6")
    program = compiled(*options, "--gram-schmidt=modified")
    assert dcomc.load(program).host.count('gram_schmidt = "modified"') == 4
    assert all(kernel.name.endswith("_modified") for kernel in dcomc.load(program).kernels)
    text = words(39)
    found = run(program, model, tmp_path, text)
    assert found["perplexity"] == pytest.approx(found["controls"]["float32"]["perplexity"], rel=0.02)
    in_numpy = run(program, model, tmp_path, text, "--decompose-with=float32", "--backend=numpy", "--no-controls")
    assert in_numpy["perplexity"] == pytest.approx(found["controls"]["float32"]["perplexity"], rel=1e-3)
    classical = run(compiled(*options), model, tmp_path, text)
    assert classical["perplexity"] == pytest.approx(found["perplexity"], rel=0.02)


def test_decomposed_by_simulated_instructions(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last window holds one prompt of 7 tokens and one that is all padding."""
    program = compiled("--decompose-layers=1,2", "--sites=qkv,down", "--rank=4", "--iterations=6")
    activations = tmp_path / "activations.npz"
    result = run(program, model, tmp_path, words(39), "--save-activations", str(activations))
    assert (result["tokens"], result["windows"], result["decompose_with"]) == (39, 2, "sim")
    assert set(result["controls"]) == {"skip_layers", "rank_0", "float32"}
    assert result["perplexity"] == pytest.approx(result["controls"]["float32"]["perplexity"], rel=0.02)
    assert result["ratio"] == result["perplexity"] / result["dense_perplexity"]
    differences = [result, *result["controls"].values()]
    assert all(values["max_logit_difference"] > 0.1 for values in differences)
    assert len({values["perplexity"] for values in differences}) == 4
    description = result["program"]
    assert (description["layers"], description["sites"], description["ranks"]) == ([1, 2], ["qkv", "down"], [4])
    assert description["machine"]["name"] == "dcom-16x16"
    with np.load(activations) as saved:
        shapes = {name: saved[name].shape for name in saved}
    assert shapes == {
        f"layer{layer}.{site}": (32, {"qkv": 64, "down": 160}[site]) for layer in (1, 2) for site in ("qkv", "down")
    }
    printed = capsys.readouterr()
    for control in ("float32", "skip_layers", "rank_0"):
        assert f"{control} (control)" in printed.out
    assert "layers 1, 2, sites qkv, down, rank 4 decomposed by simulated instructions" in printed.err


def test_on_the_host_at_full_rank_the_program_is_nearly_dense(
    model: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Sixteen tokens have rank 16; the last of sixteen steps in float32 is mostly rounding, by any library."""
    program = compiled("--decompose-layers=1,2", "--rank=16", "--iterations=16")
    result = run(program, model, tmp_path, words(32), "--decompose-with", "float32")
    assert result["controls"]["float32"]["perplexity"] == result["perplexity"]
    assert result["ratio"] == pytest.approx(1, abs=1e-2)
    assert abs(result["controls"]["skip_layers"]["ratio"] - 1) > 0.2


def test_back_ends_agree(model: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    program = compiled("--decompose-layers=1,2", "--sites=qkv,down", "--rank=4", "--iterations=6")
    by: dict[str, Any] = {}
    for backend in ("numpy", "torch"):
        options = ("--decompose-with", "float32", "--backend", backend)
        by[backend] = run(program, model, tmp_path, words(39), *options)
        assert by[backend]["backend"] == {"library": backend, "device": "cpu"}
    values = [(result, *result["controls"].values()) for result in by.values()]
    for first, second in zip(*values, strict=True):
        assert first["perplexity"] == pytest.approx(second["perplexity"], rel=1e-4)


def test_a_prompt_without_controls(model: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    program = compiled("--decompose-layers=3", "--rank=2", batch=1)
    output = tmp_path / "run.json"
    arguments = ["run", str(program), "--model", str(model), "--prompt", words(30), "--max-tokens=17", "--no-controls"]
    assert main([*arguments, "--json", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["tokens"] == 16  # the seventeenth would be alone in its window
    assert result["controls"] == {}


def test_tokens_without_a_tokenizer(model: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """Of each kind of file; the model is a copy of its weights and configuration alone."""
    program = compiled()
    text, alone = words(30), tmp_path / "alone"
    expected = run(program, model, tmp_path, text)
    shutil.copytree(model, alone, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*"))
    ids = [int(word[1:]) for word in text.split()]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, ids)))
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    np.save(tmp_path / "ids.npy", np.array(ids, np.uint16))
    for name in ("ids.txt", "ids.json", "ids.npy"):
        output = tmp_path / f"{name}.out"
        options = ["--model", str(alone), "--tokens", str(tmp_path / name), "--json", str(output)]
        assert main(["run", str(program), *options]) == 0
        assert json.loads(output.read_text())["perplexity"] == expected["perplexity"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "cannot read "),
        ("words.txt", b"1 2 w3", "'w3' in "),
        ("nested.json", b"[[1, 2]]", "'[1' in "),
        ("utf16.txt", b"\xff\xfe1\x00", "is not UTF-8 text; give ids between spaces"),
        ("short.npy", b"\x93NUMPY", "is no NumPy file"),
        ("empty.txt", b"", "the text has 0 tokens"),
        ("large.txt", b"1 256 3", "token 256 is none of the model's 256; give ids of its own tokenizer"),
    ],
)
def test_mistakes_in_tokens(
    name: str,
    content: bytes | None,
    message: str,
    model: Path,
    compiled: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in failure(capsys, compiled(), "--model", model, "--tokens", tmp_path / name)
    np.save(tmp_path / "floats.npy", np.ones(4))
    assert "holds no list of token ids" in failure(
        capsys, compiled(), "--model", model, "--tokens", tmp_path / "floats.npy"
    )


def test_sites_on_a_basis_and_what_is_exact_are_named(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--decompose-layers=1,2", "--sites=qkv,o,down", "--rank=3", "--reuse=o,down")
    known = ("--decompose-with=float32",)
    result = run(compiled(*options, "--exact-rows=10"), model, tmp_path, words(32), *known)
    assert result["program"]["sites"] == ["qkv", "o", "down"] and result["program"]["projected"] == ["o", "down"]
    printed = capsys.readouterr()
    assert "sites qkv, o, down (o, down projected on their layer's basis), rank 3 decomposed" in printed.err
    assert "\nrank_0: only the outlier channels and the exact tokens, nothing decomposed\n" in printed.out
    run(compiled(*options, "--outliers=0"), model, tmp_path, words(32), *known)
    assert "\nrank_0: nothing kept exact, nothing decomposed\n" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_narrow_program_beside_the_dense_model_in_float32(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    source, program = tmp_path / "narrow.mlir", tmp_path / "narrow.bin"
    assert main(["trace", str(model), f"--seq-len={SEQ_LEN}", "--dtype", dtype, "-o", str(source)]) == 0
    assert main(["compile", str(source), "-o", str(program)]) == 0
    result = run(program, model, tmp_path, words(SEQ_LEN))
    assert result["program"]["dtype"] == dtype
    assert 1e-4 < result["max_logit_difference"] < 1
    printed = capsys.readouterr().out
    assert "\ndense, transformers, f32 " in printed and f"\nprogram, {dtype} " in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rank 3", "rank 2"), "the host's part has another layer1.qkv than the launches: by kernel lanczos_16x64_k8"),
        (("seed = 0", "seed = 1"), "is 16 x 64, 8 iterations from seed 1, but its kernel"),
        (("iterations = 8", "iterations = 7"), "is 16 x 64, 7 iterations from seed 0, but its kernel"),
        (
            ('layer = 1 : i64, site = "qkv"', 'layer = 2 : i64, site = "qkv"'),
            "has another layer2.qkv than the launches",
        ),
    ],
)
def test_launches_that_are_not_those_of_the_model(
    model: Path,
    compiled: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    message: str,
) -> None:
    program = dcomc.load(compiled("--decompose-layers=1", "--sites=qkv,o", "--rank=3", "--outliers=0"))
    assert change[0] in program.host
    replace(program, host=program.host.replace(*change)).save(tmp_path / "odd.bin")
    assert message in failure(capsys, tmp_path / "odd.bin", "--model", model, "--prompt", "w1 w2 w3")


def failure(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The one line on stderr of a command that fails, after what it said before."""
    capsys.readouterr()
    assert main(["run", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert sum("error: " in line for line in lines) == 1 and "Traceback" not in printed.err
    return lines[-1]


def test_mistakes_in_the_text(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = (compiled(), "--model", model)
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    assert failure(capsys, *known, "--text", empty) == f"error: {empty} is empty; give a text of at least 2 tokens"
    assert "is not UTF-8 text" in failure(capsys, *known, "--text", binary)
    assert "No such file or directory" in failure(capsys, *known, "--text", tmp_path / "none.txt")
    assert "the text has 1 token, and nothing is predicted" in failure(capsys, *known, "--prompt", "w1")
    assert "the prompt is empty" in failure(capsys, *known, "--prompt", "")
    assert "the prompt is not UTF-8 text; give it in a file" in failure(capsys, *known, "--prompt", "w1 \udcff")
    assert "max-tokens 1 is too few" in failure(capsys, *known, "--prompt", "w1 w2", "--max-tokens", 1)
    assert "one of the arguments --text --prompt --tokens is required" in failure(capsys, *known)


def test_mistakes_in_the_device(model: Path, compiled: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    known = (compiled(), "--model", model, "--prompt", "w1 w2")
    for device in ("gpu", "meta", "cuda:99"):
        assert f"torch cannot compute on '{device}'" in failure(capsys, *known, "--device", device)
    assert "NumPy does not run on 'cuda'" in failure(capsys, *known, "--backend", "numpy", "--device", "cuda")


def test_mistakes_in_the_files(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, prompt = compiled(), ("--prompt", "w1 w2 w3")
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(program.read_bytes()[:-100])
    assert "compile it again" in failure(capsys, damaged, "--model", model, *prompt)
    assert "No such file" in failure(capsys, tmp_path / "none.bin", "--model", model, *prompt)
    assert "the preset tiny has no weights" in failure(capsys, program, "--model", "tiny", *prompt)
    missing = tmp_path / "none" / "run.json"
    assert f"cannot write {missing}" in failure(capsys, program, "--model", model, *prompt, "--json", missing)
    saved = tmp_path / "activations.npz"
    text = failure(capsys, program, "--model", model, *prompt, "--save-activations", saved)
    assert "no layer is decomposed, so no activation can be saved" in text
    assert not saved.exists()


def test_a_model_that_does_not_fit_the_program(
    compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = save_model(tmp_path / "wide", intermediate_size=192)
    text = failure(capsys, compiled(), "--model", wide, "--prompt", "w1 w2 w3")
    assert "'wide' differs from it: intermediate_size is 192, not 160; give the model that was traced" in text
    assert "loading" not in text
    short = save_model(tmp_path / "short", num_hidden_layers=3)
    text = failure(capsys, compiled(), "--model", short, "--prompt", "w1 w2 w3")
    assert "'short' differs from it: num_hidden_layers is 3, not 4; give the model that was traced" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "NaN or infinity in weight 'model.layers.1.input_layernorm.weight'; copy the checkpoint again"),
        (3e38, "NaN or infinity in the logits of the dense model; look for damage in the weights"),
    ],
)
def test_damaged_weights(
    compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, said: str
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.input_layernorm.weight"][5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    program = compiled("--decompose-layers=1,2", "--sites=qkv,down", "--rank=4", "--iterations=6")
    output = tmp_path / "run.json"
    text = failure(capsys, program, "--model", folder, "--prompt", "w1 w2 w3", "--json", output)
    assert said in text
    assert not output.exists()


def test_what_is_said_where_stderr_is_no_terminal(
    model: Path, compiled: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line now and then and one at the end, nothing that moves, and a note on prompts too short to judge by."""
    program = compiled("--decompose-layers=1", "--rank=3")
    result = run(program, model, tmp_path, words(64), "--decompose-with", "float32")
    assert result["program"]["iterations"] == [8] and result["program"]["options"]["iterations"] == 8
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("window ")]
    assert lines[-3].endswith("most of which a low rank holds; give 256 or more")
    assert lines[-2].startswith("the first window took")
    assert re.fullmatch(r"2 windows done in \d+\.\d s", lines[-1])


def test_a_model_of_another_configuration(
    compiled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights have the same names and shapes."""
    other = save_model(tmp_path / "other", rms_norm_eps=1e-3)
    assert main(["run", str(compiled()), f"--model={other}", f"--prompt={words(9)}"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("'other' differs from it: rms_norm_eps is 0.001, not 1e-05; give the model that was traced")
