"""Ratios of perplexities, as the tables of the quality report show them."""

from collections.abc import Sequence

from dcomc.evaluation.bench import DENSE, Variant
from dcomc.evaluation.metrics import paired
from dcomc.quality.lab import Lab

ABSENT = "not run"

Ratio = tuple[float, Sequence[float] | None]
"""A ratio of perplexities, and its interval."""


def ratio(lab: Lab, variant: Variant, to: Variant = DENSE) -> Ratio | None:
    """The perplexity over that of another variant, the dense model unless given; None where a run is missing."""
    base, found = lab.perplexity(lab.evaluated, to), lab.perplexity(lab.evaluated, variant)
    if base is None or found is None:
        return None
    compared = paired(found, base)
    return compared.change, compared.interval


def shown(found: Ratio | None) -> str:
    """A ratio as a cell."""
    if found is None:
        return ABSENT
    value, interval = found
    text = f"{value:.3g}" if value >= 1e6 else f"{value:,.2f}" if value >= 10 else f"{value:.3f}"
    return text if interval is None or value >= 10 else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"
