"""One decoder layer in real time: dense in torch against the compiled decomposed program, decomposition included.

    python benchmarks/real_layer.py [--tokens 2048,4096] [--dtypes f32,bf16] [--rank 10] [--outliers 3] [--device cpu]

A layer of Llama-2-7B with random weights runs on activations with a decaying spectrum: by transformers, whose
attention is torch's fused one, and by the executor's torch back end from the program that `dcomc compile` makes of it.
The dense program by that back end is timed too: it multiplies by another library than torch alone, so that what
decomposition gains and what the library gains stand apart.
The norm with q, k and v is also timed alone in both. They run by turns, so that what else the machine does meets both:
a ratio is the median of those of the rounds, seconds are of the fastest; beside it is the ratio of processor times,
which load hardly touches. For both alike the process keeps memory that is freed, as PyTorch's tuning guide advises
(which names jemalloc; here it is glibc, by GLIBC_TUNABLES), and threads without work sleep soon (GOMP_SPINCOUNT).
Each size has a process of its own, so that none finds the memory that another has left in pieces. Beside q, k and v
stands what it takes to read the activations once a step, as Lanczos does, as fast as torch adds up so many bytes.
Errors are ||ours - dense|| / ||dense||, of what the layer adds to its input. The goal, at rank 10, 4,096 tokens,
2 threads: q, k and v 10 times as fast, the layer 4 times.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from measure import Goal, finish, start_anew_with
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp, StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

import dcomc
from dcomc.activations import made_from_seed
from dcomc.model import resolve_model
from dcomc.pipeline import Decomposition
from dialects import dcom
from runtime.executor import Executor
from runtime.executor_arrays import Array
from runtime.executor_torch import TorchArrays

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
OUTLIERS, OUTLIER_SCALE = 40, 8.0
"""Channels of the activations that are larger than the others, as in real models, and by how much."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj")

ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592",
    "GOMP_SPINCOUNT": "1000",
}
"""glibc keeps what is freed: new pages of the system for each large tensor take more time than some operations.

Threads of torch that have nothing to do sleep soon, as in `dcomc`: awake, they keep the cores from those of others.
"""

GOALS = {"qkv": 10.0, "layer": 4.0}
"""How many times as fast as dense a part is to be at 4,096 tokens."""


Arrays = Sequence[Any]


@dataclass(frozen=True)
class Part:
    """What is computed both ways; each gives what is compared, dense as tensors, ours as NumPy's arrays."""

    name: str
    dense: Callable[[], Arrays]
    same: Callable[[], Arrays]
    """Dense, by what computes ours."""
    ours: Callable[[], Arrays]
    reading: Callable[[], object] | None = None
    """Reads as often what Lanczos reads, and does nothing else."""
    base: Array | int = 0
    """What the results stand on, which errors leave out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama2-7b", help="a preset's shape (default: %(default)s)")
    parser.add_argument("--tokens", default="2048,4096", help="of the prompt (default: %(default)s)")
    parser.add_argument("--dtypes", default="f32,bf16", help=f"of {', '.join(DTYPES)} (default: %(default)s)")
    parser.add_argument("--parts", default="qkv,layer", help="what is timed (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--iterations", type=int, help="Lanczos steps (default: rank + 5)")
    parser.add_argument("--outliers", type=float, default=3.0, help="percent of channels (default: %(default)s)")
    parser.add_argument("--reuse", default="", help="sites on the basis of their layer's first (default: none)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where torch computes (default: %(default)s)")
    args = parser.parse_args()
    start_anew_with(ENVIRONMENT)
    options = {name: getattr(args, name) for name in ("rank", "iterations", "outliers")}
    options["reuse"] = tuple(filter(None, args.reuse.split(",")))
    results: list[dict[str, Any]] = []
    for dtype, tokens in product(args.dtypes.split(","), map(int, args.tokens.split(","))):
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            found = alone.submit(measured, args, dtype, tokens, options).result()
        for each in found:
            print("{part}, {tokens} tokens, {dtype}: dense {dense:.3f} s, ours {ours:.3f} s, ".format(**each), end="")
            print("{ratio:.2f} times as fast ({cpu_ratio:.2f} in processor time), ".format(**each), end="")
            if "reading" in each:
                print("Lanczos' reads alone {reading:.3f} s, ".format(**each), end="")
            print("error {error:.3f}; ".format(**each), end="")
            print("dense by the executor {same:.3f} s ({same_cpu_ratio:.2f})".format(**each), flush=True)
        results += found
    goals = [
        Goal("{part}, {dtype}: dense in torch over ours, {tokens} tokens".format(**found), found["ratio"], limit, True)
        for found in results
        if found["tokens"] == 4096 and (limit := GOALS.get(found["part"]))
    ]
    settings = {"threads": torch.get_num_threads(), "device": args.device, **options}
    finish("real_layer", {**settings, "results": results}, goals)


def measured(args: argparse.Namespace, dtype: str, tokens: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each part that is asked for, what `compare` gives, in a process of its own."""
    with torch.inference_mode():
        return [
            {"dtype": dtype, "tokens": tokens, **compare(part, args.rounds, args.device)}
            for part in parts(args.model, tokens, dtype, args.device, options)
            if part.name in args.parts.split(",")
        ]


