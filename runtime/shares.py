"""Shares of a loop among threads that run compiled code, without the interpreter's lock."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

_LEAST, _MOST = 32, 8
"""The fewest rows of a share, and the most shares."""


def for_shares(work: Callable[[int, int, int], None], size: int, shares: int, threads: int) -> None:
    """Call `work(share, start, stop)` for each share of a loop of some size, on so many threads, this one among them.

    Each thread takes the next share when it is done with one: one that wakes late does less, and one that has not begun
    when all is done is not waited for. No work goes on after an exception, of an interrupt, say.
    """
    left = iter(range(shares))

    def work_on() -> None:
        for share in left:
            work(share, size * share // shares, size * (share + 1) // shares)

    others: list[Future[None]] = []
    try:
        for _ in range(min(threads, shares) - 1):
            others.append(pool().submit(work_on))
        work_on()
    finally:
        for _ in left:
            pass
        for other in others:
            if not other.cancel():
                other.result()


def share_count(rows: int) -> int:
    """Into how many shares the rows of a matrix are cut: not by the threads, on which sums would depend."""
    return max(min(_MOST, rows // _LEAST), 1)


@cache
def pool() -> ThreadPoolExecutor:
    """As many threads as cores."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "shares")
