"""docs/quality.md: every number of it by one command, in as many runs as it takes."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dcomc.diagnostics import write_text
from dcomc.evaluation.bench import DENSE, Results, Variant
from dcomc.evaluation.metrics import Metric, paired
from dcomc.pipeline import WeightDecomposition
from dcomc.quality.cells import ABSENT, guessing, ratio, shown
from dcomc.quality.choosing import BLOCK, RANK, order_of_layers
from dcomc.quality.goals import GOALS, goals
from dcomc.quality.lab import Asked, Lab, Settings, low_rank
from dcomc.quality.moving import moved, to_toml
from dcomc.quality.techniques import section
from dcomc.reproduce.claims import Curve, Plot, paper_claims, paper_table
from dcomc.reproduce.plots import check_plots, draw

_FOLDER = "quality"
_MOVED = "moved.toml"
"""Ranks and blocks of the four layers, for `dcomc compile --config`."""
_PAPER_LAYERS = 32


def reproduce(
    folder: Path,
    settings: Settings,
    *,
    minutes: float | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    lab: Lab | None = None,
) -> tuple[Path, int]:
    """Run what is missing, as long as there is time, and write `quality.md` with what is there.

    Results are kept in `quality/results.json` of the folder, by what they are of: nothing is run twice, and what has
    changed is run anew.

    Args:
        folder: such as docs.
        settings: how much is run.
        minutes: to begin runs in; all there is to run unless given.
        device: where torch computes.
        say: told of each run.
        lab: in the place of the usual one; its results are those of the folder.

    Returns:
        The page, and how many runs are missing; what depends on them may need more.

    Raises:
        DcomError: the packages with the model, the texts or plots are not installed, or a file cannot be written.
    """
    check_plots()
    target = folder / _FOLDER
    target.mkdir(parents=True, exist_ok=True)
    results = Results(target / "results.json")
    lab = lab or Lab(settings, results, device=device, say=say)
    lab.results = results
    if minutes is not None:
        lab.deadline = time.monotonic() + 60 * minutes
    order = order_of_layers(lab, max(goal.layers for goal in GOALS))
    four = None if order is None else sorted(order[: GOALS[0].layers])
    ways = None if four is None else moved(lab, four)
    if ways is not None:
        write_text(target / _MOVED, to_toml(ways))
    sections = (
        goals(lab, order, ways, f"{_FOLDER}/{_MOVED}"),
        section(lab, four, ways),
        _grid(lab, weights=False),
        _grid(lab, weights=True),
        _outliers(lab, target),
        _arc(lab),
    )
    body = [line for section in sections for line in (*section, "")]
    page = folder / "quality.md"
    write_text(page, "\n".join([*_head(lab), *body]).rstrip("\n") + "\n")
    return page, len(lab.absent)


def _head(lab: Lab) -> Iterator[str]:
    dense = lab.perplexity(lab.evaluated)
    bench, settings = lab.evaluated, lab.settings
    yield "# What decompositions cost in quality"
    yield ""
    yield (
        f"Made by `dcomc reproduce quality{'' if settings == Settings() else ' --quick'}`, which goes on where it was "
        f"interrupted. {lab.model.name}; perplexities on {bench.prompts:,} prompts of {bench.seq_len:,} tokens, each "
        "the beginning of another article of SQuAD (Wikipedia, CC BY-SA 4.0): "
        f"{bench.prompts * bench.seq_len:,} tokens. The dense model's is {_value(dense)}. Ratios are to that, "
        "on the same tokens, with 95% intervals by the paired bootstrap over articles. "
        "Programs are compiled, and run by the torch back end with Lanczos in float32; other processors and versions, "
        "which add in another order, change the last digits."
    )
    if lab.absent:
        yield ""
        yield f"{len(lab.absent)} runs or more are missing: “{ABSENT}” below. The command makes them."
    yield ""


def _grid(lab: Lab, *, weights: bool) -> Iterator[str]:
    """The paper's table 2, or 3, on this model."""
    rows = paper_table("table3" if weights else "table2")
    base = float(paper_claims()["baseline"]["wikitext2_perplexity"])
    names = list(dict.fromkeys(row["layers"] for row in rows))[: lab.settings.lists]
    yield f"## Table {3 if weights else 2}: {'inputs and weights' if weights else 'inputs'} decomposed"
    yield ""
    yield (
        f"The paper's layers, of {_PAPER_LAYERS}, at the same depths of {lab.layers}; all sites, one basis a prompt, "
        "3% of the channels exact"
        + (", and their weights, by truncated SVD, in factors of that rank" if weights else "")
        + ". Rank: of the inputs"
        + (" and of the weights" if weights else "")
        + ". Paper's ratio: of Llama-2-7B on WikiText-2. Ratio: of this model. Controls: nothing but the exact "
        "channels (rank 0), and those layers left out"
        + (
            ". In both the weights are whole, as in table 2. A ratio near that of the layers left out says that these "
            "do nothing any more: so low a rank holds little of a weight."
            if weights
            else "; neither depends on the rank."
        )
    )
    yield ""
    yield "| layers | rank | paper's ratio | ratio | rank 0 | layers left out |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        if row["layers"] not in names or int(row["rank"]) not in lab.settings.ranks:
            continue
        layers, rank = scaled(row["layers"], lab.layers), int(row["rank"])
        own = WeightDecomposition(tuple(layers), rank=rank) if weights else None
        cells = [shown(ratio(lab, low_rank(layers, rank=rank, weights=own)))]
        for control in ("rank_0", "skip_layers"):
            options = low_rank(layers, rank=1).options
            cells.append(shown(ratio(lab, Variant(options, control))))
        paper = float(row["wikitext2_perplexity"]) / base
        name = "all" if row["layers"] == "all" else ", ".join(map(str, layers))
        yield f"| {name} | {rank} | {paper:,.2f} | {' | '.join(cells)} |"
    yield ""
    yield guessing(lab)


