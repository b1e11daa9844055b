"""`dcomc.hf`: a decomposed model of transformers against the compiled one; generation, padding, saving, mistakes."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from checkpoints import save_model
from tiny_models import LLAMA, random_model
from transformers import AutoModelForCausalLM

import dcomc
import dcomc.hf
from dcomc.diagnostics import DcomError
from dcomc.model import LoadedModel
from dcomc.pipeline import Decomposition, WeightDecomposition
from runtime.executor import Executor
from runtime.executor_arrays import NUMPY

SEQ_LEN = 22
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 99, (2, SEQ_LEN)))
GREEDY: dict[str, Any] = {
    "max_new_tokens": 4,
    "do_sample": False,
    "pad_token_id": 0,
    "attention_mask": torch.ones_like(IDS),
}
LOW_RANK = Decomposition((0, 1), rank=3, outliers=5.0)


def logits(model: Any, ids: Any = IDS, **options: Any) -> Any:
    with torch.no_grad():
        return model(ids, use_cache=False, **options).logits


def compiled_logits(model: Any, options: Decomposition) -> Any:
    """By the program that the compiler makes, run in NumPy."""
    module = dcomc.lower(dcomc.trace(LoadedModel.of(model), SEQ_LEN, batch=2), options, level="dcom")
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return Executor(module, weights, arrays=NUMPY).run("main", IDS.numpy())[0]


def thresholds(folder: Path) -> str:
    path = folder / "thresholds.toml"
    lines = [f"[thresholds.{layer}]\nqkv = 0.9\no = 0.2\ngate_up = 1.1\ndown = 0.4" for layer in (0, 1)]
    path.write_text("\n".join(["capacity_percent = 20.0", "min_tokens_percent = 10.0", *lines]))
    return str(path)


def config(folder: Path) -> str:
    path = folder / "config.toml"
    path.write_text(
        "[sites.gate_up]\nrank = 5\nblock = 7\n[layers.1]\noutliers = 10\n[layers.0.sites.o]\ndecompose = false\n"
    )
    return str(path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sites": ("down",), "iterations": 4, "reorthogonalisation": 1, "seed": 5, "outliers": 0.0},
        {"block": 8},
        {"start": "mean", "iterations": 4},
        {"block": 6, "exact_rows": 10.0, "reuse": ("gate_up",)},
        {"reuse": ("o", "down"), "layers": (1,)},
        {"energy": 0.7, "block": 11, "rank": 8},
        {"config": config},
        {"outliers": thresholds, "exact_rows": 5.0},
        {"rank": SEQ_LEN},
    ],
)
def test_the_logits_are_those_of_the_compiled_model(changes: dict[str, Any], tmp_path: Path) -> None:
    given: dict[str, Any] = {key: value(tmp_path) if callable(value) else value for key, value in changes.items()}
    options = Decomposition(**{**vars(LOW_RANK), **given})
    model = random_model(LLAMA)
    dense, expected = logits(model), compiled_logits(model, options)
    assert dcomc.hf.decompose(model, options) is model
    found = logits(model)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    if options.rank < SEQ_LEN:
        assert (found - dense).abs().max() > 0.1
    np.testing.assert_array_equal(logits(dcomc.hf.restore(model)), dense)
    assert not hasattr(model.config, "dcom")


def test_fused_projections_and_half_precision() -> None:
    model = random_model({**LLAMA, "model_type": "phi3", "pad_token_id": 0})
    expected = compiled_logits(model, LOW_RANK)
    np.testing.assert_allclose(logits(dcomc.hf.decompose(model, LOW_RANK)), expected, atol=2e-3)
    half = logits(model.bfloat16())
    assert half.dtype == torch.bfloat16 and bool(torch.isfinite(half).all())


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "nemotron"},
        {"model_type": "starcoder2"},
        {"model_type": "phi", "num_key_value_heads": 6, "partial_rotary_factor": 1.0},
        {"model_type": "gpt_neox"},
    ],
    ids=lambda changes: changes["model_type"],
)
def test_projections_of_other_names_and_networks_without_a_gate(changes: dict[str, Any]) -> None:
    model = random_model({**LLAMA, "pad_token_id": 0, **changes})
    dense, expected = logits(model), compiled_logits(model, LOW_RANK)
    found = logits(dcomc.hf.decompose(model, LOW_RANK))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (found - dense).abs().max() > 0.1


def test_it_generates_with_the_prompt_decomposed() -> None:
    """The cache of the prompt is the decomposed one's; each new token is computed exactly from it."""
    model = random_model(LLAMA)
    dense = model.generate(IDS, **GREEDY)
    dcomc.hf.decompose(model, LOW_RANK)
    found = model.generate(IDS, **GREEDY)
    assert found.shape == dense.shape and not torch.equal(found, dense)
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
        dcomc.hf.restore(model)
        for position in range(SEQ_LEN, SEQ_LEN + 3):
            output = model(found[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            assert torch.equal(output.logits[:, -1].argmax(-1), found[:, position + 1])


@pytest.mark.parametrize("reuse", [(), ("gate_up",)])
def test_padding_is_kept_out(reuse: tuple[str, ...]) -> None:
    """A short prompt on the left and on the right of its padding, beside a long one: what each is on its own."""
    options = Decomposition((0, 1), rank=3, outliers=5.0, exact_rows=5.0, block=8, reuse=reuse)
    model = dcomc.hf.decompose(random_model(LLAMA), options)
    short, long = IDS[:1, :15], IDS[1:]
    for left in (7, 0):
        padded = torch.full((1, SEQ_LEN), 3)
        padded[:, left : left + 15] = short
        mask = torch.ones(2, SEQ_LEN, dtype=torch.long)
        mask[0] = (padded[0] * 0).index_fill(0, torch.arange(left, left + 15), 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        found = logits(model, torch.cat([padded, long]), attention_mask=mask, position_ids=positions)
        np.testing.assert_allclose(found[:1, left : left + 15], logits(model, short), atol=1e-4)
        np.testing.assert_allclose(found[1:], logits(model, long), atol=1e-4)
    mask[0] = 0
    assert bool(torch.isfinite(logits(model, torch.cat([padded, long]), attention_mask=mask)[1]).all())


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "dense")
    ids = torch.arange(1, 31)[None]
    model: Any = dcomc.hf.decompose(AutoModelForCausalLM.from_pretrained(folder), Decomposition((1,), rank=2, block=10))
    model.save_pretrained(tmp_path / "saved")
    again: Any = dcomc.hf.load(tmp_path / "saved")
    assert torch.equal(logits(again, ids), logits(model, ids))
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(plain, ids), logits(dcomc.hf.restore(model), ids))
    with pytest.raises(DcomError, match="the model has no 'dcom' in its configuration"):
        dcomc.hf.load(folder)
    text = (tmp_path / "saved" / "config.json").read_text()
    (tmp_path / "saved" / "config.json").write_text(text.replace('"options"', '"choices"'))
    with pytest.raises(DcomError, match=r"'dcom' has no plan for 1\."):
        dcomc.hf.load(tmp_path / "saved")
    with pytest.raises(DcomError, match="cannot load"):
        dcomc.hf.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (Decomposition((0, 7)), "layer 7 does not exist"),
        (Decomposition((0,), sites=("gate",)), "unknown site 'gate'"),
        (Decomposition((0,), weights=WeightDecomposition((0,))), "weights in factors are not for models"),
        (Decomposition((0,), reuse=("qkv",)), "cannot reuse a basis"),
        (Decomposition((-1,)), "layer -1 does not exist"),
        (Decomposition((0,), rank=0), "rank 0 is below 1; site qkv of layer 0"),
        (Decomposition((0,), rank=-1), "rank -1 is below 1"),
        (Decomposition((0,), rank=cast(int, 2.5)), "rank is 2.5; expected an integer"),
        (Decomposition((0,), rank=4, iterations=3), "iterations 3 is below the rank 4"),
        (Decomposition((0,), rank=4, block=3), "rank 4 is not between 1 and 3"),
        (Decomposition((0,), rank=2, iterations=4, block=3), "iterations 4 is not between the rank 2 and 3"),
        (Decomposition((0,), block=0), "block 0 is below 1"),
        (Decomposition((0,), block=-4), "block -4 is below 1"),
        (Decomposition((0,), outliers=-3), "outliers -3 is not between 0 and 100"),
        (Decomposition((0,), outliers=200.0), "outliers 200 is not between 0 and 100"),
        (Decomposition((0,), energy=5), "energy 5 is not above 0 and at most 1"),
        (Decomposition((0,), exact_rows=300), "exact_rows 300 is not between 0 and 100"),
        (Decomposition((0,), reorthogonalisation=-1), "reorthogonalisation -1 is not between 1 and 8"),
        (Decomposition((0,), seed=-1), "seed -1 is not between 0"),
        (Decomposition((0,), gram_schmidt="modifed"), "unknown gram_schmidt 'modifed'; did you mean 'modified'"),
        (Decomposition((0,), start="middle"), "unknown start 'middle'"),
    ],
)
def test_what_a_model_does_not_have(options: Decomposition, what: str) -> None:
    model = random_model(LLAMA)
    before = logits(model)
    with pytest.raises(DcomError, match=what):
        dcomc.hf.decompose(model, options)
    assert torch.equal(logits(model), before)


