"""A model's graph by torch.export on the meta device: shapes only, no weights, whatever the model's size."""

import logging
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from dcomc.diagnostics import DcomError
from dcomc.pretrained import cause
from dcomc.tracer.convert import convert
from dcomc.tracer.graph import Graph
from dcomc.tracer.whole import IMPLEMENTATION, rotary_modules, whole_operators

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
_FAMILY = "dcomc traces models of the Llama family"
_THEIR_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What the code of models, and torch.export in it, raise for a configuration that they were not made for."""

# torch logs each failure of a shape function with its stack: the error that follows says it in one line.
logging.getLogger("torch").setLevel(logging.CRITICAL)


def capture(config: Mapping[str, object], seq_len: int, batch: int, dtype: str) -> Graph:
    """Trace the causal language model that a Hugging Face configuration describes.

    Args:
        config: the configuration, as `config.json` holds it.
        seq_len, batch: the shape [batch, seq_len] of the token ids.
        dtype: `bf16`, `f16` or `f32`.

    Returns:
        The graph of the logits [batch, seq_len, vocabulary], weights named as in the checkpoint.

    Raises:
        DcomError: the configuration is invalid, or torch.export cannot trace its model.
    """
    model = empty_model(config, DTYPES[dtype])
    rotary = rotary_modules(model)
    saved = model.state_dict()
    buffers = {name: value.clone() for name, value in model.named_buffers() if name not in saved and not value.is_meta}
    model.to("meta")
    ids = torch.zeros(batch, seq_len, dtype=torch.int64, device="meta")
    try:
        # Where a shape depends on data torch prints its whole graph; the error that follows says it in one line.
        with torch.no_grad(), whole_operators(model, rotary, DTYPES[dtype], seq_len), redirect_stderr(StringIO()):
            program = torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=False)
    except _THEIR_ERRORS as error:
        raise DcomError(f"torch.export cannot trace {type(model).__name__}: {_summary(error)}", hint=_FAMILY) from error
    if program.range_constraints:
        raise DcomError(f"{type(model).__name__} has shapes that depend on data", hint=_FAMILY)
    return convert(program, model, buffers)


class _EmptyOnMeta(TorchFunctionMode):
    """`torch.empty`, which makes the large parameters, gives tensors on the meta device; buffers keep their values."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is torch.empty and options.get("device") is None:
            options = {**options, "device": "meta"}
        return func(*args, **options)


def empty_model(config: Mapping[str, object], dtype: torch.dtype) -> nn.Module:
    """The causal language model of a configuration, in evaluation mode: its matrices on the meta device.

    Raises:
        DcomError: transformers knows no such model type, or finds the configuration inconsistent.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise DcomError(
            "the model's configuration has no model_type", hint="give the config.json of a causal language model"
        )
    if kind not in transformers.CONFIG_MAPPING:
        raise DcomError(f"transformers knows no model type '{kind}'", hint=_FAMILY)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise DcomError(f"model type '{kind}' is no causal language model", hint=_FAMILY)
    try:
        parsed: Any = transformers.AutoConfig.for_model(**cast(dict[str, Any], dict(config)))
        with _EmptyOnMeta():
            factory = cast(Any, transformers.AutoModelForCausalLM)
            model = factory.from_config(parsed, dtype=dtype, attn_implementation=IMPLEMENTATION)
    except _THEIR_ERRORS as error:
        what = f"invalid configuration of model type '{kind}': {_summary(error)}"
        raise DcomError(what, hint=f"look at its config.json; {_FAMILY}") from error
    return cast(nn.Module, model).eval()


def _summary(error: Exception) -> str:
    """The cause in one line."""
    if error.args == (IMPLEMENTATION,):
        return "it has attention of its own in the place of transformers' functions"
    if isinstance(error, KeyError):
        return f"nothing is known by the name {error}"
    return cause(error)
