"""Percentages become the counts that people reckon, in every place that has them."""

from math import ceil

import numpy as np
import pytest
import torch

from dcomc.calibration.statistics import Measure, SiteStatistics
from dcomc.config import SiteOptions
from dcomc.percentages import share_of
from passes._thresholds import Thresholds
from runtime import lanczos
from runtime.approximation import Threshold, approximate


@pytest.mark.parametrize(
    ("percent", "count", "most"),
    [(7, 100, 7), (7.0, 100, 7), (55.1, 1000, 551), (7.01, 100, 8), (1e-05, 10, 1), (0, 9, 0)],
)
def test_a_share_rounded_up_is_what_people_reckon(percent: float, count: int, most: int) -> None:
    assert ceil(share_of(percent, count)) == most


def test_a_tensor_has_as_many_exact_channels_and_tokens() -> None:
    """Of noise nothing else stays as it is at rank 1."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 100, 100)).astype(np.float32))
    for options, dim in ((SiteOptions(rank=1, outliers=7.0), 1), (SiteOptions(rank=1, exact_rows=7.0), 2)):
        made, _ = approximate(x, options)
        assert int(torch.isclose(made, x, atol=1e-5).all(dim).sum()) == 7
    large = torch.arange(100).flip(0)[:, None] < torch.arange(100)  # 0 to 99 tokens are large
    made, _ = approximate(large.float()[None], SiteOptions(rank=1, outliers=100.0), Threshold(0.5, 7.0))
    assert int(((made[0] - large.float()).abs() > 1e-3).any(0).sum()) == 6  # those of 1 to 6: the first is 0


def test_tables_and_statistics_count_alike() -> None:
    assert Thresholds(3.0, 7.0, {}).min_count(100) == 7
    assert Measure(7.0, 1.0, 2).capacity(100) == 7
    statistics = SiteStatistics()
    statistics.add(
        np.full((4, 100), 2.0 ** -np.arange(100) * 2.0**20, np.float32), Measure(29.0, 1.0, 1), lanczos.decompose
    )
    assert statistics.exceeding(statistics.threshold(29.0)) == pytest.approx(29)