def test_damaged_weights_are_said() -> None:
    model = dcomc.hf.decompose(random_model(LLAMA), LOW_RANK)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(DcomError, match="NaN or infinity in the activations of layer 1, site down"):
        logits(model)


@pytest.mark.parametrize(
    ("part", "values", "what"),
    [
        ("options", {"rank": 0}, "rank 0 is below 1"),
        ("options", {"rank": "3"}, "rank is '3'; expected an integer"),
        ("options", {"reuse": True}, "site qkv of layer 1 reuses a basis, but no site before it has one"),
        ("threshold", {"magnitude": "1"}, "magnitude is '1', not a number zero or more"),
        ("threshold", {"min_tokens_percent": 101}, "min_tokens_percent is 101, not a number between 0 and 100"),
    ],
)
def test_a_plan_that_was_edited_is_checked(part: str, values: dict[str, Any], what: str, tmp_path: Path) -> None:
    options = Decomposition((1,), sites=("qkv",), rank=3, outliers=thresholds(tmp_path))
    dcomc.hf.decompose(random_model(LLAMA), options).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    written["dcom"]["1.qkv"][part].update(values)
    file.write_text(json.dumps(written))
    with pytest.raises(DcomError, match=what) as caught:
        dcomc.hf.load(tmp_path)
    assert str(file) in str(caught.value)


