"""Shares of a loop among threads."""

from threading import Event, get_ident
from time import sleep

import pytest

from runtime.shares import for_shares


@pytest.mark.parametrize(("size", "shares", "threads"), [(100, 7, 1), (100, 7, 3), (5, 5, 16), (3, 1, 2)])
def test_every_iteration_is_in_one_share(size: int, shares: int, threads: int) -> None:
    found: list[tuple[int, int, int]] = []
    for_shares(lambda share, start, stop: found.append((share, start, stop)), size, shares, threads)
    assert [number for number, _, _ in sorted(found)] == list(range(shares))
    assert [place for _, start, stop in sorted(found) for place in range(start, stop)] == list(range(size))


def test_no_work_goes_on_after_an_exception() -> None:
    """Or it would write to what its caller, interrupted, no longer holds."""
    here, other, begun, ended = get_ident(), Event(), list[int](), list[int]()

    def work(share: int, start: int, stop: int) -> None:
        if get_ident() == here:
            other.wait()
            raise KeyboardInterrupt
        begun.append(share)
        other.set()
        sleep(0.05)
        ended.append(share)

    with pytest.raises(KeyboardInterrupt):
        for_shares(work, 20, 20, 2)
    known = list(begun)
    assert known and ended == known
    sleep(0.1)
    assert begun == known


def test_an_error_of_another_thread_is_raised() -> None:
    here, other = get_ident(), Event()

    def work(share: int, start: int, stop: int) -> None:
        if get_ident() == here:
            other.wait()
        else:
            other.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_shares(work, 4, 4, 2)