def compare(part: Part, rounds: int, device: str) -> dict[str, Any]:
    """Both by turns, after one round that does not count and gives the error, the largest of the results'."""
    pairs = zip(part.ours(), map(TorchArrays(device).to_numpy, part.dense()), strict=True)
    error = max(distance(ours, dense, part.base) for ours, dense in pairs)
    runs = {"dense": part.dense, "same": part.same, "ours": part.ours}
    if part.reading is not None:
        runs["reading"] = part.reading
    part.same()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            run()
            if device != "cpu":
                torch.accelerator.synchronize()
            times[name].append((time.perf_counter() - started, time.process_time() - cpu_started))
    ratios = {name: np.median(np.array(of) / np.array(times["ours"]), axis=0) for name, of in times.items()}
    ratio, cpu_ratio = map(float, ratios["dense"])
    seconds = {name: min(wall for wall, _ in of) for name, of in times.items()}
    same = float(ratios["same"][1])
    return {
        "part": part.name,
        **seconds,
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "same_cpu_ratio": same,
        "error": error,
    }


def distance(ours: Array, dense: Array, base: Array | int) -> float:
    """||ours - dense|| / ||dense - base||, in float32."""
    exact = dense.astype(np.float32)
    return float(np.linalg.norm(ours.astype(np.float32).reshape(exact.shape) - exact) / np.linalg.norm(exact - base))


def parts(model: str, tokens: int, dtype: str, device: str, options: dict[str, Any]) -> Iterator[Part]:
    """The norm with q, k and v, and the whole layer, at one size."""
    values = resolve_model(model).config() | {"num_hidden_layers": 1, "max_position_embeddings": tokens}
    config = LlamaConfig(**values, attn_implementation="sdpa")
    torch.manual_seed(0)
    layer = LlamaDecoderLayer(config, 0).to(DTYPES[dtype]).to(device).eval()
    for weight in layer.parameters():
        if weight.ndim > 1:
            weight.normal_(0, weight.shape[1] ** -0.5)
    activations = made_from_seed(tokens, config.hidden_size, 0)
    activations[:, :: config.hidden_size // OUTLIERS] *= OUTLIER_SCALE
    hidden = torch.from_numpy(activations)[None].to(DTYPES[dtype]).to(device)
    places = LlamaRotaryEmbedding(config).to(device)(hidden, torch.arange(tokens, device=device)[None])

    traced, lowered = programs(values, tokens, dtype, options)
    dense, function = layer_function(traced), layer_function(lowered)
    weights = dict(layer.named_parameters())
    named = [attributes.data.get("dcom.weight") for attributes in function.arg_attrs or ()]
    halves = [place[0, :, : place.shape[2] // 2].contiguous() for place in places]
    arguments = [hidden, *halves, *(weights[name.data].data for name in named if isinstance(name, StringAttr))]

    def run(of: func.FuncOp) -> Callable[[], Arrays]:
        executor = Executor(ModuleOp([of]), {}, arrays=TorchArrays(device))
        return lambda: executor.run(of.sym_name.data, *arguments)

    def qkv() -> Arrays:
        x = layer.input_layernorm(hidden)
        return [getattr(layer.self_attn, name)(x)[0] for name in PROJECTIONS]

    short = only(function, PROJECTIONS)
    reads = sum(op.iterations.value.data + 1 for op in short.walk() if isinstance(op, dcom.DecomposeOp))
    yield Part("qkv", qkv, run(only(dense, PROJECTIONS)), run(short), reading(hidden, reads))
    base = TorchArrays(device).to_numpy(hidden).astype(np.float32)
    whole = run(dense.clone()), run(function.clone())
    yield Part("layer", lambda: [layer(hidden, position_embeddings=places)], *whole, base=base)


def reading(x: torch.Tensor, times: int) -> Callable[[], object]:
    """Sums of as many bytes as x has, so often."""
    numbers = torch.ones(x.nbytes // 4, device=x.device)
    return lambda: [numbers.sum() for _ in range(times)]


def programs(values: dict[str, Any], tokens: int, dtype: str, options: dict[str, Any]) -> tuple[ModuleOp, ModuleOp]:
    """The model of one layer as it is traced, and as the compiler decomposes it, in the dcom dialect."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(values))
        traced = dcomc.trace(folder, tokens, 1, dtype)
    return traced, dcomc.lower(traced.clone(), Decomposition((0,), **options), level="dcom")


def layer_function(module: ModuleOp) -> func.FuncOp:
    """The function of layer 0: its own where it is decomposed, otherwise that of all layers."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    return functions["decoder_layer_0" if "decoder_layer_0" in functions else "decoder_layer"]


def only(function: func.FuncOp, roles: Sequence[str]) -> func.FuncOp:
    """The function, ending at the products of these roles, once they are dense and of the model's element type."""
    short = function.clone()
    block = short.body.block
    products = {op.attributes["dcom.role"].data: op.results[0] for op in block.ops if "dcom.role" in op.attributes}
    ends = [dense_end(products[role], cast(TensorType, block.args[0].type).element_type) for role in roles]
    block.erase_op(block.last_op)
    block.add_op(func.ReturnOp(*ends))
    for op in reversed(list(block.ops)):
        if op.results and not any(result.uses for result in op.results):
            block.erase_op(op)
    short.properties["function_type"] = FunctionType.from_lists(
        [argument.type for argument in block.args], [value.type for value in ends]
    )
    return short


def dense_end(value: SSAValue, element: Attribute) -> SSAValue:
    """Where a product is dense; one that stays in factors into the attention is made dense before."""
    while not (isinstance(value.type, TensorType) and value.type.element_type == element):
        user = next(iter(value.uses)).operation
        if isinstance(user, dcom.SplitHeadsOp):
            dense = dcom.ReconstructOp(cast(SSAValue[dcom.FactoredType], value))
            Rewriter.insert_op(dense, InsertPoint.before(user))
            return dense.result
        value = user.results[0]
    return value


if __name__ == "__main__":
    main()
