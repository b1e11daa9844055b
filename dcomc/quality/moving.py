"""Ranks and blocks moved between the sites of some layers, at the same operations, by what each move costs on text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import TypeAlias

import numpy as np

from dcomc.config import EXTRA_ITERATIONS
from dcomc.costs import count_costs
from dcomc.evaluate import Array
from dcomc.evaluation.bench import Bench, Variant
from dcomc.quality.choosing import BLOCK, RANK
from dcomc.quality.lab import Lab, low_rank
from dialects.dcom import SITES

_HALVINGS = 30
_TRIALS = 4
"""Times that the limit of products is lowered by what compiled ones are above it, which `_products` leaves out."""

Place: TypeAlias = tuple[int, str]
"""A layer and a site."""


@dataclass(frozen=True)
class Way:
    """How a site is decomposed."""

    rank: int = RANK
    block: int = BLOCK

    @property
    def steps(self) -> int:
        """Steps of Lanczos, each of two matrix-vector operations."""
        return self.rank + EXTRA_ITERATIONS


UNIFORM = Way()


def to_toml(ways: Mapping[Place, Way]) -> str:
    """A file for `dcomc compile --config`; places that it does not name are as the options say."""
    return "\n".join(
        f"[layers.{layer}.sites.{site}]\nrank = {way.rank}\nblock = {way.block}\n"
        for (layer, site), way in ways.items()
    )


def moved(lab: Lab, layers: Iterable[int]) -> dict[Place, Way] | None:
    """The ways of least expected cost at no more steps and products than `UNIFORM`; None where runs are missing.

    Each site of each layer is tried at other ranks and at other blocks, the other sites staying as they are. What it
    costs is taken to be linear in the rank between those tried, and to add up: of rank and block, and over the sites.
    """
    places = [(layer, site) for layer in sorted(layers) for site in SITES]
    tried = [Way(rank=rank) for rank in lab.settings.moved_ranks]
    tried += [Way(block=block) for block in lab.settings.moved_blocks]
    base = _cost(lab, places, {})
    costs: dict[Place, dict[Way, float]] = {}
    for place in places:
        found = {way: _cost(lab, places, {place: way}) for way in tried}
        known = {UNIFORM: base} | found
        gains = {way: cost - base for way, cost in known.items() if cost is not None and base is not None}
        if len(gains) == len(known):
            costs[place] = _between(gains)
    if len(costs) < len(places):
        return None
    left = _products(lab.choosing, costs)
    most = sum(each[UNIFORM] for each in left.values())
    for _ in range(_TRIALS):
        ways = least(costs, left, UNIFORM.steps * len(places), most)
        excess = _kept(lab, places, ways) - _kept(lab, places, {})
        if excess <= 0:
            return ways
        most -= excess
    return dict.fromkeys(places, UNIFORM)


def configured(lab: Lab, layers: Iterable[int], ways: Mapping[Place, Way]) -> Variant:
    """Layers decomposed, at some places otherwise than at the others."""
    config = lab.config(to_toml(ways)) if ways else None
    return low_rank(layers, rank=RANK, block=BLOCK, config=config)


def least(
    costs: Mapping[Place, Mapping[Way, float]],
    left: Mapping[Place, Mapping[Way, float]],
    steps: int,
    most: float,
) -> dict[Place, Way]:
    """A way for each place: of least cost in sum with no more than so many steps and so much left of the products.

    Steps are exact, by dynamic programming; the products have a price, which is raised until they are within the limit,
    so that better choices may be missed where several of equal price differ. `UNIFORM` must be within the limits.
    """
    best = dict.fromkeys(costs, UNIFORM)
    low, high, price = 0.0, inf, 1.0
    for _ in range(_HALVINGS):
        found = _priced(costs, left, steps, price)
        if _total(left, found) > most * (1 + 1e-9):
            low = price
        else:
            high = price
            best = min(best, found, key=lambda ways: _total(costs, ways))
        price = 2 * price if high == inf else (low + high) / 2
    return best


def _total(values: Mapping[Place, Mapping[Way, float]], ways: Mapping[Place, Way]) -> float:
    return sum(values[place][way] for place, way in ways.items())


def _priced(
    costs: Mapping[Place, Mapping[Way, float]], left: Mapping[Place, Mapping[Way, float]], steps: int, price: float
) -> dict[Place, Way]:
    """A way for each place within the steps, of least sum of costs and of what is left of the products at a price."""
    sums = np.zeros(steps + 1)
    """By steps at most, over the places so far."""
    taken: list[tuple[Place, list[Way], Array]] = []
    for place, by_way in costs.items():
        ways = [way for way in by_way if way.steps <= steps]
        table = np.full((len(ways), steps + 1), np.inf)
        for row, way in zip(table, ways, strict=True):
            row[way.steps :] = sums[: steps + 1 - way.steps] + by_way[way] + price * left[place][way]
        taken.append((place, ways, table.argmin(0)))
        sums = table.min(0)
    found: dict[Place, Way] = {}
    for place, ways, rows in reversed(taken):
        found[place] = ways[rows[steps]]
        steps -= found[place].steps
    return {place: found[place] for place in costs}


def _kept(lab: Lab, places: Iterable[Place], ways: Mapping[Place, Way]) -> float:
    """What is left of the products, all of it, counted from the compiled module."""
    return lab.kept(configured(lab, {layer for layer, _ in places}, ways)).products


def _cost(lab: Lab, places: Iterable[Place], ways: Mapping[Place, Way]) -> float | None:
    """The mean negative log-likelihood of a token of the texts by which is chosen."""
    metric = lab.perplexity(lab.choosing, configured(lab, {layer for layer, _ in places}, ways))
    return None if metric is None else float(metric.totals.sum() / metric.counts.sum())


def _between(tried: Mapping[Way, float]) -> dict[Way, float]:
    """The cost of all ranks between those that were tried, in all blocks that were."""
    ranks = sorted(way.rank for way in tried if way.block == BLOCK)
    at_ranks = [tried[Way(rank=rank)] for rank in ranks]
    at_blocks = {way.block: cost for way, cost in tried.items() if way.rank == RANK}
    return {
        Way(rank, block): float(np.interp(rank, ranks, at_ranks)) + cost
        for rank in range(ranks[0], ranks[-1] + 1)
        for block, cost in at_blocks.items()
    }


def _products(bench: Bench, ways: Mapping[Place, Iterable[Way]]) -> dict[Place, dict[Way, float]]:
    """What products by factors and reconstruction leave, of the products of all the places, without small terms."""
    dense = {(cost.layer, cost.site): cost for cost in count_costs(bench.module)}
    whole = sum(dense[place].dense.flops for place in ways)
    left: dict[Place, dict[Way, float]] = {}
    for place, each in ways.items():
        share, channels = dense[place].dense.flops / whole, dense[place].products[0].depth
        filled = {way: ceil(bench.seq_len / way.block) / bench.seq_len for way in each}
        left[place] = {
            way: share * way.rank * (blocks + blocks * way.block / channels) for way, blocks in filled.items()
        }
    return left
