"""Percentages as people write them, exactly: 7% of 100 channels are 7, though `7 / 100 * 100` is a little more."""

from fractions import Fraction


def share_of(percent: float, count: int) -> Fraction:
    """The percentage of a count, for `math.ceil` or `math.floor`; the percentage is what its shortest decimal says."""
    return Fraction(str(percent)) * count / 100
