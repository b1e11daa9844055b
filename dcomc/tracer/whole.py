"""What stays whole while a model is exported: RMSNorms, rotary embeddings, masks and attention.

A module or function is replaced by the operator of `ops` that it equals on trial; what equals none is traced through.
Rotary tables and masks depend on the prompt's length alone: they are computed on the CPU while the export goes on.
"""

import copy
import inspect
import itertools
import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import nn
from transformers import masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dcomc.tracer import ops

IMPLEMENTATION = "dcomc"
"""The name under which transformers finds our attention and masks."""

_ROTATE = "apply_rotary_pos_emb"
_SAMPLED_ROWS = 256
T = TypeVar("T")


@dataclass(frozen=True)
class Mask:
    """A mask that is not plainly causal: a causal window, or (with window 0) something else."""

    window: int


def _eager(compute: Callable[[], T]) -> T:
    """Compute on real tensors during an export, which intercepts and records only what its own thread does."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(compute).result()


@dataclass(frozen=True)
class Table:
    """A rotary embedding: cos and sin of position times frequency, times a scale."""

    frequencies: list[float]
    scaling: float
    dtype: torch.dtype

    def tensors(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tables [S, D] as operators."""
        cos, sin = (
            ops.rope_table(like, self.frequencies, self.scaling, function, self.dtype) for function in ("cos", "sin")
        )
        return cos, sin


@contextmanager
def whole_operators(
    model: nn.Module, rotary: Mapping[nn.Module, nn.Module], dtype: torch.dtype, tokens: int
) -> Generator[None]:
    """Put the operators in place in a model on the meta device.

    Args:
        rotary: the model's rotary embeddings, each with a copy on the CPU.
        dtype: of the model.
        tokens: of a prompt.
    """
    for module in model.modules():
        if flavour := _rms_norm(module, dtype):
            module.forward = _rms_norm_forward(module, *flavour)
    libraries = {sys.modules[type(module).__module__] for module in model.modules()}
    rotations = {library: vars(library)[_ROTATE] for library in libraries if hasattr(library, _ROTATE)}
    rotation = _Rotation(list(rotations.values()), dtype)
    for module, actual in rotary.items():
        module.forward = _rotary_forward(module.forward, actual, rotation, dtype, tokens)
    packing = masking_utils.find_packed_sequence_indices
    try:
        # A prompt is one sequence; to find that out, transformers would look at values that are not there.
        masking_utils.find_packed_sequence_indices = _not_packed
        for library, function in rotations.items():
            vars(library)[_ROTATE] = rotation.function(function)
        yield
    finally:
        masking_utils.find_packed_sequence_indices = packing
        for library, function in rotations.items():
            vars(library)[_ROTATE] = function


def rotary_modules(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """The rotary embeddings of a model whose buffers are on the CPU, each with a copy."""
    found = [
        module for module in model.modules() if any("inv_freq" in name for name, _ in module.named_buffers("", False))
    ]
    return {module: copy.deepcopy(module) for module in found}


def _rms_norm(module: nn.Module, dtype: torch.dtype) -> tuple[float, float, bool] | None:
    """The epsilon, offset and rounding with which a module is `ops.rms_norm`; tried on numbers."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1 or len(list(module.parameters())) != 1:
        return None
    x = torch.linspace(-2, 3, 2 * len(weight)).reshape(2, -1).to(dtype)
    trial = torch.linspace(0.5, 1.5, len(weight)).to(dtype)
    try:
        got = cast(object, torch.func.functional_call(module, {"weight": trial}, (x,)))
    except (TypeError, RuntimeError, ValueError, AttributeError):
        return None
    for epsilon in [value for value in vars(module).values() if isinstance(value, float)]:
        for offset, late in itertools.product((0.0, 1.0), (False, True)):
            wanted = ops.rms_norm(x, trial, epsilon, offset, late)
            if isinstance(got, torch.Tensor) and got.dtype == dtype and torch.equal(got, wanted):
                return epsilon, offset, late
    return None


def _rms_norm_forward(
    module: nn.Module, epsilon: float, offset: float, late: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        # The weight is looked up at each call: torch.export puts its own tensors in the modules while it traces.
        return ops.rms_norm(hidden_states, cast(torch.Tensor, module.weight), epsilon, offset, late)

    return forward


class _Rotation:
    """How a model's `apply_rotary_pos_emb` functions turn channels: found on trial with the model's own tables.

    Until a table has been seen, and if any trial fails, the functions are left as they are.
    """

    def __init__(self, functions: list[Callable[..., Any]], dtype: torch.dtype) -> None:
        self._functions = functions
        self._dtype = dtype
        self.interleaved: bool | None = None
        self.partial = False

    def fits(self, cos: torch.Tensor, sin: torch.Tensor, table: Table, tokens: int) -> bool:
        """Whether the functions, given cos and sin [1, S, D], are `ops.rope` with the tables of `table`."""
        pairs = len(table.frequencies)
        like = torch.zeros(1, tokens)
        known = self.interleaved is not None
        for interleaved in (self.interleaved,) if known else (False, True):
            trials = [
                self._equal(cos, sin, *table.tensors(like), interleaved, width) for width in (2 * pairs, 2 * pairs + 2)
            ]
            if trials[0]:
                self.interleaved, self.partial = interleaved, trials[1]
                return True
        if known:
            raise NotImplementedError("rotary embeddings of two kinds in one model")
        return False

    def _equal(self, *tables_and_options: Any) -> bool:
        cos, sin, half_cos, half_sin, interleaved, width = tables_and_options
        tokens = cos.shape[1]
        q = torch.linspace(-1, 1, 2 * tokens * width).reshape(1, 2, tokens, width).to(self._dtype)
        k = torch.linspace(-2, 1, tokens * width).reshape(1, 1, tokens, width).to(self._dtype)
        wanted = [ops.rope(x, half_cos, half_sin, interleaved) for x in (q, k)]
        tolerance = 4 * torch.finfo(self._dtype).eps
        for function in self._functions:
            try:
                got = function(q, k, cos, sin)
            except (TypeError, RuntimeError, ValueError, IndexError):
                return False
            for a, b in zip(got, wanted, strict=True):
                if a.dtype != b.dtype or a.shape != b.shape or not torch.allclose(a, b, tolerance, tolerance):
                    return False
        return bool(self._functions)

    def function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What stands in the place of `original`."""
        signature = inspect.signature(original)

        def rotate(*args: Any, **options: Any) -> Any:
            if self.interleaved is None:
                return original(*args, **options)
            given = signature.bind(*args, **options).arguments
            q, k, cos, sin = list(given.values())[:4]
            swap = given.get("unsqueeze_dim", 1) == 2  # [B, S, heads, D] in place of [B, heads, S, D]
            results: list[torch.Tensor] = []
            for x in (q, k):
                if x.shape[-1] != 2 * cos.shape[-1] and not self.partial:
                    raise ValueError(f"a rotary embedding of {2 * cos.shape[-1]} of {x.shape[-1]} channels")
                turned = ops.rope(x.transpose(1, 2) if swap else x, cos, sin, self.interleaved)
                results.append(turned.transpose(1, 2) if swap else turned)
            return tuple(results)

        return rotate


def _rotary_forward(
    original: Callable[..., Any], actual: Any, rotation: _Rotation, dtype: torch.dtype, tokens: int
) -> Callable[..., Any]:
    """A rotary embedding that gives `ops.rope_table`s, where its tables are such and the functions take them."""

    def compute(options: tuple[object, ...], named: Mapping[str, object]) -> tuple[Table, bool] | None:
        positions = torch.arange(tokens)[None]
        with torch.no_grad():
            cos, sin = actual(torch.zeros(1, 1, 1), positions, *options, **named)
            result = actual(torch.zeros(1, 1, 1, dtype=dtype), positions, *options, **named)[0].dtype
        for layout in (_halves, _pairs, _once):
            if table := _table(actual, cos, sin, layout, result):
                if rotation.fits(cos.to(result), sin.to(result), table, tokens):
                    return table, True
                full = Table(_numbers(layout(torch.tensor(table.frequencies))), table.scaling, result)
                return full, False
        return None

    def forward(x: torch.Tensor, position_ids: torch.Tensor, *options: object, **named: object) -> Any:
        found = _eager(lambda: compute(options, named))
        if found is None:
            return original(x, position_ids, *options, **named)
        cos, sin = found[0].tensors(x)
        return (cos, sin) if found[1] else (cos[None], sin[None])

    return forward


def _numbers(x: torch.Tensor) -> list[float]:
    return cast(list[float], x.tolist())


def _halves(x: torch.Tensor) -> torch.Tensor:
    return torch.cat((x, x), -1)


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, -1)


