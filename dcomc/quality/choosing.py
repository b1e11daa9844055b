"""Layers in the order in which they are chosen, by what they cost on text of their own."""

from collections.abc import Sequence

from dcomc.evaluation.bench import DENSE
from dcomc.quality.lab import Lab, low_rank
from dcomc.search.order import order_layers

RANK, BLOCK = 10, 64
"""Rank and block of the decompositions that layers are chosen by."""


def order_of_layers(lab: Lab, count: int) -> list[int] | None:
    """So many layers, each beside those before it, all sites decomposed; None where a run is missing."""
    dense = lab.perplexity(lab.choosing, DENSE)
    if dense is None:
        return None

    def together(layers: Sequence[int]) -> float | None:
        metric = lab.perplexity(lab.choosing, low_rank(layers, rank=RANK, block=BLOCK))
        return None if metric is None else float(metric.totals.sum() - dense.totals.sum())

    alone = {layer: cost for layer in range(lab.layers) if (cost := together([layer])) is not None}
    if len(alone) < lab.layers:
        return None
    order = order_layers(alone, together, count, lab.settings.pool)
    return None if order is None else order[:count]
