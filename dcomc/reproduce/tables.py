"""The columns that tables 2 and 3 share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean

from xdsl.dialects.builtin import ModuleOp

from dcomc.costs import count_costs
from dcomc.host_kernels import module_steps, weight_bytes
from dcomc.pipeline import WeightDecomposition
from dcomc.reproduce.choices import OF_SHORT, UNBATCHED, claim_of, compare_runs, named, speed_name
from dcomc.reproduce.claims import Claim, paper_claims, paper_table
from dcomc.reproduce.layer_runs import BATCH
from dcomc.reproduce.workbench import ONE_BASIS, Workbench

_LAYERS = 32
_ROUNDING = 0.02
"""By how much two columns of a row may differ that say the same."""
SHORT = 69
"""Tokens of a prompt: those of ARC-Easy's requests as they come, each batch of 64 padded to its longest, by the
tokenizer of SmolLM2-135M. (A test counts them; Llama-2's tokenizer, which is not at hand, makes some more.)"""
LENGTHS = {"prompts of 32 tokens": 32, "prompts of 90 tokens": 90}
"""The same without padding, as sorting by length comes near to; and in random order."""
REQUESTS = 9501
"""Requests of ARC-Easy's test set: 2,376 questions (Clark et al. 2018) with each of their answers."""
BATCHES = REQUESTS / BATCH


def table_layers(text: str) -> tuple[int, ...]:
    """The layers of a row."""
    return tuple(range(_LAYERS)) if text == "all" else tuple(map(int, text.split()))


def dense_claim(bench: Workbench) -> Claim:
    """The dense model's time for all of ARC-Easy."""
    values: dict[str, float] = {}
    for name, length in {"": SHORT, **LENGTHS}.items():
        steps = bench.steps(length, _LAYERS)
        for choice in UNBATCHED:
            run = bench.run(steps, "dense", BATCH, choice)
            values |= {
                named(name, choice.name, speed_name(speed)): seconds * BATCHES
                for speed, seconds in run.by_speed.items()
            }
    why = (
        f"{REQUESTS:,} requests, {BATCH} at a time; what is no kernel (loading, tokenising, Python where it is the "
        "slower) is not in ours"
    )
    return claim_of(
        "the dense model on ARC-Easy, seconds", paper_claims()["baseline"]["total_runtime_s"], 0.25, values, why
    )


def runtime_claims(bench: Workbench, table: str) -> list[Claim]:
    """The model's runtime with D-com over the dense model's, for each row; in table 3 weights are in factors too."""
    steps = bench.steps(SHORT, _LAYERS)
    dense = {choice: bench.run(steps, "dense", BATCH, choice) for choice in UNBATCHED}
    claims: list[Claim] = []
    for row in paper_table(table):
        steps = module_steps(_module(bench, row, weights=table == "table3"))
        runs = {
            choice: (bench.run(steps, "dcom", BATCH, choice), dense[replace(choice, alone=False)])
            for choice in OF_SHORT
        }
        what = f"runtime with D-com over the dense model's, {_of(row)}"
        claims.append(compare_runs(what, float(row["model_runtime_ratio"]), 0.05, runs, why=contradiction(row)))
    return claims


def contradiction(row: Mapping[str, str]) -> str:
    """What the other column of a row says of its runtime, where that is not the same; else nothing."""
    ratio, less = float(row["model_runtime_ratio"]), float(row["total_runtime_reduction_percent"])
    differs = abs(1 - less / 100 - ratio) > _ROUNDING
    return f"the row's own reduction of total runtime, {less:g}%, says {1 - less / 100:.2f}" if differs else ""


def memory_claims(bench: Workbench, table: str) -> list[Claim]:
    """How much less inputs take, for each row, as counted from the IR.

    Attention's own inputs stay dense: with them the same saving is a smaller share.
    """
    claims: list[Claim] = []
    for row in paper_table(table):
        values: dict[str, float] = {}
        for name, length in {"": SHORT, **LENGTHS}.items():
            inputs, saved, attention = _layer_memory(bench, length, int(row["rank"]), float(row["outlier_percent"]))
            percent = 100 * len(table_layers(row["layers"])) / _LAYERS * saved
            values[name] = percent / inputs
            values[named(name, "attention's inputs counted too")] = percent / (inputs + attention)
        what = f"memory of inputs, less in percent, {_of(row)}"
        claims.append(claim_of(what, float(row["input_memory_reduction_percent"]), 0.15, values))
    return claims


@cache
def _layer_memory(bench: Workbench, length: int, rank: int, outliers: float) -> tuple[int, int, int]:
    """Bytes of the inputs of a layer's projections, what decomposing them saves, and bytes of attention's inputs."""
    costs = count_costs(bench.module(length, 1, [0], rank=rank, iterations=rank, outliers=outliers, reuse=ONE_BASIS))
    inputs = sum(cost.dense_memory for cost in costs)
    attention = sum(step.kernel.input_bytes for step in bench.steps(length) if step.kernel.kind == "attention")
    return inputs, inputs - sum(cost.memory for cost in costs), attention


def mean_memory_claim(rows: Sequence[Claim]) -> Claim:
    """The mean of the memory column that the paper's 6.2 states, without the row of all layers."""
    some = [claim for claim in rows if "layers all" not in claim.what]
    ours = [claim.ours for claim in some if claim.ours is not None]
    means = {name: fmean(claim.choices[name] for claim in some) for name in some[0].choices}
    return claim_of(
        "memory of inputs, less in percent, mean of the rows but for all layers",
        paper_claims()["claims"]["memory_reduction_mean_percent"],
        0.15,
        {"": fmean(ours), **means},
        f"the paper's own rows have a mean of {fmean(claim.paper or 0.0 for claim in some):.1f}",
    )


def weight_memory_claim(bench: Workbench, row: Mapping[str, str]) -> Claim:
    """How much less all weights of the model take with those of the layers in factors, for a row of table 3."""
    module = _module(bench, row, weights=True)
    return Claim(
        f"memory of weights, less in percent, {_of(row)}",
        float(row["weight_memory_reduction_percent"]),
        100 * (1 - weight_bytes(module) / weight_bytes(bench.module(SHORT, _LAYERS))),
        0.05,
        why="of all weights of the model, embeddings and head included",
    )


_QUALITY = {
    "outlier_percent": "exact channels by calibrated thresholds, percent",
    "arc_easy_accuracy_percent": "accuracy on ARC-Easy, percent",
    "wikitext2_perplexity": "perplexity on WikiText-2",
}
NEEDS_WEIGHTS = (
    "it needs Llama-2-7B's weights, which `dcomc eval` and `dcomc calibrate` take from a folder; `dcomc reproduce "
    "quality` runs the same grid on SmolLM2-135M, in quality.md"
)


def quality_claims(table: str) -> list[Claim]:
    """The columns of quality, which cannot be compared without the weights of the paper's model."""
    return [
        Claim(f"{what}, {_of(row)}", float(row[column]), None, why=NEEDS_WEIGHTS)
        for row in paper_table(table)
        for column, what in _QUALITY.items()
    ]


def text_quality_claims() -> list[Claim]:
    """What the paper's text and the first row of its tables say of quality."""
    paper = paper_claims()
    baseline, claims = paper["baseline"], paper["claims"]
    stated = {
        "accuracy on ARC-Easy, percent, the dense model": baseline["arc_easy_accuracy_percent"],
        "perplexity on WikiText-2, the dense model": baseline["wikitext2_perplexity"],
        **{
            f"exact channels by calibrated thresholds, percent, the {end} of layers and texts (section 4)": claims[
                f"outlier_percent_{key}"
            ]
            for end, key in (("least", "min"), ("most", "max"), ("mean", "mean"))
        },
    }
    words = "past 5% of exact channels quality gains little (figure 10)"
    return [Claim(what, value, None, why=NEEDS_WEIGHTS) for what, value in {**stated, words: None}.items()]


def _of(row: Mapping[str, str]) -> str:
    return f"layers {row['layers']}, rank {row['rank']}"


@cache
def _lowered(bench: Workbench, layers: str, rank: int, outliers: float, *, weights: bool) -> ModuleOp:
    bench.say(f"layers {layers} at rank {rank}{', weights too' if weights else ''}")
    chosen = table_layers(layers)
    also = WeightDecomposition(chosen, rank=rank) if weights else None
    options = {"rank": rank, "iterations": rank, "outliers": outliers, "reuse": ONE_BASIS, "weights": also}
    return bench.module(SHORT, _LAYERS, chosen, **options)


def _module(bench: Workbench, row: Mapping[str, str], *, weights: bool = False) -> ModuleOp:
    """The model of a row: its layers in one basis each, its channels exact, and perhaps its weights in factors."""
    outliers = float(row["outlier_percent"])
    return _lowered(bench, row["layers"], int(row["rank"]), outliers, weights=weights)
