"""Layers in the order in which they are chosen, by what they cost on text of their own."""

from dcomc.evaluation.bench import DENSE
from dcomc.quality.lab import Lab, low_rank

RANK, BLOCK = 10, 64
"""Of the decompositions that layers are chosen by."""
GREEDY = 4
"""Layers that are chosen beside those before them."""


def order_of_layers(lab: Lab, count: int) -> list[int] | None:
    """The layers in the order of choice, all sites decomposed; None where results are missing and the time is over.

    Layers that cost little on their own may cost much together, and the other way round: so each of the first `GREEDY`
    is chosen from some of those that cost least alone, tried beside those before it. The others follow by what they
    cost alone.
    """

    def losses(sets: list[tuple[int, ...]]) -> dict[int, float] | None:
        found: dict[int, float] = {}
        for layers in sets:
            metric = lab.perplexity(lab.choosing, low_rank(layers, rank=RANK, block=BLOCK))
            if metric is None:
                return None
            found[layers[-1]] = float(metric.totals.sum())
        return found

    if lab.scores(lab.choosing, DENSE) is None:
        return None
    alone = losses([(layer,) for layer in range(lab.layers)])
    if alone is None:
        return None
    ranked = sorted(alone, key=alone.__getitem__)
    pool, chosen = ranked[: lab.settings.pool], ranked[:1]
    while len(chosen) < min(GREEDY, len(pool)):
        beside = losses([(*chosen, layer) for layer in pool if layer not in chosen])
        if beside is None:
            return None
        chosen.append(min(beside, key=beside.__getitem__))
    return [*chosen, *(layer for layer in ranked if layer not in chosen)][:count]
