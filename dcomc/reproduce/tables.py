"""The columns that tables 2 and 3 share."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from xdsl.dialects.builtin import ModuleOp

from dcomc.costs import count_costs
from dcomc.gpu_lanczos import Method, lanczos_seconds
from dcomc.gpu_model import Host, LanczosWork
from dcomc.host_kernels import module_steps, weight_bytes
from dcomc.pipeline import WeightDecomposition
from dcomc.reproduce.claims import Claim, Curve, Plot, paper_claims, paper_table
from dcomc.reproduce.layer_runs import BATCH
from dcomc.reproduce.workbench import ONE_BASIS, Workbench

SHORT = 86
"""Tokens of a prompt: what the tables' memory columns fit."""
_RANKS = (1, 10, 20)
_ITERATIONS: dict[str, Callable[[int], int]] = {
    "rank + 5": lambda rank: rank + 5,
    "rank": lambda rank: rank,
    "rank + 10": lambda rank: rank + 10,
}
"""How many for a rank: the compiler's own choice, and others that the paper may have meant."""


def decomposition_claims(bench: Workbench, table: str) -> tuple[list[Claim], list[Plot]]:
    """Ratios of the decomposition times between ranks, and between GPU and D-com."""
    paper = {rank: _seconds_a_layer(table, rank) for rank in _RANKS}
    variants = {
        (name, method): {rank: _gpu_seconds(bench, SHORT, rank, count(rank), method) for rank in _RANKS}
        for name, count in _ITERATIONS.items()
        for method in ("modified", "classical")
    }
    chosen = variants["rank + 5", "modified"]
    claims: list[Claim] = []
    for slow, fast in ((10, 1), (20, 10), (20, 1)):
        ratios = {key: times[slow] / times[fast] for key, times in variants.items()}
        near = min(ratios, key=lambda key: abs(ratios[key] - paper[slow] / paper[fast]))
        claims.append(
            Claim(
                f"decomposition on the GPU, rank {slow} over rank {fast}",
                paper[slow] / paper[fast],
                chosen[slow] / chosen[fast],
                0.15,
                min(ratios.values()),
                max(ratios.values()),
                why=f"rank + 5 iterations and modified Gram-Schmidt; nearest of the others: {near[0]} iterations, "
                f"{near[1]} Gram-Schmidt ({ratios[near]:.2f})",
            )
        )
    for rank in _RANKS:
        bench.say(f"{table}: decomposition at rank {rank}")
        options = {"rank": rank, "iterations": rank + 5, "sites": ("qkv",), "outliers": 0.0}
        dcom = bench.decomposition_seconds(SHORT, **options)["qkv"]
        times = [times[rank] / BATCH / dcom for times in variants.values()]
        claims.append(
            Claim(
                f"decomposition on the GPU over that on D-com, rank {rank}",
                paper[rank] / _seconds_a_layer(table, rank, "decomp_dcom_s"),
                chosen[rank] / BATCH / dcom,
                0.25,
                min(times),
                max(times),
                why=f"{SHORT} tokens a prompt, one after another on both",
            )
        )
    curves = [Curve("paper", _RANKS, [paper[rank] / paper[1] for rank in _RANKS])]
    curves += [
        Curve(f"{name} iterations, {method}", _RANKS, [times[rank] / times[1] for rank in _RANKS])
        for (name, method), times in variants.items()
    ]
    title = "Decomposition on a GPU, over that at rank 1"
    return claims, [Plot(title, "rank", "ratio", curves, logarithmic=False)]


def runtime_claims(bench: Workbench, table: str) -> list[Claim]:
    """The model's runtime with D-com over the dense model's, for each row; in table 3 weights are in factors too."""
    dense = bench.run(bench.steps(SHORT, 32), "dense", BATCH)
    claims: list[Claim] = []
    for row in paper_table(table):
        rank = int(row["rank"])
        steps = module_steps(_module(bench, row["layers"], rank, weights=table == "table3"))
        run = bench.run(steps, "dcom", BATCH, _by_site(bench, rank))
        low, high = sorted((run.fastest / dense.fastest, run.slowest / dense.slowest))
        what = f"runtime with D-com over the dense model's, layers {row['layers']}, rank {rank}"
        claims.append(Claim(what, float(row["model_runtime_ratio"]), run.seconds / dense.seconds, 0.05, low, high))
    return claims


