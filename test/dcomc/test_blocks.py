"""Blocks, exact tokens, a basis for several sites and an energy target, from a model to its run and its simulation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import words

from dcomc.cli import main

SEQ_LEN, BATCH, BLOCK = 16, 2, 5
BLOCKS = BATCH * 4  # three of 5 tokens and one of a single token, a prompt
OPTIONS = ("--decompose-layers=1,2", "--rank=3", f"--block={BLOCK}", "--exact-rows=10", "--reuse=gate_up,down")


@pytest.fixture(scope="module")
def traced(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traced") / "model.mlir"
    assert main(["trace", str(model), f"--seq-len={SEQ_LEN}", f"--batch={BATCH}", "-o", str(path)]) == 0
    return path


def ratio(model: Path, traced: Path, folder: Path, *options: str, how: str = "float32") -> dict[str, Any]:
    """Compile, run on 39 tokens, the last prompt of which is padding, and save what was decomposed."""
    (folder / "text.txt").write_text(words(39))
    program, output = folder / "prog.bin", folder / "run.json"
    assert main(["compile", str(traced), *options, "-o", str(program)]) == 0
    arguments = ["run", str(program), "--model", str(model), "--text", str(folder / "text.txt"), "--json", str(output)]
    saved = ["--save-activations", str(folder / "activations.npz")]
    assert main([*arguments, "--decompose-with", how, "--no-controls", *saved]) == 0
    return json.loads(output.read_text())


def test_simulated_blocks(model: Path, traced: Path, tmp_path: Path) -> None:
    """Instructions agree with float32, and what a run saves is what `sim` takes: whole blocks."""
    exact = ratio(model, traced, tmp_path, *OPTIONS)
    simulated = ratio(model, traced, tmp_path, *OPTIONS, how="sim")
    assert simulated["perplexity"] == pytest.approx(exact["perplexity"], rel=0.02)
    with np.load(tmp_path / "activations.npz") as saved:
        assert {name: saved[name].shape for name in saved} == {
            f"layer{layer}.{site}": (BLOCKS * BLOCK, 64) for layer in (1, 2) for site in ("qkv", "o")
        }
    stats = tmp_path / "stats.json"
    arguments = ["--input", str(tmp_path / "activations.npz"), "--stats", str(stats)]
    assert main(["sim", str(tmp_path / "prog.bin"), *arguments]) == 0
    entries = json.loads(stats.read_text())["decompositions"]
    assert [(entry["prompts"], entry["rows"], entry["rank"]) for entry in entries] == [(BLOCKS, BLOCK, 3)] * 4
    for entry in entries:
        assert entry["input"].endswith("activations.npz")
        assert len(entry["steps"]) == BLOCKS and max(entry["steps"][3::4]) <= 1
        assert entry["optimal_error"] <= entry["relative_error"] < 1.05 * entry["optimal_error"] + 1e-3


def test_what_is_kept_decides_the_quality(model: Path, traced: Path, tmp_path: Path) -> None:
    """Everything that a block has is the dense model; every token exact is too; less energy is further from it."""

    def distance(*options: str) -> float:
        common = ("--decompose-layers=1,2", "--outliers=0", f"--block={BLOCK}", "--rank=5", "--iterations=5")
        return ratio(model, traced, tmp_path, *common, *options)["max_logit_difference"]

    assert distance() < 0.05
    assert distance("--exact-rows=100", "--energy=0.1") < 1e-3
    assert distance("--energy=0.5") > distance("--energy=0.99") > distance()


def test_a_file_says_otherwise_for_some_places(model: Path, traced: Path, tmp_path: Path) -> None:
    config = tmp_path / "sites.toml"
    config.write_text("[layers.2]\nrank = 2\n[layers.2.sites.o]\ndecompose = false\n")
    result = ratio(model, traced, tmp_path, "--decompose-layers=1,2", "--rank=3", f"--config={config}")
    assert result["program"]["ranks"] == [2, 3]
    assert result["program"]["options"]["config"] == "sites.toml"
    with np.load(tmp_path / "activations.npz") as saved:
        assert "layer1.o" in saved and "layer2.o" not in saved and "layer2.down" in saved
