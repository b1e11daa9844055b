"""Layers one after another, each for what it costs beside those before it: for searches and for the quality report."""

from collections.abc import Callable, Mapping, Sequence

GREEDY = 4
"""Layers that are chosen beside those before them."""
POOL = 8
"""Layers that cost least alone, among which these are chosen."""


def order_layers(
    alone: Mapping[int, float], together: Callable[[Sequence[int]], float | None], pool: int = POOL
) -> list[int] | None:
    """All layers in the order of choice; None where a cost is not known.

    Layers that cost little alone may cost much together, and the other way round. So the first is the one that costs
    least alone, and each of those after it, up to `GREEDY`, the one of the pool that costs least beside those before
    it. The others follow by what they cost alone.

    Args:
        alone: what each layer costs.
        together: what several layers cost, the newest last; None where that is not known.
        pool: layers that are tried, of least cost alone.
    """
    ranked = sorted(alone, key=alone.__getitem__)
    chosen = ranked[:1]
    while len(chosen) < min(GREEDY, pool, len(ranked)):
        costs = {layer: together([*chosen, layer]) for layer in ranked[:pool] if layer not in chosen}
        known = {layer: cost for layer, cost in costs.items() if cost is not None}
        if len(known) < len(costs):
            return None
        chosen.append(min(known, key=known.__getitem__))
    return [*chosen, *(layer for layer in ranked if layer not in chosen)]


def runs_to_order(layers: int, pool: int = POOL) -> int:
    """How often `order_layers` asks what layers cost together, of so many."""
    tried = min(pool, layers)
    return sum(tried - chosen for chosen in range(1, min(GREEDY, tried)))
