"""A model's graph by torch.export on the meta device: shapes only, no weights, whatever the model's size."""

import logging
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from dcomc.diagnostics import DcomError
from dcomc.tracer import ops
from dcomc.tracer.graph import INPUT, WEIGHT, Graph, Node, Source, reachable

DTYPES = {"f16": torch.float16, "f32": torch.float32}
_DTYPE_NAMES = {
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "i1",
}
_PACKAGES = Path(transformers.__file__).parent.parent
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_ATTENTION = "dcomc"
_FAMILY = "dcomc traces models of the Llama family"

# torch logs each failure of a shape function with its stack: the error that follows says it in one line.
logging.getLogger("torch").setLevel(logging.CRITICAL)


def capture(config: Mapping[str, object], seq_len: int, batch: int, dtype: str) -> Graph:
    """Trace the causal language model that a Hugging Face configuration describes.

    Args:
        config: the configuration, as `config.json` holds it.
        seq_len, batch: the shape [batch, seq_len] of the token ids.
        dtype: `f16` or `f32`.

    Returns:
        The graph of the logits [batch, seq_len, vocabulary], weights named as in the checkpoint.

    Raises:
        DcomError: the configuration is invalid, or torch.export cannot trace its model.
    """
    model = meta_model(config, DTYPES[dtype])
    ids = torch.zeros(batch, seq_len, dtype=torch.int64, device="meta")
    with _whole_operators(model, DTYPES[dtype], seq_len):
        try:
            program = torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=False)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
            raise DcomError(
                f"torch.export cannot trace {type(model).__name__}: {_summary(error)}", hint=_FAMILY
            ) from error
    return _convert(program, model)


def meta_model(config: Mapping[str, object], dtype: torch.dtype) -> nn.Module:
    """The causal language model of a configuration, in evaluation mode, on the meta device.

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
        with torch.device("meta"):
            factory = cast(Any, transformers.AutoModelForCausalLM)
            model = factory.from_config(parsed, dtype=dtype, attn_implementation=_ATTENTION)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ZeroDivisionError,
        RuntimeError,
        StrictDataclassError,
    ) as error:
        raise DcomError(f"invalid configuration of model type '{kind}': {_summary(error)}", hint=_FAMILY) from error
    return cast(nn.Module, model).eval()


def _summary(error: Exception) -> str:
    """The cause in one line: the libraries put it first, validation of configurations puts it last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if isinstance(error, StrictDataclassError) else 0]


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls: kept whole."""
    window = options.get("sliding_window")
    features = {
        f"a sliding window of {window} tokens": isinstance(window, int) and window < query.shape[2],
        "capped scores": options.get("softcap") is not None,
        "sinks": options.get("s_aux") is not None,
        "a mask": attention_mask is not None,
        "no causal order": not getattr(module, "is_causal", True),
    }
    for feature, present in features.items():
        if present:
            return ops.other_attention(query, key, value, feature), None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return ops.attention(query, key, value, scale), None


ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)


@contextmanager
def _whole_operators(model: nn.Module, dtype: torch.dtype, tokens: int) -> Generator[None]:
    """Put the custom operators in the place of those RMSNorms and rotary embeddings that they equal on trial."""
    for module in model.modules():
        if _is_rms_norm(module, dtype):
            module.forward = _rms_norm_forward(module)
    rotary = [module for module in model.modules() if hasattr(module, "inv_freq")]
    libraries = {sys.modules[type(module).__module__] for module in model.modules()}
    rotations = [library for library in libraries if _is_rope(getattr(library, "apply_rotary_pos_emb", None))]
    saved = [(library, cast(object, vars(library)["apply_rotary_pos_emb"])) for library in rotations]
    if rotations:
        for module in rotary:
            module.forward = _rope_forward(module, tokens)
    try:
        for library in rotations:
            vars(library)["apply_rotary_pos_emb"] = _rotate
        yield
    finally:
        for library, function in saved:
            vars(library)["apply_rotary_pos_emb"] = function


def _is_rms_norm(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a module computes `ops.rms_norm`: tried on numbers."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1 or not isinstance(epsilon, float):
        return False
    x = torch.linspace(-2, 3, 2 * len(weight), device="cpu").reshape(2, -1).to(dtype)
    trial = torch.linspace(0.5, 1.5, len(weight), device="cpu").to(dtype)
    result = cast(torch.Tensor, torch.func.functional_call(module, {"weight": trial}, (x,)))
    return torch.equal(result, ops.rms_norm(x, trial, epsilon))


def _rms_norm_forward(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    epsilon = cast(float, module.variance_epsilon)

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        # The weight is looked up at each call: torch.export puts its own tensors in the modules while it traces.
        return ops.rms_norm(hidden_states, cast(torch.Tensor, module.weight), epsilon)

    return forward


def _rotate(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, **_: object
) -> tuple[torch.Tensor, torch.Tensor]:
    return ops.rope(q, cos, sin), ops.rope(k, cos, sin)


def _is_rope(function: Any) -> bool:
    """Whether `apply_rotary_pos_emb` of a model's library rotates as `ops.rope` does: tried on numbers."""
    if function is None:
        return False
    q, k = torch.linspace(-1, 1, 48).reshape(1, 2, 3, 8), torch.linspace(-2, 1, 24).reshape(1, 1, 3, 8)
    angles = torch.linspace(0, 3, 12).reshape(3, 4)
    cos, sin = angles.cos(), angles.sin()
    try:
        got = function(q, k, torch.cat((cos, cos), -1)[None], torch.cat((sin, sin), -1)[None])
    except (TypeError, RuntimeError, ValueError):
        return False
    return all(torch.allclose(a, b) for a, b in zip(got, _rotate(q, k, cos, sin), strict=True))


