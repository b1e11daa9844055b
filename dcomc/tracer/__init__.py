"""From a model to Level 0 IR."""

from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import ModuleOp

from dcomc.configuration import CONFIG, configuration
from dcomc.diagnostics import DcomError
from dcomc.ir import verify_module
from dcomc.model import Model, resolve_model
from dcomc.progress import steps

if TYPE_CHECKING:
    import torch

DEFAULT_SEQ_LEN = 512


def trace(
    model: "Model | str | Path | torch.nn.Module",
    seq_len: int | None = None,
    batch: int = 1,
    dtype: str = "f32",
    *,
    progress: bool = False,
) -> ModuleOp:
    """Lift a model into a Level 0 module: upstream MLIR, weights by name, one function for the decoder layers.

    Args:
        model: Hugging Face folder, GGUF file, or preset (`tiny`, `smollm2-135m`, `llama2-7b`), of which no weights are
            read; or a model of transformers in memory.
        seq_len: tokens a prompt; 512 unless given, or the model's most if that is less.
        batch: prompts; the token ids are [batch, seq_len].
        dtype: element type, `bf16`, `f16` or `f32`.
        progress: show on stderr what goes on, where that is a terminal.

    Raises:
        DcomError: no such model, a shape out of range, a configuration that cannot be traced, or operators without a
            lowering.
    """
    model = resolve_model(model)
    if batch < 1:
        raise DcomError(f"batch {batch} is out of range", hint="it goes from 1 upwards")
    with steps(progress) as step:
        step(f"reading the configuration of {model.name}")
        config = model.config()
        seq_len = _seq_len(config.get("max_position_embeddings"), seq_len)
        step("importing torch and transformers")
        from dcomc.model import load_transformers

        load_transformers()
        from dcomc.tracer.capture import capture
        from dcomc.tracer.program import build_module

        step(f"exporting {model.name} on the meta device")
        graph = capture(config, seq_len, batch, dtype)
        step(f"emitting {len(graph.nodes)} operators")
        module = build_module(graph, model.name, seq_len, batch)
        module.attributes[CONFIG] = configuration(config)
        step("verifying the module")
        verify_module(module, model.name)
    return module


def _seq_len(limit: object, given: int | None) -> int:
    """The tokens of a prompt: as given, or else the default as far as the model goes."""
    longest = limit if isinstance(limit, int) else None
    seq_len = min(DEFAULT_SEQ_LEN, longest or DEFAULT_SEQ_LEN) if given is None else given
    if seq_len < 1 or (longest is not None and seq_len > longest):
        most = f" to {longest}, the model's max_position_embeddings" if longest is not None else " upwards"
        raise DcomError(f"seq-len {seq_len} is out of range", hint=f"it goes from 1{most}")
    return seq_len
