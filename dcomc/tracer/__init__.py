"""From a model to Level 0 IR."""

from collections.abc import Callable

from xdsl.dialects.builtin import ModuleOp

from dcomc.model import Model


def trace(
    model: Model, seq_len: int, batch: int, dtype: str, progress: Callable[[str], None] = lambda step: None
) -> ModuleOp:
    """Lift a model into a Level 0 module.

    Args:
        model: what to trace; its weights are not read.
        seq_len, batch: the shape [batch, seq_len] of the token ids.
        dtype: `bf16`, `f16` or `f32`.
        progress: told what goes on, at the start of each long step.

    Raises:
        DcomError: a configuration that cannot be traced, or operators without a lowering.
    """
    from dcomc.model import load_transformers

    load_transformers()
    from dcomc.tracer.capture import capture
    from dcomc.tracer.program import build_module

    progress(f"exporting {model.name} on the meta device")
    graph = capture(model.config(), seq_len, batch, dtype)
    progress(f"emitting {len(graph.nodes)} operators")
    return build_module(graph, model.name, seq_len, batch)
