"""The columns that tables 2 and 3 share."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from statistics import fmean

from xdsl.dialects.builtin import ModuleOp

from dcomc.costs import count_costs
from dcomc.host_kernels import module_steps, weight_bytes
from dcomc.pipeline import WeightDecomposition
from dcomc.reproduce.choices import DENSE, OF_SHORT, claim_of, compare_runs, named, speed_name
from dcomc.reproduce.claims import Claim, paper_claims, paper_table
from dcomc.reproduce.layer_runs import BATCH
from dcomc.reproduce.workbench import ONE_BASIS, Workbench
from dcomc.tables import duration

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
WORKLOAD = {"batch": BATCH, "tokens": [SHORT, *LENGTHS.values()], "requests": REQUESTS}


def table_layers(text: str) -> tuple[int, ...]:
    """The layers of a row."""
    return tuple(range(_LAYERS)) if text == "all" else tuple(map(int, text.split()))


def dense_claim(bench: Workbench) -> Claim:
    """The dense model's time for all of ARC-Easy."""
    values: dict[str, float] = {}
    for name, length in {"": SHORT, **LENGTHS}.items():
        steps = bench.steps(length, _LAYERS)
        for choice in DENSE:
            run = bench.run(steps, "dense", BATCH, choice)
            values |= {
                named(name, choice.name, speed_name(speed)): seconds * BATCHES
                for speed, seconds in run.by_speed.items()
            }
    paper = paper_claims()["baseline"]["total_runtime_s"]
    why = (
        f"{REQUESTS:,} requests, {BATCH} at a time, take {duration(values[''] / BATCHES)} a batch, and "
        f"{duration(paper / BATCHES)} in the paper; what is no kernel (loading, tokenising, Python where it is the "
        "slower) is not in ours"
    )
    return claim_of("the dense model on ARC-Easy, seconds", paper, 0.25, values, why)


def runtime_claims(bench: Workbench, table: str) -> list[Claim]:
    """The model's runtime with D-com over the dense model's, for each row; in table 3 weights are in factors too."""
    group = "runtime with D-com over the dense model's"
    steps, why = bench.steps(SHORT, _LAYERS), _why_runtime(bench, 10)
    dense = {choice: bench.run(steps, "dense", BATCH, choice) for choice in DENSE}
    claims: list[Claim] = []
    for row in paper_table(table):
        steps = module_steps(_module(bench, row, weights=table == "table3"))
        runs = {choice: (bench.run(steps, "dcom", BATCH, choice), dense[choice.dense]) for choice in OF_SHORT}
        claims.append(
            compare_runs(
                f"{group}, {_of(row)}",
                float(row["model_runtime_ratio"]),
                0.05,
                runs,
                why="; ".join(filter(None, (why, contradiction(row)))),
                group=group,
            )
        )
    return claims


def _why_runtime(bench: Workbench, rank: int) -> str:
    """What a layer of such short prompts takes, and what of it is no product with factors."""
    dense = bench.run(bench.steps(SHORT, inside=True), "dense", BATCH)
    options = {"rank": rank, "iterations": rank, "reuse": ONE_BASIS}
    dcom = bench.run(bench.steps(SHORT, 1, [0], inside=True, **options), "dcom", BATCH)
    exact = sum(event.end - event.start for event in dcom.events if event.name.startswith("outlier_matmul"))
    return (
        f"for {BATCH} prompts of {SHORT} tokens a decomposed layer alone takes the GPUs {duration(dcom.seconds)} and a "
        f"dense one {duration(dense.seconds)}, since exact channels, whose rows of the weights are other ones for each "
        f"prompt, take {duration(exact)}; the model as a whole loses even that, as its batch goes through all layers "
        "in as many parts: more of them hide the all-reduces of dense layers, fewer suit the many small kernels of "
        "decomposed ones"
    )


def contradiction(row: Mapping[str, str]) -> str:
    """What the other column of a row says of its runtime, where that is not the same; else nothing."""
    ratio, less = float(row["model_runtime_ratio"]), float(row["total_runtime_reduction_percent"])
    differs = abs(1 - less / 100 - ratio) > _ROUNDING
    return f"the row's own reduction of total runtime, {less:g}%, says {1 - less / 100:.2f}" if differs else ""


def memory_claims(bench: Workbench, rows: Iterable[Mapping[str, str]]) -> list[Claim]:
    """How much less inputs take, for each row, as counted from the IR.

    Attention's own inputs stay dense: with them the same saving is a smaller share.
    """
    why = (
        "a decomposed layer keeps its exact channels and some percent of the rest; of what total the paper's share is, "
        "it does not say: attention's inputs, which stay dense, make it smaller"
    )
    group, claims = "memory of inputs, less in percent", list[Claim]()
    for row in rows:
        values: dict[str, float] = {}
        for name, length in {"": SHORT, **LENGTHS}.items():
            inputs, saved, attention = _layer_memory(bench, length, int(row["rank"]), float(row["outlier_percent"]))
            percent = 100 * len(table_layers(row["layers"])) / _LAYERS * saved
            values[name] = percent / inputs
            values[named(name, "attention's inputs counted too")] = percent / (inputs + attention)
        what = f"{group}, {_of(row)}"
        claims.append(claim_of(what, float(row["input_memory_reduction_percent"]), 0.15, values, why, group))
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
    group = "memory of weights, less in percent"
    return Claim(
        f"{group}, {_of(row)}",
        float(row["weight_memory_reduction_percent"]),
        100 * (1 - weight_bytes(module) / weight_bytes(bench.module(SHORT, _LAYERS))),
        0.05,
        why="of all weights of the model, embeddings and head included",
        group=group,
    )


_QUALITY = {
    "outlier_percent": "exact channels by calibrated thresholds, percent",
    "arc_easy_accuracy_percent": "accuracy on ARC-Easy, percent",
    "wikitext2_perplexity": "perplexity on WikiText-2",
}
NEEDS_WEIGHTS = (
    "needs Llama-2-7B's weights, for `dcomc eval` and `dcomc calibrate`; quality.md has the same grid on SmolLM2-135M"
)


def quality_claims(table: str) -> list[Claim]:
    """The columns of quality, which cannot be compared without the weights of the paper's model."""
    return [
        Claim(f"{what}, {_of(row)}", float(row[column]), None, why=NEEDS_WEIGHTS, group=what)
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
    words, group = (
        "past 5% of exact channels quality gains little (figure 10)",
        "quality and exact channels in the text",
    )
    return [Claim(what, value, None, why=NEEDS_WEIGHTS, group=group) for what, value in {**stated, words: None}.items()]


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
