"""Ratios of perplexities, as the tables of the quality report show them."""

from collections.abc import Sequence

from dcomc.evaluation.bench import DENSE, Variant
from dcomc.evaluation.metrics import paired
from dcomc.quality.lab import Lab

ABSENT = "not run"
BROKEN = "broken"
_MOST = 1e6
"""A ratio above it tells no more than that the model is broken: giving all tokens the same probability is better."""

Ratio = tuple[float, Sequence[float] | None]
"""A ratio of perplexities, and its interval."""


def ratio(lab: Lab, variant: Variant, to: Variant = DENSE) -> Ratio | None:
    """The perplexity over that of another variant, the dense model unless given; None where a run is missing."""
    base, found = lab.perplexity(lab.evaluated, to), lab.perplexity(lab.evaluated, variant)
    if base is None or found is None:
        return None
    compared = paired(found, base)
    return compared.change, compared.interval


def guessing(lab: Lab) -> str:
    """What a large ratio means, beside that of a model that knows nothing."""
    count, dense = int(lab.model.config()["vocab_size"]), lab.perplexity(lab.evaluated)
    known = ABSENT if dense is None else f"{count / dense.value:,.0f}"
    return (
        f"Giving all {count:,} tokens the same probability has a ratio of {known}: a model above that is worse than "
        f"one that knows nothing, and how much worse says nothing. “{BROKEN}”: above {_MOST:,.0f}."
    )


def shown(found: Ratio | None) -> str:
    """A ratio as a cell."""
    if found is None:
        return ABSENT
    value, interval = found
    if value > _MOST:
        return BROKEN
    text = f"{value:,.2f}" if value >= 10 else f"{value:.3f}"
    return text if interval is None or value >= 10 else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"
