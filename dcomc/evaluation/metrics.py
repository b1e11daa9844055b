"""Metrics as sums over documents, and how sure a difference of two of them is."""

from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

import numpy as np

from dcomc.diagnostics import DcomError
from dcomc.evaluate import Array

RESAMPLES = 2000
_MOST_LOSS = 700.0


@dataclass(frozen=True)
class Metric:
    """One number of one model, as the documents' (or questions') shares in it.

    It is Σ totals / Σ counts; for a perplexity exp of that, of negative log-likelihoods and predicted tokens.
    """

    totals: Array
    """[D]"""
    counts: Array
    """[D]"""
    exponential: bool = False

    @property
    def value(self) -> float:
        """The metric. Raises `DcomError` where it is beyond a float."""
        mean = float(self.totals.sum() / self.counts.sum())
        if self.exponential and mean > _MOST_LOSS:
            what = f"the mean negative log-likelihood is {mean:.3g}, beyond that of any text"
            raise DcomError(what, hint="look for damage in the weights")
        return exp(mean) if self.exponential else mean

    @property
    def standard_error(self) -> float | None:
        """The standard error of a mean over documents; None for a perplexity, or where there is one document."""
        if self.exponential or len(self.totals) < 2:
            return None
        return float(self.totals.std(ddof=1)) / sqrt(len(self.totals))


@dataclass(frozen=True)
class Paired:
    """A metric of a model against that of the dense one on the same documents."""

    change: float
    """The ratio of perplexities, or the difference of others."""
    interval: tuple[float, float] | None
    """Which 95% of resampled sets of documents fall in; None where there is one document."""

    def to_json(self) -> dict[str, Any]:
        """As `dcomc eval --json` writes it."""
        return {"change": self.change, "interval_95": self.interval}


def paired(metric: Metric, dense: Metric, seed: int = 0) -> Paired:
    """Compare, and resample the documents, each with both models' shares: the paired percentile bootstrap."""
    differences = metric.totals - dense.totals

    def change(weights: Array) -> Array:
        mean = (weights @ differences) / (weights @ dense.counts)
        return np.exp(mean) if metric.exponential else mean

    documents = len(differences)
    overall = float(change(np.ones(documents)))
    if documents < 2:
        return Paired(overall, None)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(documents, np.full(documents, 1 / documents), RESAMPLES)
    low, high = np.percentile(change(drawn.astype(np.float64)), (2.5, 97.5))
    return Paired(overall, (float(low), float(high)))
