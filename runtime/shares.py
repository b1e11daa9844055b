"""Shares of a loop among threads that run compiled code, without the interpreter's lock."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

_LEAST = 32
"""The fewest iterations of a share."""


def for_shares(work: Callable[[int, int, int], None], size: int, shares: int, threads: int) -> None:
    """Call `work(share, start, stop)` for each share of a loop of some size, on so many threads, this one among them.

    Each thread takes the next share when it is done with one: one that wakes late does less, and one that has not begun
    when all is done is not waited for.
    """
    left = iter(range(shares))

    def work_on() -> None:
        for share in left:
            work(share, size * share // shares, size * (share + 1) // shares)

    others = [pool().submit(work_on) for _ in range(min(threads, shares) - 1)]
    work_on()
    for other in others:
        if not other.cancel():
            other.result()


def share_count(size: int, most: int = 8) -> int:
    """Into how many shares a loop is cut; where it sums, not by the threads, or the sums would depend on them."""
    return max(min(most, size // _LEAST), 1)


@cache
def pool() -> ThreadPoolExecutor:
    """As many threads as cores."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "shares")