def _once(x: torch.Tensor) -> torch.Tensor:
    return x


def _table(
    module: nn.Module,
    cos: torch.Tensor,
    sin: torch.Tensor,
    layout: Callable[[torch.Tensor], torch.Tensor],
    dtype: torch.dtype,
) -> Table | None:
    """The frequencies, among a module's buffers, whose cos and sin [1, S, D] are those of the module."""
    scaling = float(cos.flatten()[0])
    positions = torch.arange(cos.shape[-2], dtype=torch.float32)
    for name, buffer in module.named_buffers("", False):
        if "inv_freq" not in name or layout(buffer).shape != cos.shape[-1:] or cos.ndim != 3:
            continue
        angles = positions[:, None] * layout(buffer)
        if torch.allclose(angles.cos() * scaling, cos[0]) and torch.allclose(angles.sin() * scaling, sin[0]):
            return Table(_numbers(buffer), scaling, dtype)
    return None


def _not_packed(position_ids: torch.Tensor) -> None:
    """In the place of transformers' search for several sequences in one prompt."""


def _mask(*, q_length: int, kv_length: int, mask_function: Callable[..., Any], **_: object) -> Mask | None:
    """The function by which transformers makes masks: None for a causal one, else what differs."""
    return _eager(lambda: _classify(q_length, kv_length, mask_function))


def _classify(queries: int, keys: int, mask_function: Callable[..., Any]) -> Mask | None:
    """What mask a function of indices is, by its values in rows across the prompt."""
    rows = torch.linspace(0, queries - 1, min(queries, _SAMPLED_ROWS)).round().long()[:, None]
    columns = torch.arange(keys)[None]
    seen = cast(torch.Tensor, mask_function(torch.tensor(0), torch.tensor(0), rows, columns))
    distance, window = rows - columns, int(seen[-1].sum())
    if not torch.equal(seen.expand(len(rows), keys), (distance >= 0) & (distance < window)):
        return Mask(0)
    return None if window == queries else Mask(window)


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls: kept whole."""
    window = attention_mask.window if isinstance(attention_mask, Mask) else 0
    cap, limit = options.get("softcap"), options.get("sliding_window")
    features = {
        "a mask that is no causal window": attention_mask is not None and not window,
        "sinks": options.get("s_aux") is not None,
        "no causal order": not getattr(module, "is_causal", True),
        "a sliding window but no mask of it": isinstance(limit, int) and limit < query.shape[2] and not window,
        "a bias of its scores": options.get("position_bias") is not None,
    }
    if any(features.values()):
        listed = " and ".join(feature for feature, present in features.items() if present)
        return ops.other_attention(query, key, value, listed), None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return ops.attention(query, key, value, float(scale), window, float(cap or 0.0)), None


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _mask)
