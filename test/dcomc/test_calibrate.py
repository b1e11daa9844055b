"""`dcomc calibrate`: its statistics by brute force, its sensitivities by whole runs, interruption, and mistakes."""

import tomllib
from math import ceil, exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import save_model, words

from dcomc.calibration.calibrate import Options, calibrate
from dcomc.calibration.sensitivity import Sensitivity
from dcomc.calibration.state import State
from dcomc.calibration.statistics import Measure, SiteStatistics, bin_of, lower_edge
from dcomc.calibration.table import Table
from dcomc.calibration.taps import ProbedExecutor
from dcomc.cli import main
from dcomc.compiler import lower
from dcomc.diagnostics import DcomError
from dcomc.evaluate import Scores, split_windows, torch_weights
from dcomc.model import resolve_model
from dcomc.pipeline import Decomposition
from dcomc.state_files import state_path
from dcomc.tracer import trace
from dialects.dcom import SITES
from runtime import lanczos
from runtime.executor import Executor
from runtime.executor_arrays import make_arrays

SEQ_LEN = 16
OPTIONS = Options(seq_len=SEQ_LEN, max_tokens=64, rank=3, sensitivity_tokens=32, min_tokens=20)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(words(100, seed=3))
    return path


@pytest.fixture(scope="module")
def calibrated(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Table]:
    path = tmp_path_factory.mktemp("calibrated") / "thresholds.toml"
    return path, calibrate(model, [text], path, OPTIONS)


def prompts(count: int, tokens: int, channels: int) -> list[Any]:
    random = np.random.default_rng(1)
    scales = random.lognormal(sigma=1, size=channels)
    return [(random.normal(size=(tokens, channels)) * scales).astype(np.float32) for _ in range(count)]


def test_a_bin_holds_what_lies_between_its_edges() -> None:
    values = np.random.default_rng(0).lognormal(sigma=3, size=1000).astype(np.float32)
    for value, index in zip(values, bin_of(values), strict=True):
        assert lower_edge(int(index)) <= value < lower_edge(int(index) + 1) <= lower_edge(int(index)) * 1.004


@pytest.mark.parametrize(("share", "min_tokens"), [(3.0, 1.0), (10.0, 5.0), (30.0, 50.0)])
def test_the_threshold_is_the_papers_rule_counted_by_hand(share: float, min_tokens: float) -> None:
    samples, measure = prompts(12, 40, 60), Measure(share, min_tokens, 2)
    statistics = SiteStatistics()
    for x in samples:
        statistics.add(x, measure, lanczos.decompose)
    threshold = statistics.threshold(share)

    def exceeding(limit: float) -> float:
        least = ceil(min_tokens / 100 * 40)
        return 100 * float(np.mean([(np.abs(x) > limit).sum(0) >= least for x in samples]))

    assert statistics.exceeding(threshold) == pytest.approx(exceeding(threshold))
    below = lower_edge(int(bin_of(np.array(threshold))) - 1)
    assert exceeding(threshold) <= share < exceeding(below)


def test_channels_that_are_always_large_are_stable() -> None:
    statistics = SiteStatistics()
    for number, x in enumerate(prompts(10, 30, 50)):
        x[:, [7, 31]] *= 1e3
        x[:, number] *= 1e5
        statistics.add(x, Measure(6, 1, 1), lanczos.decompose)
    assert {7, 31} <= set(statistics.stable())
    assert not set(statistics.stable()) & set(range(7))


def test_energy_is_that_of_the_singular_values_beside_the_outliers() -> None:
    samples, measure = prompts(3, 12, 20), Measure(10, 1, 12)
    statistics = SiteStatistics()
    expected = np.zeros(12)
    for x in samples:
        statistics.add(x, measure, lanczos.decompose)
        rest = x.astype(np.float64)
        rest[:, np.argsort(-np.abs(x).max(0))[:2]] = 0
        squares = np.linalg.svd(rest, compute_uv=False) ** 2
        expected += np.cumsum(squares) / squares.sum() / len(samples)
    np.testing.assert_allclose(statistics.captured(), expected, atol=1e-4)


