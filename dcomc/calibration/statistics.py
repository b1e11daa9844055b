"""Statistics of a site's input, in memory that does not grow with the text: thresholds, stable channels, energies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np

from dcomc.evaluate import Array
from dcomc.percentages import share_of
from runtime.lanczos import Factored

_FRACTION_BITS = 8
"""Bits of the fraction that a bin of the histogram is told by: bins are 0.2 to 0.4% wide."""
_SHIFT = 23 - _FRACTION_BITS
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -24, 24
_FIRST = (127 + _LOWEST_EXPONENT) << _FRACTION_BITS
_BINS = (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) << _FRACTION_BITS


def bin_of(magnitudes: Array) -> Array:
    """The bin of each binary32 magnitude: the leading bits of its encoding, so that bins grow with what they hold."""
    bits = np.asarray(magnitudes, np.float32).view(np.uint32) >> _SHIFT
    return np.clip(bits.astype(np.int64) - _FIRST, 0, _BINS - 1)


def lower_edge(index: int) -> float:
    """The smallest magnitude in a bin, which binary32 holds exactly; of the bin past the last, what bounds all."""
    return float(np.array((index + _FIRST) << _SHIFT, np.uint32).view(np.float32))


@dataclass(frozen=True)
class Measure:
    """What is measured of every site."""

    share: float
    """The percentage of channels that should be outliers."""
    min_tokens: float
    """The percentage of a prompt's tokens at which a channel must exceed the threshold."""
    rank: int
    """Energies are measured up to it."""
    block: int | None = None
    """Tokens that share a basis; all of a prompt unless given."""

    def capacity(self, channels: int) -> int:
        """The channels that the share stands for, rounded up as the compiler does."""
        return ceil(share_of(self.share, channels))


@dataclass
class SiteStatistics:
    """Of one site of one layer.

    The paper's rule (section 4) takes a channel for an outlier of a prompt where the count of |x| > T reaches m. That
    is so exactly where the m-th largest |x| of the channel exceeds T: its *level*. So one number a channel and prompt
    tells, for all thresholds at once, which share of the channels each of them would choose.
    """

    histogram: Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    """[bins] channels of prompts by level."""
    chosen: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """[H] prompts in which a channel's level is among the highest."""
    energy: Array = field(default_factory=lambda: np.zeros(0))
    """[rank] the sum over prompts of the share of energy that the leading columns hold."""
    prompts: int = 0

    def add(self, x: Array, measure: Measure, lanczos: Callable[..., Factored]) -> None:
        """Count a prompt, x [S, H], finite.

        Args:
            lanczos: decomposes; see `runtime.executor_arrays.Arrays.lanczos`.
        """
        tokens, channels = x.shape
        exact = x.astype(np.float32, copy=False)
        least = max(1, ceil(share_of(measure.min_tokens, tokens)))
        levels = np.partition(np.abs(exact), tokens - least, axis=0)[tokens - least]
        self.histogram += np.bincount(bin_of(levels), minlength=_BINS)
        highest = np.argsort(-levels, kind="stable")[: measure.capacity(channels)]
        if not self.prompts:
            self.chosen, self.energy = np.zeros(channels, np.int64), np.zeros(measure.rank)
        self.chosen[highest] += 1
        rest = exact.copy()
        rest[:, highest] = 0
        self.energy += _captured(rest, measure, lanczos)
        self.prompts += 1

    def threshold(self, share: float) -> float:
        """The lowest threshold, among the bins' edges, that no more than `share` percent of the channels exceed."""
        above = np.cumsum(self.histogram[::-1])[::-1]
        few = np.flatnonzero(above <= floor(share_of(share, int(self.histogram.sum()))))
        return lower_edge(int(few[0]) if len(few) else _BINS)

    def exceeding(self, threshold: float) -> float:
        """The percentage of channels whose level exceeds a threshold that is a bin's edge, over all prompts."""
        first = int(bin_of(np.array(threshold)))
        return 100 * float(self.histogram[first:].sum() / self.histogram.sum())

    def stable(self, least: float = 0.9) -> list[int]:
        """The channels that are among the highest in at least this share of the prompts."""
        return np.flatnonzero(self.chosen >= least * self.prompts).tolist()

    def captured(self) -> Array:
        """[rank] the mean share of the energy beside the outliers that so many columns hold."""
        return self.energy / self.prompts


def _captured(x: Array, measure: Measure, lanczos: Callable[..., Factored]) -> Array:
    """[rank] the share of the energy of x [S, H] that a decomposition of its blocks holds, by the columns it keeps."""
    tokens, channels = x.shape
    size = measure.block or tokens
    rank = min(measure.rank, size, channels)
    factors = lanczos(x, tokens // size, rank, min(rank + 5, size, channels))
    energies = np.square(np.diagonal(factors.core, axis1=1, axis2=2).astype(np.float64)).sum(0)
    total = float(np.square(x.astype(np.float64)).sum())
    held = np.cumsum(energies) / total if total else np.ones(rank)
    return np.append(held, np.full(measure.rank - rank, held[-1]))
