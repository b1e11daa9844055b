"""This machine's processor as a host of `dcomc estimate`: a few seconds of torch, as the TOML form of a GPU."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch.nn.functional import scaled_dot_product_attention

from dcomc.diagnostics import DcomError
from dcomc.doctor import memory_bytes, processor, usable_cores

_GEMMS = ((1024, 1024, 1024), (512, 2048, 1024), (256, 1024, 4096), (2048, 512, 512))
"""M, N, K"""
_COPIED = 128 << 20
"""Bytes: past the caches of most processors."""
_HEADS, _TOKENS, _WIDTH = 8, 1024, 128
_DISPATCHES = 2000
_CORE = 15
"""k of the core whose SVD is timed."""


@dataclass(frozen=True)
class Rates:
    """The slowest and the fastest of several shapes, each the best of some runs."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{{ low = {self.low:.3g}, high = {self.high:.3g} }}"

    def over(self, peak: float) -> "Rates":
        """As shares of a peak."""
        return Rates(min(self.low / peak, 1.0), min(self.high / peak, 1.0))


def measured_toml(name: str) -> str:
    """The description: each value, how it was measured, and what it takes the place of on a processor.

    Raises:
        DcomError: the system does not say how much memory there is.
    """
    total = memory_bytes()
    if total is None:
        raise DcomError("this system does not say how much memory it has", hint="write the description by hand")
    with torch.inference_mode():
        gemms = {dtype: _gemms(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)}
        half = max((torch.bfloat16, torch.float16), key=lambda dtype: gemms[dtype].high)
        single, halves = gemms[torch.float32], gemms[half]
        copies, maps = _copies(), _maps()
        attention, dispatch, svd = _attention(), _dispatch(), _svd()
    peak = max(copies.high, maps.high)
    shares = (single.over(single.high), halves.over(halves.high))
    gemm = Rates(min(share.low for share in shares), 1.0)
    stream, fused = Rates(min(copies.low, maps.low), peak).over(peak), attention.over(single.high)
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in _GEMMS)
    return f"""\
# {processor()} with {torch.get_num_threads()} threads, as a host: measured by `dcomc doctor --measure` with torch \
{torch.__version__}.
# A range is what the shapes measured span; an estimate gives its middle, and both ends. Run it on an idle machine.

name = "{name}"
sms = {usable_cores()}                                  # usable cores
memory_bytes = {total}
memory_bytes_per_second = {peak:.4g}      # read and written, the fastest of copies and sums of {_COPIED >> 20} MiB
link_bytes_per_second = {peak:.4g}        # none: the memory itself

[flops_per_second]                        # the fastest of {shapes}
half = {halves.high:.4g}                         # {str(half).removeprefix("torch.")}
single = {single.high:.4g}

[gemm]
tile_rows = 64                            # assumed: smaller than any product here
tile_cols = 64
efficiency = {gemm}       # the slowest of the shapes over the fastest

[attention]                               # fused, {_HEADS} heads of {_TOKENS} x {_WIDTH}, of what a causal mask leaves
efficiency = {fused}

[stream]                                  # share of the memory's bandwidth
efficiency = {stream}

[launch]                                  # of an operation on 16 elements
eager_seconds = {dispatch}
graph_seconds = {dispatch}   # there are no graphs

[all_reduce]                              # one processor exchanges with none
latency_seconds = {dispatch.low:.3g}
bytes_per_second = {Rates(peak, peak)}

[dcom_link]                               # assumed: half of the memory's bandwidth at the least, all at the most
bytes_per_second = {Rates(peak / 2, peak)}

[lanczos]
small_svd_seconds = {svd}   # of {_CORE} x {_CORE}
element_bytes = 4
"""


def _best(work: Callable[[], object], runs: int = 5) -> float:
    """The least seconds of some runs, after one that does not count."""
    work()
    times: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _span(rates: Sequence[float]) -> Rates:
    return Rates(min(rates), max(rates))


def _gemms(dtype: torch.dtype) -> Rates:
    """Operations a second."""
    rates: list[float] = []
    for m, n, k in _GEMMS:
        a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
        rates.append(2 * m * n * k / _best(partial(torch.matmul, a, b.T), 3))
    return _span(rates)


def _copies() -> Rates:
    """Bytes read and written a second, into memory that is there and into new memory."""
    source = torch.ones(_COPIED // 4)
    target = torch.empty_like(source)
    return _span([2 * _COPIED / _best(work) for work in (lambda: target.copy_(source), source.clone)])


def _maps() -> Rates:
    """The same for a sum of two arrays, and for a sum over columns."""
    a, b = torch.ones(_COPIED // 16384, 4096), torch.ones(_COPIED // 16384, 4096)
    return _span([3 * _COPIED / _best(lambda: a + b), _COPIED / _best(lambda: a.sum(1))])


def _attention() -> Rates:
    """Operations a second, of half of both products."""
    q, k, v = (torch.randn(1, _HEADS, _TOKENS, _WIDTH) for _ in range(3))
    flops = 2 * _HEADS * _TOKENS * _TOKENS * _WIDTH
    return _span([flops / _best(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), 3) for _ in range(2)])


def _dispatch() -> Rates:
    """Seconds of one operation on a few elements, and of one that makes a view first."""
    few = torch.ones(16)

    def plain() -> None:
        for _ in range(_DISPATCHES):
            torch.add(few, few)

    def viewed() -> None:
        for _ in range(_DISPATCHES):
            torch.add(few.reshape(4, 4), few.reshape(4, 4))

    return _span([_best(plain) / _DISPATCHES, _best(viewed) / _DISPATCHES])


def _svd() -> Rates:
    """Seconds of the SVD of a small core, in both float types."""
    cores = [torch.randn(_CORE, _CORE, dtype=dtype) for dtype in (torch.float32, torch.float64)]

    def svd(core: torch.Tensor) -> object:
        return cast(object, torch.linalg.svd(core))

    return _span([_best(partial(svd, core)) for core in cores])