def test_a_block_has_a_basis_of_its_own() -> None:
    """Two halves of rank 1 are together of rank 2."""
    (x,) = prompts(1, 8, 6)
    x = np.vstack([np.outer(x[:, 0], x[0]), np.outer(x[:, 1], x[1])])
    shares: list[float] = []
    for block in (None, 8):
        statistics = SiteStatistics()
        statistics.add(x, Measure(1e-9, 1, 1, block), lanczos.decompose)
        shares.append(float(statistics.captured()[0]))
    assert shares[0] < 0.99 < shares[1]


def test_sites_see_what_the_projections_of_transformers_see(model: Path) -> None:
    import torch

    whole = resolve_model(model)
    module: Any = whole.torch_model("f32")
    (window,) = split_windows(range(1, SEQ_LEN + 1), 1, SEQ_LEN)
    seen: dict[tuple[int, str], Any] = {}
    names = {"qkv": "self_attn.k_proj", "o": "self_attn.o_proj", "gate_up": "mlp.up_proj", "down": "mlp.down_proj"}
    handles = [
        layer.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, place=(number, site): seen.__setitem__(place, inputs[0][0].numpy())
        )
        for number, layer in enumerate(module.model.layers)
        for site, name in names.items()
    ]
    with torch.inference_mode():
        module(torch.from_numpy(window.tokens), use_cache=False)
    for handle in handles:
        handle.remove()

    probed = ProbedExecutor(trace(whole, SEQ_LEN), torch_weights(module), make_arrays("torch"))
    inputs: dict[tuple[int, str], Any] = {}
    probed.see = lambda layer, site, x: inputs.__setitem__((layer, site), x.copy())
    probed.run("main", window.tokens)
    assert inputs.keys() == seen.keys()
    for place, x in inputs.items():
        np.testing.assert_allclose(x, seen[place], rtol=1e-3, atol=1e-3)


def test_a_sensitivity_is_the_loss_of_the_model_compiled_so(model: Path, calibrated: tuple[Path, Table]) -> None:
    whole, arrays = resolve_model(model), make_arrays("torch")
    module, weights = trace(whole, SEQ_LEN), torch_weights(whole.torch_model("f32"))
    (window,) = split_windows(range(40, 40 + SEQ_LEN), 1, SEQ_LEN)
    sensitivity = Sensitivity(module, weights, arrays, calibrated[0], 3, block=8)
    dense = sensitivity.dense_loss(window)
    for layer in (0, 2):
        losses = dict(sensitivity.losses(window, layer))
        assert list(losses) == list(SITES)
        for site in ("qkv", "down"):
            options = Decomposition((layer,), (site,), rank=3, outliers=str(calibrated[0]), block=8)
            executor = Executor(lower(module.clone(), options, level="dcom"), weights, arrays=arrays)
            (logits,) = executor.run("main", window.tokens)
            scores = Scores()
            scores.add(window, logits, logits, "it")
            assert losses[site] == pytest.approx(scores.loss, rel=1e-5)
            assert abs(losses[site] - dense) > 1e-3


def test_the_table_has_every_site_and_compiles(model: Path, calibrated: tuple[Path, Table], tmp_path: Path) -> None:
    path, table = calibrated
    document = tomllib.loads(path.read_text())
    assert document["thresholds"].keys() == document["statistics"].keys() == set("0123")
    assert document["calibration"]["tokens"] == 64 and document["calibration"]["sensitivity_tokens"] == 32
    for layer, sites in document["thresholds"].items():
        for site, threshold in sites.items():
            assert threshold == table.records[int(layer), site].threshold
            assert 0 < document["statistics"][layer][site]["share_percent"] <= 3
            assert document["statistics"][layer][site]["perplexity_ratio"] != 1
            assert document["statistics"][layer][site]["energy"] == sorted(
                document["statistics"][layer][site]["energy"]
            )
    assert not state_path(path).exists()
    source, compiled = tmp_path / "m.mlir", tmp_path / "d.mlir"
    assert main(["trace", str(model), "--seq-len", str(SEQ_LEN), "-o", str(source)]) == 0
    passes = f'dcom-insert-outlier-split{{layers=2 sites="o" outliers="{path}"}}'
    assert main(["opt", str(source), "-p", passes, "-o", str(compiled)]) == 0
    assert "threshold = " in compiled.read_text()


