"""What a run of a model holds in memory: activations of a layer or two, and no weights but those of a mapped file."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS
from transformers import LlamaConfig, LlamaForCausalLM
from xdsl.dialects.builtin import ModuleOp

from dcomc.tracer import trace
from dcomc.weights import SafetensorsWeights
from runtime.executor import Executor
from runtime.executor_arrays import NumpyArrays

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def traced(folder: Path, seq_len: int, layers: int, vocabulary: int) -> tuple[ModuleOp, SafetensorsWeights]:
    """A random model that is saved in a folder, as Level 0, and its weights."""
    model: Any = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, vocab_size=vocabulary, **SIZES))
    model.save_pretrained(folder)
    return trace(folder, seq_len), SafetensorsWeights(folder)


def peak_bytes(module: ModuleOp, weights: SafetensorsWeights, seq_len: int) -> int:
    """What NumPy and Python allocate at most while an executor is made and runs, its compilation left out."""
    executor = Executor(module, weights, arrays=NumpyArrays(part=None))  # threads would make it vary
    tokens = np.zeros((1, seq_len), np.int64)
    executor.run("main", tokens)
    tracemalloc.start()
    executor.run("main", tokens)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_more_layers_take_no_more_memory(tmp_path: Path) -> None:
    """Twelve layers more would keep 12 hidden states of 256 x 64 at least, if they were not freed."""
    few, many = (peak_bytes(*traced(tmp_path / str(layers), 256, layers, 32), 256) for layers in (2, 14))
    assert many - few < 2 * 256 * 64 * 4


def test_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    """A vocabulary whose two matrices are far larger than all activations."""
    module, weights = traced(tmp_path, 8, 1, 30_000)
    assert peak_bytes(module, weights, 8) < weights["lm_head.weight"].nbytes / 2


@pytest.mark.parametrize("name", BACKENDS)
def test_back_ends_take_a_weight_as_a_view_of_its_file(name: str, tmp_path: Path) -> None:
    _, weights = traced(tmp_path, 8, 1, 32)
    mapped = weights["lm_head.weight"]
    taken = BACKENDS[name].weight("lm_head.weight", mapped, mapped.dtype)
    assert np.shares_memory(BACKENDS[name].to_numpy(taken), mapped)
