"""Attention is fused where the IR is certain to be attention, and nowhere else."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from backends import run_all
from xdsl.dialects import tensor
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.rewriter import InsertPoint

from dcomc.ir import make_context, parse_module, print_module
from dcomc.model import resolve_model
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from dialects import dcom
from passes import make_passes
from passes._build import building, filled
from runtime.executor import Executor
from runtime.executor_torch import TorchArrays

TOKENS = 12


@cache
def traced(dtype: str = "f32", **changes: Any) -> str:
    config = {**resolve_model("tiny").config(), "num_hidden_layers": 1, "attention_bias": False, **changes}
    return print_module(build_module(capture(config, TOKENS, 2, dtype), "test", TOKENS, 2))


class Counting(TorchArrays):
    """Counts the fused attentions, and keeps what they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[float, int | None]] = []
        fused = self.attention

        def attention(q: Any, k: Any, v: Any, scale: float, window: int | None) -> Any:
            self.calls.append((scale, window))
            return fused(q, k, v, scale, window)

        self.attention = attention


def on_factors(**changes: Any) -> str:
    """The traced model with q, k and v decomposed, and attention on the factors of v."""
    module, context = parse_module(traced(**changes), "test"), make_context()
    passes = "dcom-decompose-activations{layers=0 sites=qkv rank=3},dcom-preserve-decomposed{balance=0.0}"
    for pass_ in make_passes(passes):
        pass_.apply(context, module)
    return print_module(module)


def weights(module: ModuleOp) -> dict[str, Any]:
    random = np.random.default_rng(0)
    globals_ = {op.sym_name.data: op for op in module.ops if op.name == "ml_program.global"}
    return {name: random.normal(size=op.value.type.get_shape()).astype(np.float32) for name, op in globals_.items()}


def calls(text: str) -> list[tuple[float, int | None]]:
    """The fused attentions of a run; its result is near that of NumPy, which has none."""
    module = parse_module(text, "test")
    ids = np.random.default_rng(1).integers(0, 256, (2, TOKENS))
    arrays = Counting()
    given = weights(module)
    (result,) = Executor(module, given, arrays=arrays).run("main", ids)
    (expected,) = Executor(module, given).run("main", ids)
    wide = [x.astype(np.float64) for x in (result, expected)]
    assert np.abs(wide[0] - wide[1]).max() < (1e-3 if result.dtype == np.float32 else 2e-2) * np.abs(wide[1]).max()
    return arrays.calls


WINDOW = {"model_type": "mistral", "sliding_window": 5}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(
    ("changes", "window"),
    [({}, None), ({"num_key_value_heads": 1}, None), ({"num_key_value_heads": 4}, None), (WINDOW, 5)],
)
def test_what_the_tracer_writes_is_fused(changes: dict[str, Any], window: int | None, dtype: str) -> None:
    assert calls(traced(dtype, **changes)) == [(0.25, window)]


def test_it_is_fused_after_common_subexpressions_and_canonicalisation() -> None:
    module, context = parse_module(traced(), "test"), make_context()
    for pass_ in make_passes("canonicalize,cse"):
        pass_.apply(context, module)
    assert len(calls(print_module(module))) == 1


CHANGES = {
    "anti-causal": ("arith.cmpi ule", "arith.cmpi uge"),
    "strictly causal": ("arith.cmpi ule", "arith.cmpi ult"),
    "no softmax": ("math.exp", "math.exp2"),
    "not the maximum": ("arith.maximumf", "arith.minimumf"),
    "masked by a number": ("0xff800000", "-1.0e9"),
    "sum from one": None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_else_is_fused(change: str) -> None:
    """Each is another function, which the executor computes as it is written (some of them are NaN in places)."""
    text = traced()
    if CHANGES[change] is None:
        lines = text.splitlines()
        place = next(n for n, line in enumerate(lines) if "%totals = linalg.generic" in line)
        start = next(n for n in range(place, 0, -1) if "arith.constant 0.000000e+00 : f32" in lines[n])
        lines[start] = lines[start].replace("0.000000e+00", "1.000000e+00")
        changed = "\n".join(lines)
    else:
        before, after = CHANGES[change]
        changed = text.replace(before, after)
    assert changed != text
    module = parse_module(changed, "test")
    arrays = Counting()
    Executor(module, weights(module), arrays=arrays).run("main", np.zeros((2, TOKENS), np.int64))
    assert arrays.calls == []


def test_a_value_that_is_used_elsewhere_is_not_lost() -> None:
    module = parse_module(traced(), "test")
    mixed = next(op for op in module.walk() if op.name == "linalg.generic" and op.results[0].name_hint == "mixed")
    shares = mixed.operands[0]
    mixed.parent.insert_op_before(tensor.CastOp(shares, shares.type), mixed)
    assert calls(print_module(module)) == []


def test_an_observer_sees_every_operation() -> None:
    module = parse_module(traced(), "test")
    seen: list[str | None] = []
    arrays = Counting()
    executor = Executor(
        module, weights(module), arrays=arrays, observer=lambda op, _, results: seen.append(op.results[0].name_hint)
    )
    executor.run("main", np.zeros((2, TOKENS), np.int64))
    assert {"scores", "masked", "largest", "totals", "mixed"} <= set(seen) and arrays.calls == []


def test_all_back_ends_agree_on_a_layer() -> None:
    module = parse_module(traced(), "test")
    given = {name: value * np.float32(0.3) for name, value in weights(module).items()}
    run_all(module, given, np.random.default_rng(2).integers(0, 256, (2, TOKENS)))


@pytest.mark.parametrize(
    ("changes", "window"),
    [({}, None), ({"num_key_value_heads": 1}, None), ({"num_key_value_heads": 4}, None), (WINDOW, 5)],
)
def test_attention_on_factors_is_fused(changes: dict[str, Any], window: int | None) -> None:
    text = on_factors(**changes)
    assert "dcom.left_matmul" in text
    assert calls(text) == [(0.25, window)]


def test_heads_that_may_have_a_basis_each_are_not_fused_where_they_share_a_key() -> None:
    """The fused kernel takes one U for all heads of a group, so that must be what stands there."""
    module = parse_module(on_factors(), "test")
    (product,) = (op for op in module.walk() if isinstance(op, dcom.LeftMatmulOp))
    heads, rows, _ = product.input.type.dimensions
    with building(InsertPoint.before(product), product.location):
        scaled = dcom.ScaleOp(product.input, filled([heads * rows], f32, 1), "rows")
    product.operands[1] = scaled.result
    assert calls(print_module(module)) == []
