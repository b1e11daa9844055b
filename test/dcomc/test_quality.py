"""What a decomposed SmolLM2-135M is worth on real English: `dcomc run` against an independent one in torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_reference as reference

from dcomc.cli import main
from dcomc.model import Model, resolve_model
from dcomc.texts import squad_article

MODEL = "smollm2-135m"
ARTICLE = 29  # “Southern California”
TOKENS = 1024
LAYERS = (10, 15, 20, 25)
RANK = 10
PERCENT = 3

Run = Callable[..., dict[str, Any]]


def command(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def model() -> Model:
    """Its torch module is loaded once and shared with `dcomc run`, which runs in this process."""
    return resolve_model(MODEL).with_weights()


@pytest.fixture(scope="module")
def tokens(model: Model) -> list[int]:
    return model.tokenizer().encode(squad_article(ARTICLE))[:TOKENS]


@pytest.fixture(scope="module")
def dense(model: Model, tokens: list[int]) -> float:
    """The dense model's perplexity, by torch alone."""
    return reference.perplexity(model.torch_model(), tokens)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Compile the traced model with some options, run it on the article, and return the JSON."""
    folder: Path = tmp_path_factory.mktemp("quality")
    traced, text, program, results = (folder / name for name in ("m.mlir", "text.txt", "prog.bin", "run.json"))
    text.write_text(squad_article(ARTICLE), encoding="utf-8")
    command("trace", MODEL, "--seq-len", TOKENS, "-o", traced)

    def run(*compile_options: object, run_options: tuple[str, ...] = ()) -> dict[str, Any]:
        command("compile", traced, *compile_options, "-o", program)
        options = ["--max-tokens", TOKENS, "--json", results, *run_options]
        command("run", program, "--model", MODEL, "--text", text, *options)
        document: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
        assert document["tokens"] == TOKENS
        return document

    return run


def decompose(sites: str) -> tuple[object, ...]:
    layers = ",".join(map(str, LAYERS))
    return (f"--decompose-layers={layers}", f"--sites={sites}", "--rank", RANK, "--outliers", PERCENT)


def test_the_reference_is_near_the_optimum() -> None:
    """Its own Lanczos, judged by Eckart-Young on singular values that decay like 1/i."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 60, generator=generator)).Q for n in (200, 90))
    a = u @ torch.diag(1 / torch.arange(1.0, 61)) @ v.T

    def error(factorise: reference.Factorise) -> float:
        left, core, right = factorise(a)
        torch.testing.assert_close(left.T @ left, torch.eye(RANK), atol=1e-5, rtol=0)
        torch.testing.assert_close(right @ right.T, torch.eye(RANK), atol=1e-5, rtol=0)
        return float(torch.linalg.norm(a - left @ core @ right))

    best = error(reference.truncated_svd(RANK))
    assert best < error(reference.lanczos(RANK, RANK)) <= 1.3 * best
    assert error(reference.lanczos(RANK, 3 * RANK)) == pytest.approx(best, rel=1e-3)


def test_the_reference_at_full_rank_is_the_plain_product() -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(20, 12, generator=generator), torch.randn(7, 12, generator=generator)
    whole = reference.multiply(x, weight, 20, reference.truncated_svd(12))
    torch.testing.assert_close(whole, x @ weight.T)
    strongest = x.square().sum(0).topk(3).indices  # 20% of 12 channels, rounded up
    outliers = reference.multiply(x, weight, 20, reference.nothing)
    torch.testing.assert_close(outliers, x[:, strongest] @ weight[:, strongest].T)


@pytest.mark.slow
def test_without_decompositions_the_logits_are_those_of_transformers(run: Run, dense: float) -> None:
    result = run()
    assert result["max_logit_difference"] < 1e-3
    assert result["top1_agreement"] > 0.999
    assert result["dense_perplexity"] == pytest.approx(dense, rel=1e-5)
    assert result["perplexity"] == pytest.approx(dense, rel=1e-5)
    assert result["ratio"] == pytest.approx(1, abs=1e-5)
    assert result["controls"] == {}


@pytest.mark.slow
def test_all_sites_of_four_layers(run: Run, model: Model, tokens: list[int], dense: float) -> None:
    """The program, and each of its controls, against the same thing done in torch."""
    result = run(*decompose("qkv,o,gate_up,down"))
    assert result["decompose_with"] == "sim"
    assert result["dense_perplexity"] == pytest.approx(dense, rel=1e-5)
    module = model.torch_model()

    def expected(factorise: reference.Factorise) -> float:
        with reference.decomposed(module, LAYERS, reference.SITES, PERCENT, factorise):
            return reference.perplexity(module, tokens) / dense

    ratio = expected(reference.lanczos(RANK))
    assert result["ratio"] == pytest.approx(ratio, rel=0.02)
    assert 1.1 < result["ratio"] <= 2.2
    assert 0.5 < result["top1_agreement"] < 0.95

    controls = {name: scores["ratio"] for name, scores in result["controls"].items()}
    with reference.skipped(module, LAYERS):
        skipped = reference.perplexity(module, tokens) / dense
    assert controls == {
        "float32": pytest.approx(ratio, rel=0.005),
        "skip_layers": pytest.approx(skipped, rel=0.001),
        "rank_0": pytest.approx(expected(reference.nothing), rel=0.001),
    }
    assert result["ratio"] < min(controls["rank_0"], controls["skip_layers"])


@pytest.mark.slow
def test_attention_inputs_of_four_layers(run: Run, model: Model, tokens: list[int], dense: float) -> None:
    """Articles differ: on nine of them torch gives 1.11 to 1.21 (three above the bound), an exact SVD 1.09 to 1.20."""
    result = run(*decompose("qkv"), run_options=("--no-controls",))
    module = model.torch_model()
    with reference.decomposed(module, LAYERS, ["qkv"], PERCENT, reference.lanczos(RANK)):
        ratio = reference.perplexity(module, tokens) / dense
    assert result["ratio"] == pytest.approx(ratio, rel=0.02)
    assert 1.01 < result["ratio"] <= 1.2
    assert result["controls"] == {}
