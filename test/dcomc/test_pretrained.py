"""Checkpoints that are not those of their configuration: nothing is made up, and what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LLAMA, random_model

from dcomc.diagnostics import DcomError
from dcomc.model import LoadedModel, resolve_model

NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of one file."""
    random_model(LLAMA).save_pretrained(tmp_path)
    return tmp_path


def change_tensors(folder: Path, changes: dict[str, torch.Tensor], *dropped: str) -> None:
    file = folder / "model.safetensors"
    tensors = {name: value for name, value in (load_file(file) | changes).items() if name not in dropped}
    save_file(tensors, file, metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_missing_tensors_are_not_made_up(folder: Path) -> None:
    change_tensors(folder, {}, NORM, UP)
    with pytest.raises(DcomError, match=f"lacks 2 tensors of the model: {UP}, {NORM}; copy the whole checkpoint"):
        resolve_model(folder).torch_model()


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(DcomError, match=r"lacks 9 tensors of the model: .*layers\.2\..*, .*, .* and 6 more;"):
        resolve_model(folder).torch_model()


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    change_tensors(folder, {UP: torch.zeros(5, 36)})
    with pytest.raises(DcomError, match=rf"{UP} in .* has shape \[5, 36\], but the configuration says \[52, 36\]"):
        resolve_model(folder).torch_model()


def test_tensors_that_the_model_does_not_use_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolve_model(folder).torch_model()
    assert capsys.readouterr().err == ""
    change_tensors(folder, {"model.layers.0.self_attn.q_proj.bias": torch.zeros(36)})
    resolve_model(folder).torch_model("bf16")  # not the one that was loaded before
    assert "note: left out 1 tensor of" in (said := capsys.readouterr().err)
    assert said.endswith("that the model does not use: model.layers.0.self_attn.q_proj.bias\n")


def test_a_checkpoint_of_torch_files_has_its_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    torch.save(tensors, folder / "pytorch_model.bin")
    file.unlink()
    weights = resolve_model(folder).weights()
    assert (weights[UP] == tensors[UP].numpy()).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_is_named(folder: Path, value: float) -> None:
    """A fused attention may hide it; in a checkpoint and in a model in memory, whatever else the tensor holds."""
    weight = load_file(folder / "model.safetensors")[UP]
    weight[-1, -1] = value
    change_tensors(folder, {UP: weight})
    with pytest.raises(DcomError, match=f"NaN or infinity in weight '{UP}'; copy the checkpoint again"):
        resolve_model(folder).torch_model()
    with pytest.raises(DcomError, match="again, or take bf16 or f32: f16 ends at 65,504"):
        resolve_model(folder).torch_model("f16")
    module = random_model(LLAMA)
    assert resolve_model(module).torch_model() is not None
    module.get_parameter(UP).data[0, 0] = value
    with pytest.raises(DcomError, match=f"NaN or infinity in weight '{UP}'"):
        resolve_model(module).torch_model()


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    random_model(LLAMA | {"tie_word_embeddings": True}).save_pretrained(tmp_path)
    assert resolve_model(tmp_path).torch_model() is not None


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8"])
def test_quantised_weights_are_refused(folder: Path, method: str) -> None:
    change_config(folder, quantization_config={"quant_method": method, "bits": 4})
    for use in (lambda: resolve_model(folder).config(), lambda: resolve_model(folder).torch_model()):
        with pytest.raises(DcomError, match=rf"the weights of {folder.name} are quantised \({method}\)"):
            use()


def test_a_quantised_model_in_memory_is_refused() -> None:
    model = random_model(LLAMA)
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(DcomError, match=r"are quantised \(gptq\)"):
        LoadedModel.of(model).config()


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DcomError, match="is an adapter, not a model; merge it into its model"):
        resolve_model(tmp_path)


def test_the_hubs_cache(folder: Path) -> None:
    repository = folder / "models--someone--tiny-llama"
    snapshot, blobs = repository / "snapshots" / "0123abcd", repository / "blobs"
    for made in (snapshot, blobs):
        made.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    with pytest.raises(DcomError, match=f"is a folder of the hub's cache; give the one of a snapshot, {snapshot}"):
        resolve_model(repository)
    model = resolve_model(snapshot)
    assert model.name == "tiny-llama"
    assert model.torch_model() is not None
