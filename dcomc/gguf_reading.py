"""GGUF files as transformers reads them, but parsed once.

Transformers parses the header, with its vocabulary of some 100,000 strings, anew for the configuration, the tokenizer
and the weights, builds the table of tensor names once for each module of the model, and shows a progress bar wherever
stderr leads. Within `parsed_once` it finds one parse, one table, and a bar for terminals alone.
"""

import functools
import importlib
import re
from collections.abc import Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dcomc.diagnostics import DcomError, counted, readable
from dcomc.pretrained import some_of

WHOLE = "is the file whole? copy it again, or convert the model anew"
"""What to do where a file is damaged."""
FAMILY = "give a model of the Llama family"
"""What to do about a file of another architecture."""
_INTEGRATION = "transformers.modeling_gguf_pytorch_utils"


@contextmanager
def parsed_once() -> Generator[None]:
    """Let transformers share what it reads of a GGUF file, also between several of these blocks.

    Needs the packages gguf, torch and transformers.
    """
    gguf, integration = importlib.import_module("gguf"), importlib.import_module(_INTEGRATION)
    with ExitStack() as stack:
        stack.enter_context(_replaced(gguf, "GGUFReader", _reader))
        stack.enter_context(_replaced(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)))
        quiet = functools.partial(integration.tqdm, disable=None)  # None: where stderr is no terminal
        stack.enter_context(_replaced(integration, "tqdm", quiet))
        yield


def check_holds(path: Path, config: Any) -> None:
    """Raise `DcomError` where a file's model has no attention, or other layers, more numbers or tensors than it holds.

    Transformers makes such a model before it looks for the weights, in whatever time and memory that takes.

    Args:
        config: of transformers, as it read that of the file.
    """
    if not hasattr(config, "num_attention_heads"):
        what = f"{readable(path)} is of architecture {config.model_type}, which has no attention"
        raise DcomError(what, hint=FAMILY)
    tensors = _reader(path).tensors
    blocks = {int(found[1]) for tensor in tensors if (found := re.match(r"blk\.(\d+)\.", tensor.name))}
    layers = getattr(config, "num_hidden_layers", 0)
    if layers != len(blocks):
        what = f"{readable(path)} says that it has {counted(layers, 'layer')}, and holds {len(blocks):,}"
        raise DcomError(what, hint=WHOLE)
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    said = sum(int(parameter.numel()) for parameter in model.parameters())
    held = sum(int(tensor.n_elements) for tensor in tensors)
    if said > 2 * held:
        what = f"{readable(path)} says that it has {counted(said, 'parameter')}, and holds {held:,}"
        raise DcomError(what, hint=WHOLE)
    if missing := _missing(model, {str(tensor.name) for tensor in tensors}):
        what = f"{readable(path)} lacks {counted(len(missing), 'tensor')} of the model: {some_of(missing)}"
        raise DcomError(what, hint=WHOLE)


def _missing(model: Any, held: Collection[str]) -> list[str]:
    """The names in a GGUF file of a model's parameters that are not among those held."""
    integration = importlib.import_module(_INTEGRATION)
    kind = integration.TENSOR_PROCESSORS.get(model.config.model_type, integration.TensorProcessor)
    names: Mapping[str, str] = integration.get_gguf_hf_weights_map(model, kind(config={}))
    awaited = {name for name, _ in model.named_parameters()} - {names[name] for name in names if name in held}
    return [name for name in names if names[name] in awaited]


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Generator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _reader(path: str | Path) -> Any:
    return _parse(Path(path).absolute())


@functools.lru_cache(maxsize=1)
def _parse(path: Path) -> Any:
    return _reader_class()(path)


@functools.cache
def _reader_class() -> type:
    base = importlib.import_module("gguf.gguf_reader").GGUFReader

    class Reader(base):
        """gguf's reader on a plain array: each slice of a memmap costs five times that of an array."""

        @property
        def data(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
            return self._data

        @data.setter
        def data(self, mapped: np.memmap[Any, np.dtype[np.uint8]]) -> None:
            self._data = np.asarray(mapped)

    return Reader
