"""Energies, worked out by hand from the shipped table."""

import pytest
from machines import issues, machine

from runtime.bounds import Bounds
from runtime.counts import Counts
from runtime.energy import energies, together
from runtime.technology import load_technology
from runtime.timing import TimingReader

TECHNOLOGY = load_technology("15nm")


def counts(*lines: str) -> Counts:
    clock = TimingReader(machine())
    for issue in issues(*lines, "halt"):
        clock.read(issue)
    return clock.result().counts


def joules(*lines: str) -> dict[str, Bounds]:
    return energies(counts(*lines), TECHNOLOGY)


def is_range(found: Bounds, low: float, high: float) -> bool:
    return found == Bounds(pytest.approx(1e-15 * low), pytest.approx(1e-15 * high))


def test_multiplications_and_operands() -> None:
    """A tile and a vector of 8 in each of 256 clusters: 64 products of 933 fJ; 128 + 16 bytes, and 32 both ways."""
    of = joules("mv.row [r0+0x0], [r0+0x1000], [r0+0x100], 1, 1, 0")
    assert is_range(of["arrays"], 256 * 64 * 933 / 2, 256 * 64 * 933 * 2)
    assert is_range(of["buffers"], 256 * 208 * 1060, 256 * 208 * 2500)
    assert of["banks"] == Bounds(0, 0)
    assert is_range(together(of.values()), 256 * (64 * 933 / 2 + 208 * 1060), 256 * (64 * 933 * 2 + 208 * 2500))


def test_a_stream_is_of_the_clusters_that_it_serves() -> None:
    """128 bytes in each of 2 x 3 clusters, from the bank and into the buffer."""
    of = joules("ld [r0+0x0], r1, 128, 0, 2, 3, t0")
    assert is_range(of["buffers"], 6 * 128 * 1060, 6 * 128 * 2500)
    assert is_range(of["banks"], 6 * 128 * 31_000, 6 * 128 * 56_000)
    assert of["arrays"] == Bounds(0, 0)


def test_the_global_memory_is_left_out() -> None:
    """`put` reads 4 elements of each cluster's buffer, whether or not the cluster is the one that sends."""
    assert counts("put [r0+0x0], [r0+0x0], 4, 0, 0").operands == {0: 256 * 16}
