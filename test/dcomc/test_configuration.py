"""A program knows the configuration of the model that it was traced from."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import LLAMA

import dcomc
from dcomc.configuration import check_configuration
from dcomc.diagnostics import DcomError
from dcomc.ir import parse_module
from dcomc.model import Model, resolve_model


def shape(folder: Path, **changes: Any) -> Model:
    """A folder of a configuration alone."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    return resolve_model(folder)


@pytest.fixture
def module(tmp_path: Path) -> Any:
    """A traced model, as its compiled program holds it."""
    program = dcomc.compile(dcomc.trace(shape(tmp_path / "traced"), 8), [1], rank=2)
    return parse_module(program.host, "host")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": 5e5}, "rope_parameters.rope_theta is 500000, not 10000"),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps is 1e-06, not 1e-05"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not 'silu'"),
        ({"attention_bias": True}, "attention_bias is true, not false"),
        ({"model_type": "mistral", "sliding_window": 5}, "sliding_window is 5, not none"),
        (
            {"num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 3},
            "head_dim is 3, not 6, num_attention_heads is 12, not 6, num_key_value_heads is 6, not 3",
        ),
    ],
)
def test_another_configuration_is_refused(module: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DcomError) as error:
        check_configuration(module, shape(tmp_path / "other", **changes), pytest.fail)
    assert error.value.what.startswith("the program is of 'traced', and 'other' differs from it: ")
    assert message in error.value.what


def test_another_name_is_noted(module: Any, tmp_path: Path) -> None:
    said: list[str] = []
    check_configuration(module, resolve_model(tmp_path / "traced"), said.append)
    assert said == []
    # What matters in training alone, identifiers of tokens, and how float32 rounds.
    changes = {"attention_dropout": 0.5, "eos_token_id": 7, "rms_norm_eps": 9.999999747378752e-06, "use_cache": False}
    check_configuration(module, shape(tmp_path / "other", **changes), said.append)
    assert said == ["note: the program was traced from 'traced', and runs on the weights of 'other'"]


def test_a_program_of_before_runs_on_any_model(module: Any, tmp_path: Path) -> None:
    del module.attributes["dcom.config"]
    check_configuration(module, shape(tmp_path / "traced_elsewhere", rope_theta=5e5), lambda line: None)
