"""Llama-2-7B with one layer, traced at a length: the shapes of the whole model in the time of a small one."""

import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from xdsl.dialects.builtin import ModuleOp

import dcomc
from dcomc.model import resolve_model


@lru_cache
def llama_layer(seq_len: int, layers: int = 1) -> ModuleOp:
    """Level 0 in float16, one prompt."""
    config = resolve_model("llama2-7b").config() | {"num_hidden_layers": layers}
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return dcomc.trace(folder, seq_len, 1, "f16")