def test_a_table_of_another_model_is_refused(
    calibrated: tuple[Path, Table], tiny_ir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = f'dcom-insert-outlier-split{{layers=2 outliers="{calibrated[0]}"}}'
    assert main(["opt", str(tiny_ir), "-p", passes]) == 1
    assert f"the table is of {calibrated[1].model}, not of tiny" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 6])
def test_an_interrupted_calibration_goes_on_to_the_same_table(
    model: Path,
    text: Path,
    calibrated: tuple[Path, Table],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    steps: int,
) -> None:
    """Interrupted after so many steps, of which there are four prompts and two times four layers."""
    output, left, save = tmp_path / "table.toml", iter(range(steps)), State.save

    def interrupted(state: State, path: Path) -> None:
        save(state, path)
        if next(left, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(model, [text], output, OPTIONS)
    assert not output.exists() and state_path(output).exists()
    other = Options(**{**vars(OPTIONS), "rank": 4})
    with pytest.raises(DcomError, match="state of a calibration with other options"):
        calibrate(model, [text], output, other)
    with pytest.raises(DcomError, match="state of a calibration with other weights"):
        calibrate(save_model(tmp_path / "other", seed=1), [text], output, OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr("dcomc.calibration.calibrate.__version__", "1000")
        with pytest.raises(DcomError, match="state of a calibration with other version of dcomc"):
            calibrate(model, [text], output, OPTIONS)
    calibrate(model, [text], output, OPTIONS, progress=True)
    assert f"{min(steps + 1, 4)} of 4 prompts are measured" in capsys.readouterr().err
    assert output.read_bytes() == calibrated[0].read_bytes()


def test_the_ratio_is_of_perplexities(calibrated: tuple[Path, Table], model: Path, text: Path) -> None:
    """The whole dense perplexity by transformers; the ratios stand beside it."""
    import torch

    whole = resolve_model(model)
    ids = torch.tensor(whole.tokenizer().encode(text.read_text()))[:32].view(2, SEQ_LEN)
    module: Any = whole.torch_model("f32")
    losses = [float(module(prompt[None], labels=prompt[None]).loss) for prompt in ids]
    details = calibrated[1].details
    assert details["dense_perplexity"] == pytest.approx(exp(sum(losses) / 2), rel=1e-4)


def test_texts_that_are_too_short_and_options_that_are_none(model: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("w1 w2 w3")
    with pytest.raises(DcomError, match="the text has 3 tokens, less than a prompt of 16"):
        calibrate(model, [short], tmp_path / "t.toml", OPTIONS)
    with pytest.raises(DcomError, match=r"a share of 9% outliers is not above 0 and at most the capacity"):
        calibrate(model, [short], tmp_path / "t.toml", Options(share=9))
    with pytest.raises(DcomError, match="blocks of 5 tokens do not divide prompts of 512"):
        calibrate(model, [short], tmp_path / "t.toml", Options(block=5))


def test_a_damaged_state_and_damaged_weights(model: Path, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.toml"
    state_path(output).write_bytes(b"PK not really")
    with pytest.raises(DcomError, match="is no state of a calibration, or damaged"):
        calibrate(model, [text], output, OPTIONS)
    from safetensors.numpy import load_file, save_file

    broken = save_model(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0] = 3e38  # finite, but its products are not
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DcomError, match="NaN or infinity in the activations of layer 1, site down"):
        calibrate(broken, [text], output, OPTIONS, restart=True)
    assert not output.exists()


def test_a_part_of_a_calibration_is_no_table(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_ir: Path, capsys: Any
) -> None:
    """The state of an interrupted one is refused where a table is wanted, and so is a table without all its sites."""
    output, save = tmp_path / "t.toml", State.save

    def interrupted(state: State, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calibrate(model, [text], output, OPTIONS)
    for path, what in ((state_path(output), "no UTF-8 text"), (output, "cannot read")):
        assert main(["compile", str(tiny_ir), "--decompose-layers=1", f"--outliers={path}", "-o", "/dev/null"]) == 1
        assert what in capsys.readouterr().err
    output.write_text("capacity_percent = 5.0\nmin_tokens_percent = 1.0\n[thresholds.1]\nqkv = 1.0\n")
    assert main(["compile", str(tiny_ir), "--decompose-layers=1", f"--outliers={output}", "-o", "/dev/null"]) == 1
    assert "no entry for site o of layer 1" in capsys.readouterr().err
