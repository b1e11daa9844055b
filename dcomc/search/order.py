"""Layers one after another, each for what it costs beside those before it: for searches and for the quality report."""

from collections.abc import Callable, Mapping, Sequence

POOL = 4
"""Layers that are tried for each place in the order; of eight, on SmolLM2-135M, one of the first three was the best."""


def order_layers(
    alone: Mapping[int, float], together: Callable[[Sequence[int]], float | None], count: int, pool: int = POOL
) -> list[int] | None:
    """All layers in the order of choice; None where a cost is not known.

    Layers that cost little alone may cost much together, and the other way round. So the first is the one that costs
    least alone, and each of those after it, up to `count`, the one of a pool that costs least beside those before it.
    The pool are the layers that added least when they were last tried, or that cost least alone, where they were not;
    by that, too, the layers past `count` follow.

    Args:
        alone: what each layer costs.
        together: what several layers cost, the newest last; None where that is not known.
        count: layers that are chosen beside those before them.
        pool: layers that are tried for each of these.
    """
    added = dict(alone)
    chosen = [min(added, key=added.__getitem__)]
    cost = added.pop(chosen[0])
    while added and len(chosen) < count:
        costs: dict[int, float] = {}
        for layer in sorted(added, key=added.__getitem__)[:pool]:
            found = together([*chosen, layer])
            if found is None:
                return None
            costs[layer] = found
        added |= {layer: found - cost for layer, found in costs.items()}
        chosen.append(min(costs, key=costs.__getitem__))
        cost = costs[chosen[-1]]
        del added[chosen[-1]]
    return [*chosen, *sorted(added, key=added.__getitem__)]


def runs_to_order(layers: int, count: int, pool: int = POOL) -> int:
    """How often `order_layers` asks what layers cost together, of so many."""
    return sum(min(pool, layers - chosen) for chosen in range(1, min(count, layers)))
