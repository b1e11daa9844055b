"""Every family of models that dcomc traces: by the host's executor and by IREE, it equals transformers."""

from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import mlir_tools
import numpy as np
import pytest
import torch
from families import LLAMA_FAMILY, RELATIVES
from iree_tools import run
from tiny_models import logits, random_model
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import CallOp
from xdsl.dialects.linalg.ops import MatmulOp

from dcomc.ir import make_context, parse_module, print_module, verify_module
from dcomc.model import resolve_model
from dcomc.tracer import trace
from dcomc.tracer.capture import capture
from dcomc.tracer.program import build_module
from passes import make_passes
from runtime.executor import Executor
from runtime.executor_arrays import make_arrays

FAMILIES = LLAMA_FAMILY | RELATIVES
# These have every mechanism among them: those for IREE, which takes three seconds for each, and those for the executor.
QUICK = ("mistral", "qwen2", "qwen3", "phi3-longrope", "gemma2", "gemma3", "granite", "apertus")
QUICK_HERE = (
    *LLAMA_FAMILY,
    "llama-dynamic",
    "apertus",
    "cohere",
    "ernie4_5",
    "glm",
    "ministral3",
    "nemotron",
    "olmo-clipped",
    "phi",
)
TOKENS, BATCH = 17, 2
IDS = np.random.default_rng(1).integers(0, 99, (BATCH, TOKENS))
HALVES = {"bf16": (ml_dtypes.bfloat16, torch.bfloat16, 2**-8), "f16": (np.float16, torch.float16, 2**-11)}


@cache
def traced(family: str, dtype: str = "f32") -> str:
    module = build_module(capture(FAMILIES[family], TOKENS, BATCH, dtype), "test", TOKENS, BATCH)
    verify_module(module, "test")
    return print_module(module)


def parsed(family: str) -> ModuleOp:
    return parse_module(traced(family), "test")


@cache
def reference(family: str) -> tuple[dict[str, Any], Any]:
    """Weights by name and logits, by transformers in f32."""
    model = random_model(FAMILIES[family])
    return {name: value.numpy() for name, value in model.state_dict().items()}, logits(model, IDS)


def check(family: str, result: Any) -> None:
    expected = reference(family)[1]
    assert result.shape == expected.shape and result.dtype == np.float32
    # The logits differ by as much among tokens; what is left out of a model shows.
    assert np.ptp(expected) > 0.5
    assert np.abs(result - expected).max() < min(1e-3, 1e-4 * np.ptp(expected))


