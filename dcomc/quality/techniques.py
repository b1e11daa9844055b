"""What helped, and what did not: one thing changed at a time, on the same layers and texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dcomc.evaluation.bench import Variant
from dcomc.quality.cells import ABSENT, ratio, shown
from dcomc.quality.choosing import BLOCK, RANK
from dcomc.quality.lab import Lab, low_rank
from dcomc.quality.moving import UNIFORM, Place, Way, configured
from dialects.dcom import SITES

BASE = f"blocks of {BLOCK}"
"""Rank 10 with 3% of the channels exact, as all others unless they say otherwise."""
MOVED = "ranks and blocks moved between sites"
_SAME = 1e-9
"""Shares and counts that differ by no more are the same."""


def techniques(lab: Lab, layers: Sequence[int], sites: Sequence[str]) -> dict[str, Variant]:
    """By name; blocks and steps as far as prompts and the model admit them."""
    most = min(BLOCK, int(lab.model.config()["hidden_size"]))
    later = tuple(sites[1:])
    equal = UNIFORM.steps * len(sites) - RANK * len(later) // 2
    found: dict[str, dict[str, Any]] = {
        "one basis a prompt, as in the paper": {"block": None},
        BASE: {},
        "blocks of 48": {"block": 48},
        "blocks of 32": {"block": 32},
        "Lanczos from the mean token": {"start": "mean"},
        "10 steps, no more than the rank": {"iterations": 10},
        "20 steps, twice the rank": {"iterations": 20},
        "rank 15 of 15 steps, blocks of 96": {"rank": 15, "iterations": 15, "block": 96},
        "rank 20, blocks of 128": {"rank": 20, "block": 128},
        "3% of the tokens exact too": {"exact_rows": 3.0},
        "5% of the channels exact": {"outliers": 5.0},
        "one basis a layer, the first site's": {"reuse": later},
        "one basis a layer, of 25 steps": {"reuse": later, "iterations": min(25, most)},
        "one basis a layer, of all the steps saved": {"reuse": later, "iterations": min(equal, most)},
    }
    return {
        name: low_rank(layers, **{"rank": RANK, "block": BLOCK, "sites": tuple(sites), **options})
        for name, options in found.items()
        if (options.get("block") or 0) <= lab.settings.seq_len
    }


def in_blocks(variant: Variant, block: int) -> Variant:
    """A variant in other blocks of tokens, with no more steps than these hold."""
    options = variant.options
    assert options is not None
    steps = None if options.iterations is None else min(options.iterations, block)
    return Variant(replace(options, block=block, iterations=steps))


def best_technique(lab: Lab, layers: Sequence[int], sites: Sequence[str]) -> str | None:
    """What costs least on the texts by which is chosen, of all that takes no more operations than `BASE`.

    No more is to be left of the products, and there are to be no more matrix-vector operations. None where runs are
    missing.
    """
    variants = techniques(lab, layers, sites)
    base = lab.kept(variants[BASE])
    costs: dict[str, float | None] = {}
    for name, variant in variants.items():
        kept = lab.kept(variant)
        if kept.products <= base.products + _SAME and kept.matvecs <= base.matvecs + _SAME:
            metric = lab.perplexity(lab.choosing, variant)
            costs[name] = None if metric is None else metric.value
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return min(known, key=known.__getitem__) if len(known) == len(costs) else None


def section(lab: Lab, layers: Sequence[int] | None, ways: Mapping[Place, Way] | None) -> Iterator[str]:
    """The section of the page.

    Args:
        lab: where variants are run.
        layers: that are decomposed, at all sites; None where they are not known yet.
        ways: ranks and blocks that were moved between their sites.
    """
    yield "## What helped, and what did not"
    yield ""
    yield (
        f"All sites of {'layers ' + ', '.join(map(str, layers)) if layers else 'the four layers'}: rank {RANK} of "
        f"{UNIFORM.steps} steps in blocks of {BLOCK} with 3% of the channels exact, and one thing changed. Change: of "
        "the perplexity, against that on the same tokens. A technique helps, or costs, where the interval lies on one "
        "side of 0. Products left, and matrix-vector operations a site, are counted from the compiled program; a "
        "projection on another site's basis takes one for each vector of it, a step of Lanczos two."
    )
    yield ""
    yield "| | ratio | change | | products left | matrix-vector operations |"
    yield "| --- | ---: | ---: | --- | ---: | ---: |"
    if layers is None:
        return
    variants = techniques(lab, layers, tuple(SITES))
    base = variants[BASE]
    for name, variant in variants.items():
        yield _row(lab, name, variant, base)
    yield f"| {MOVED} | {ABSENT} | | | | |" if ways is None else _row(lab, MOVED, configured(lab, layers, ways), base)


def moves(ways: Mapping[Place, Way]) -> Iterator[str]:
    """A table of ranks and blocks, a layer a row."""
    sites = list(dict.fromkeys(site for _, site in ways))
    yield "| layer | " + " | ".join(sites) + " |"
    yield "| ---: |" + " ---: |" * len(sites)
    for layer in sorted({layer for layer, _ in ways}):
        cells = (f"{ways[layer, site].rank} in {ways[layer, site].block}" for site in sites)
        yield f"| {layer} | " + " | ".join(cells) + " |"


def _row(lab: Lab, name: str, variant: Variant, base: Variant) -> str:
    found, change = ratio(lab, variant), ratio(lab, variant, base)
    if found is None or change is None:
        return f"| {name} | {ABSENT} | | | | |"
    kept, cells = lab.kept(variant), ["", ""]
    value, interval = change
    if variant != base:
        cells[0] = f"{value - 1:+.1%}"
    if variant != base and interval is not None:
        cells[0] += f" [{interval[0] - 1:+.1%}, {interval[1] - 1:+.1%}]"
        cells[1] = "helps" if interval[1] < 1 else "costs" if interval[0] > 1 else "no difference shown"
    return f"| {name} | {shown(found)} | {' | '.join(cells)} | {kept.products:.1%} | {kept.matvecs:.1f} |"