def scaled(layers: str, count: int) -> list[int]:
    """Layers of the paper's model at the same depths of one with `count` layers, each once."""
    if layers == "all":
        return list(range(count))
    return sorted({round(int(layer) * (count - 1) / (_PAPER_LAYERS - 1)) for layer in layers.split()})


def _outliers(lab: Lab, target: Path) -> Iterator[str]:
    """Quality against the share of exact channels."""
    layers = scaled(paper_table("table2")[0]["layers"], lab.layers)
    yield "## Outlier channels"
    yield ""
    yield f"Layers {', '.join(map(str, layers))}, all sites, one basis a prompt, by the share of channels kept exact."
    yield ""
    yield "| rank | " + " | ".join(f"{share:g}%" for share in lab.settings.shares) + " |"
    yield "| ---: |" + " ---: |" * len(lab.settings.shares)
    curves: list[Curve] = []
    for rank in lab.settings.ranks:
        found = [ratio(lab, low_rank(layers, rank=rank, outliers=share)) for share in lab.settings.shares]
        yield f"| {rank} | " + " | ".join(shown(each) for each in found) + " |"
        known = [(share, each[0]) for share, each in zip(lab.settings.shares, found, strict=True) if each]
        curves.append(Curve(f"rank {rank}", [share for share, _ in known], [ratio for _, ratio in known]))
    if all(len(curve.x) == len(lab.settings.shares) for curve in curves):
        plot = Plot(
            "Perplexity against exact channels", "channels kept exact, %", "ratio to dense", curves, logarithmic=False
        )
        draw(plot, target / "outliers.svg")
        yield ""
        yield f"![perplexity against the share of exact channels]({_FOLDER}/outliers.svg)"


def _arc(lab: Lab) -> Iterator[str]:
    """Accuracies, of questions alone and after examples."""
    short, long = lab.short_questions, lab.long_questions
    layers = scaled(paper_table("table2")[0]["layers"], lab.layers)
    variants = {
        "dense": DENSE,
        f"layers {', '.join(map(str, layers))}, rank {RANK}, one basis a prompt": low_rank(layers, rank=RANK),
        f"the same, in blocks of {BLOCK}": low_rank(layers, rank=RANK, block=BLOCK),
    }

    def row(name: str, variant: Variant, cells: Callable[[Asked, Variant], list[str]]) -> str:
        blocks = variant.options is not None and variant.options.block is not None
        alone = ["as above"] * 2 if blocks else cells(short, variant)  # hardly a question fills a block
        return f"| {name} | {' | '.join([*alone, *cells(long, variant)])} |"

    yield "## ARC-Easy"
    yield ""
    yield (
        f"{short.count:,} test questions (Clark et al. 2018, CC BY-SA 4.0), by log-likelihood as EleutherAI's "
        f"lm-evaluation-harness takes it, with standard errors. A question with a choice has {short.tokens:.0f} tokens "
        f"on average, of which rank {RANK} holds nearly everything: this says little about long prompts. So "
        f"{long.count:,} are asked again after {lab.settings.examples} others with their answers, "
        f"{long.tokens:.0f} tokens."
    )
    yield ""
    heads = "| | acc | acc_norm | acc, after examples | acc_norm, after examples |", "| --- |" + " ---: |" * 4
    yield from heads
    for name, variant in variants.items():
        yield row(name, variant, _accuracies)
    yield ""
    yield "Less those of the dense model on the same questions, in points, with 95% intervals by the paired bootstrap:"
    yield ""
    yield from heads
    for name, variant in list(variants.items())[1:]:
        yield row(name, variant, _differences)


def _accuracies(asked: Asked, variant: Variant) -> list[str]:
    metrics = asked.metrics(variant)
    if metrics is None:
        return [ABSENT] * 2
    return [f"{metric.value:.1%} ± {metric.standard_error or 0:.1%}" for metric in metrics.values()]


def _differences(asked: Asked, variant: Variant) -> list[str]:
    dense, metrics = asked.metrics(DENSE), asked.metrics(variant)
    if dense is None or metrics is None:
        return [ABSENT] * 2
    compared = (paired(metric, dense[name]) for name, metric in metrics.items())
    return [
        f"{100 * each.change:+.1f}"
        + (" [{:+.1f}, {:+.1f}]".format(*(100 * x for x in each.interval)) if each.interval else "")
        for each in compared
    ]


def _value(metric: Metric | None) -> str:
    return ABSENT if metric is None else f"{metric.value:.3f}"