def test_a_call_that_failed_leaves_nothing_behind() -> None:
    """Of a prompt that ends within a layer: neither its basis nor its padding are those of the next."""
    model = dcomc.hf.decompose(random_model(LLAMA), Decomposition((0, 1), rank=3, outliers=5.0, reuse=("down",)))
    expected = logits(model)
    mask = torch.ones_like(IDS)
    mask[0, :9] = 0

    for error in (KeyboardInterrupt, MemoryError):

        def fail(*_: Any, error: type[BaseException] = error) -> None:
            raise error

        for layer in model.model.layers:
            with layer.mlp.down_proj.register_forward_hook(fail), pytest.raises(error):
                logits(model, IDS.flip(0), attention_mask=mask)
            assert torch.equal(logits(model), expected)


def test_padding_is_that_of_the_call() -> None:
    """Also where the decoder is called without its head, before or after."""
    model = dcomc.hf.decompose(random_model(LLAMA), LOW_RANK)
    with torch.no_grad():
        expected = model.model(IDS).last_hidden_state
        mask = torch.ones_like(IDS)
        mask[0, :9] = 0
        padded = model.model(IDS, attention_mask=mask).last_hidden_state
        assert torch.equal(model.lm_head(padded), logits(model, attention_mask=mask))
        assert not torch.equal(padded, expected)
        assert torch.equal(model.model(IDS).last_hidden_state, expected)


def test_a_copy_is_restored_on_its_own() -> None:
    model = random_model(LLAMA)
    dense = logits(model)
    decomposed = logits(dcomc.hf.decompose(model, LOW_RANK))
    other = copy.deepcopy(model)
    assert torch.equal(logits(other), decomposed)
    assert torch.equal(logits(dcomc.hf.restore(other)), dense)
    assert torch.equal(logits(model), decomposed)
    again = copy.deepcopy(model)
    dcomc.hf.decompose(again, LOW_RANK)
    assert torch.equal(logits(again), decomposed)
    assert torch.equal(logits(dcomc.hf.restore(again)), dense)


def test_a_second_decomposition_takes_the_place_of_the_first() -> None:
    """It is that of the dense model, not of what the first made of it."""
    model = dcomc.hf.decompose(random_model(LLAMA), replace(LOW_RANK, layers=(0,), rank=1))
    expected = logits(dcomc.hf.decompose(random_model(LLAMA), LOW_RANK))
    assert not torch.equal(logits(model), expected)
    assert torch.equal(logits(dcomc.hf.decompose(model, LOW_RANK)), expected)