def _rope_forward(
    module: nn.Module, tokens: int
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A rotary embedding that gives `ops.rope_table`s of the frequencies that the module has for so many tokens."""
    actual: Any = type(module)(cast(Any, module).config)
    with torch.no_grad():
        actual(torch.zeros(1), torch.arange(tokens)[None])
    frequencies = [float(value) for value in actual.inv_freq.tolist()]
    scaling = float(actual.attention_scaling)

    def forward(x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ops.rope_table(x, frequencies, scaling, "cos"), ops.rope_table(x, frequencies, scaling, "sin")

    return forward


def _convert(program: torch.export.ExportedProgram, model: nn.Module) -> Graph:
    """Our graph of an exported program; tied weights become one."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), name)
    signature = program.graph_signature
    parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    converted: dict[torch.fx.Node, Node] = {}
    weights: dict[str, Node] = {}
    nodes: list[Node] = []
    for node in program.graph.nodes:
        if node.op == "output":
            break
        if node.name in parameters:
            target = parameters[node.name]
            name = names.get(id(_lookup(model, target)), target)
            if name not in weights:
                weights[name] = _node(node, name, WEIGHT, converted)
                nodes.append(weights[name])
            converted[node] = weights[name]
        else:
            op = INPUT if node.op == "placeholder" else str(node.target)
            converted[node] = _node(node, node.name, op, converted)
            nodes.append(converted[node])
    output = program.graph.output_node().args[0]
    logits = cast(torch.fx.Node, cast(tuple[object, ...], output)[0])
    return Graph(reachable(nodes, converted[logits]), converted[logits])


def _lookup(model: nn.Module, name: str) -> torch.Tensor | None:
    owner, _, attribute = name.rpartition(".")
    value = getattr(model.get_submodule(owner), attribute)
    return value if isinstance(value, torch.Tensor) else None


def _node(node: torch.fx.Node, name: str, op: str, converted: Mapping[torch.fx.Node, Node]) -> Node:
    value = node.meta.get("val")
    tensor = isinstance(value, torch.Tensor)
    return Node(
        name=name,
        op=op,
        args=tuple(_argument(argument, converted) for argument in node.args),
        options=tuple((key, _argument(argument, converted)) for key, argument in sorted(node.kwargs.items())),
        shape=tuple(value.shape) if tensor else (),
        dtype=_DTYPE_NAMES.get(value.dtype, str(value.dtype)) if tensor else "none",
        source=_source(node, name.rpartition(".")[0] if op == WEIGHT else None),
    )


def _argument(value: object, converted: Mapping[torch.fx.Node, Node]) -> object:
    if isinstance(value, torch.fx.Node):
        return converted[value]
    if isinstance(value, list | tuple):
        return tuple(_argument(item, converted) for item in cast(list[object], value))
    if isinstance(value, torch.dtype):
        return _DTYPE_NAMES.get(value, str(value))
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _source(node: torch.fx.Node, module: str | None) -> Source:
    """The innermost module path, and the innermost line of the model's own file (or of transformers, or of torch)."""
    if module is None:
        stack = cast(Mapping[str, tuple[str, object]], node.meta.get("nn_module_stack") or {})
        module = list(stack.values())[-1][0] if stack else node.name
    frames = [
        (Path(match["file"]), int(match["line"])) for match in _FRAME.finditer(node.meta.get("stack_trace") or "")
    ]
    inside = [(file.relative_to(_PACKAGES), line) for file, line in frames if file.is_relative_to(_PACKAGES)]
    ours = [frame for frame in inside if frame[0].parts[0] == "transformers"]
    models = [frame for frame in ours if frame[0].parts[1] == "models"]
    for candidates in (models, ours, inside):
        if candidates:
            file, line = candidates[-1]
            return Source(module, file.as_posix(), line)
    return Source(module, "", 0)