def memory_claims(bench: Workbench, table: str) -> list[Claim]:
    """How much less the inputs of all projections take, for each row, as counted from the IR."""
    claims: list[Claim] = []
    for row in paper_table(table):
        costs = count_costs(_module(bench, row["layers"], int(row["rank"])))
        before = sum(cost.dense_memory for cost in costs)
        after = sum(cost.memory if cost.factors else cost.dense_memory for cost in costs)
        claims.append(
            Claim(
                f"memory of inputs, less in percent, layers {row['layers']}, rank {row['rank']}",
                float(row["input_memory_reduction_percent"]),
                100 * (1 - after / before),
                0.15,
                why="the paper does not say of what: here of the inputs of all layers' projections",
            )
        )
    return claims


def mean_memory_claim(rows: Sequence[Claim]) -> Claim:
    """The mean of the memory column that the paper's 6.2 states, without the row of all layers."""
    some, values = [claim for claim in rows if "layers all" not in claim.what], list[float]()
    for claim in some:
        assert claim.ours is not None and claim.paper is not None
        values.append(claim.ours)
    table = sum(claim.paper or 0.0 for claim in some) / len(some)
    return Claim(
        "memory of inputs, less in percent, mean of the rows but for all layers",
        paper_claims()["claims"]["memory_reduction_mean_percent"],
        sum(values) / len(values),
        0.15,
        why=f"the paper's own rows have a mean of {table:.1f}",
    )


def weight_memory_claim(bench: Workbench, row: Mapping[str, str]) -> Claim:
    """How much less all weights of the model take with those of the layers in factors, for a row of table 3."""
    module = _module(bench, row["layers"], int(row["rank"]), weights=True)
    return Claim(
        f"memory of weights, less in percent, layers {row['layers']}, rank {row['rank']}",
        float(row["weight_memory_reduction_percent"]),
        100 * (1 - weight_bytes(module) / weight_bytes(bench.module(SHORT, 32))),
        0.05,
        why="of all weights of the model, embeddings and head included",
    )


def missing_claims(table: str, columns: Sequence[str], why: str) -> list[Claim]:
    """Claims of columns that cannot be compared, one a row."""
    return [
        Claim(f"{column}, layers {row['layers']}, rank {row['rank']}", float(row[column]), None, why=why)
        for row in paper_table(table)
        for column in columns
    ]


def _layers(text: str) -> tuple[int, ...]:
    return tuple(range(32)) if text == "all" else tuple(map(int, text.split()))


def _seconds_a_layer(table: str, rank: int, column: str = "decomp_gpu_s") -> float:
    """The paper's decomposition time at a rank over the number of layers, the mean over its rows."""
    rows = [row for row in paper_table(table) if int(row["rank"]) == rank]
    return sum(float(row[column]) / len(_layers(row["layers"])) for row in rows) / len(rows)


def _gpu_seconds(bench: Workbench, rows: int, rank: int, iterations: int, method: Method) -> float:
    """Of a batch's decompositions of one layer's input, prompts one after another."""
    work = LanczosWork(BATCH, rows, 4096, iterations, rank, passes=2)
    return lanczos_seconds(Host(bench.gpu), work, method=method)


@cache
def _module(bench: Workbench, layers: str, rank: int, *, weights: bool = False) -> ModuleOp:
    """The model with these layers decomposed, in one basis each, and perhaps with their weights in factors."""
    bench.say(f"layers {layers} at rank {rank}{', weights too' if weights else ''}")
    chosen = _layers(layers)
    also = WeightDecomposition(chosen, rank=rank) if weights else None
    return bench.module(SHORT, 32, chosen, rank=rank, reuse=ONE_BASIS, weights=also)


@cache
def _by_site(bench: Workbench, rank: int) -> dict[str, float]:
    return bench.decomposition_seconds(SHORT, rank=rank, reuse=ONE_BASIS)