def chosen(quick: tuple[str, ...]) -> list[Any]:
    """All families as parameters, those that are not quick marked as slow."""
    return [family if family in quick else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("family", chosen(QUICK_HERE))
def test_the_executor_equals_transformers(family: str, backend: str) -> None:
    check(family, Executor(parsed(family), reference(family)[0], arrays=make_arrays(backend)).run("main", IDS)[0])


@pytest.mark.parametrize("family", chosen(QUICK))
def test_iree_equals_transformers(family: str) -> None:
    check(family, run(traced(family), reference(family)[0], IDS))


@pytest.mark.parametrize("family", chosen(QUICK_HERE))
def test_mlir_opt_accepts_it_unchanged(family: str) -> None:
    assert mlir_tools.optimise(traced(family)).count("linalg.matmul") == traced(family).count("linalg.matmul")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama3", "qwen3", "olmo2", "gemma2"])
def test_half_precision_is_as_near_as_that_of_transformers(family: str, dtype: str, backend: str) -> None:
    element, torch_type, rounding = HALVES[dtype]
    model = random_model(FAMILIES[family]).to(torch_type)
    with torch.no_grad():
        theirs = model(torch.from_numpy(IDS), use_cache=False).logits.float().numpy()
    exact = logits(model.float(), IDS)
    weights = {name: value.numpy().astype(element) for name, value in model.state_dict().items()}
    module = parse_module(traced(family, dtype), "test")
    (result,) = Executor(module, weights, arrays=make_arrays(backend)).run("main", IDS)
    assert result.dtype == element
    error = np.abs(result.astype(np.float32) - exact).mean()
    # Their own error of rounding, and some: the sums differ in order. An f32 result would be far nearer.
    assert rounding / 10 < error < 1.5 * np.abs(theirs - exact).mean()


def test_iree_runs_bf16() -> None:
    model = random_model(FAMILIES["llama3"]).bfloat16().float()
    weights = {name: value.numpy().astype(ml_dtypes.bfloat16) for name, value in model.state_dict().items()}
    result = run(traced("llama3", "bf16"), weights, IDS)
    assert result.dtype == ml_dtypes.bfloat16
    # Eight products in a row, each rounded to 8 bits, of logits up to about 5.
    assert np.abs(result.astype(np.float32) - logits(model, IDS)).max() < 8 * 5 * 2**-7


@pytest.mark.parametrize(
    ("family", "callees"),
    [
        ("llama3", ["", ""]),
        ("qwen2", ["", "_variant1"]),
        ("gemma2", ["", "_variant1"]),
        ("gemma3", ["", "_variant1", ""]),
        ("smollm3", ["", "", "", "_variant1"]),
    ],
)
def test_layers_that_alternate_share_a_function_a_structure(family: str, callees: list[str]) -> None:
    calls = [op for op in parsed(family).walk() if isinstance(op, CallOp)]
    assert [call.callee.root_reference.data for call in calls] == [f"decoder_layer{suffix}" for suffix in callees]


def test_a_window_longer_than_the_prompt_leaves_no_trace() -> None:
    def conditions(changes: dict[str, Any]) -> int:
        config = FAMILIES["mistral"] | changes
        return print_module(build_module(capture(config, TOKENS, 1, "f32"), "test", TOKENS, 1)).count("arith.andi")

    assert conditions({"sliding_window": TOKENS}) == 0
    assert conditions({"sliding_window": TOKENS - 1}) == 1


@pytest.mark.parametrize("family", ["phi3", "gemma2", "glm4", "granite"])
def test_norms_rotations_and_attention_are_found_by_trial_and_stay_whole(family: str) -> None:
    graph = capture(FAMILIES[family], TOKENS, BATCH, "f32")
    names = {node.op for node in graph.nodes}
    assert {f"dcomc.{name}.default" for name in ("attention", "rms_norm", "rope", "rope_table")} <= names
    # None of the operators that they consist of is left.
    assert not names & {"aten.rsqrt.default", "aten.mean.dim", "aten.neg.default", "aten.cos.default"}


def test_fused_projections_are_sites() -> None:
    module = parsed("phi3")
    roles = [op.attributes["dcom.role"].data for op in module.walk() if isinstance(op, MatmulOp)]
    assert roles == ["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head"]
    for pass_ in make_passes("dcom-insert-outlier-split{layers=0,1 outliers=20}"):
        pass_.apply(make_context(), module)
    module.verify()
    assert sum(op.name == "dcom.outlier_split" for op in module.walk()) == 8
    (result,) = Executor(module, reference("phi3")[0]).run("main", IDS)
    check("phi3", result)
    for pass_ in make_passes("dcom-decompose-activations{layers=0,1 rank=4 iterations=6},dcom-preserve-decomposed"):
        pass_.apply(make_context(), module)
    module.verify()
    assert sum(op.name == "dcom.matmul" for op in module.walk()) == 8


def test_a_sharded_checkpoint_in_bf16_runs_as_traced(tmp_path: Path) -> None:
    model = random_model(FAMILIES["gemma"]).bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    resolved = resolve_model(str(tmp_path))
    (result,) = Executor(trace(resolved, TOKENS, BATCH, "f32"), resolved.weights()).run("main", IDS)
    assert np.abs(result - logits(resolved.torch_model("f32"), IDS)).max() < 1e-3
