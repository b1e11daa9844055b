"""Which engine carries out the instructions, on how many threads, and what that takes in time and memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, counted, size
from dcomc.tables import duration
from runtime.banks import ReadBank, pack, to_half_scaled
from runtime.deal import deal, together_in
from runtime.engine import Engine
from runtime.machine import Machine
from runtime.program import Kernel
from runtime.reference import ReferenceEngine

T = TypeVar("T")
PATIENCE_SECONDS = 5.0
"""Work that the reference engine is expected to finish within this is not worth loading compiled code for."""

_BASE_BYTES = 250 << 20
"""Interpreter, libraries and compiled code."""


@dataclass(frozen=True)
class _Rates:
    """Measured on two cores of a server of 2024, in round numbers; they decide and announce, no more.

    Of the fast engine, by processor time of 24 kernels from 16 x 64 to 4096 x 11008, by the grid, groups and single
    clusters, either Gram-Schmidt: what is announced is 0.6 to 3.3 times that, and 1.3 to 1.9 from 2048 x 2048 on.
    """

    start: float
    """Seconds before the first instruction, where the compiled code is on disk."""
    instruction: float
    """Seconds an instruction."""
    element: float
    """Seconds an element of A that a matvec reads."""


_RATES = {"reference": _Rates(0.0, 8e-5, 7e-9), "fast": _Rates(1.0, 2e-5, 1.5e-10)}


@dataclass(frozen=True)
class Loaded:
    """An engine with activations in its banks."""

    engine: Engine
    read: ReadBank
    """Reads the banks after the run."""
    exponents: tuple[int, ...]
    """Each activation was scaled by 2 to the minus its exponent."""
    release: Callable[[], None]
    """Lets the memory serve the next run; after this, neither engine nor banks may be used."""


def load(engine: str, kernel: Kernel, machine: Machine, matrices: Sequence[NDArray[Any]]) -> Loaded:
    """Put the activations of a run, [S, H] each, into the banks of an engine, `reference` or `fast`.

    Raises:
        DcomError: a NaN or an infinity, or the fast engine cannot be loaded.
    """
    if engine == "reference":
        halves, exponents = zip(*map(to_half_scaled, matrices), strict=True)
        banks = pack(halves, kernel.layout, kernel.seed, machine)
        read = partial(_read, banks)
        return Loaded(ReferenceEngine(machine, banks), read, exponents, lambda: None)
    check_fast()
    from runtime.fast import FastEngine
    from runtime.fast_banks import FREE, pack_scaled, reader

    words, exponents = pack_scaled(matrices, kernel.layout, kernel.seed, machine)
    buffers = FREE.zeros(machine.cluster.buffer_bytes // 2, machine.grid.rows * machine.grid.cols)
    fast = FastEngine(machine, words, buffers)
    return Loaded(fast, reader(words), exponents, lambda: FREE.give(words, buffers))


def _read(banks: NDArray[np.uint8], bank: int, start: int, size: int) -> NDArray[np.uint8]:
    return banks[bank, start : start + size]


def check_fast() -> None:
    """Raise `DcomError` where numba does not work here, such as beside a NumPy that it does not know."""
    try:
        import_module("numba")
    except ImportError as error:
        raise DcomError(f"the fast engine cannot be loaded: {error}", hint="use --engine=reference") from error


@dataclass(frozen=True)
class Work:
    """A kernel that is to run for some prompts."""

    kernel: Kernel
    instructions: int
    """Instructions of the runs for all prompts."""
    prompts: int
    """Prompts of all runs together."""
    times: int = 1
    """How often all that is done."""

    def seconds(self, engine: str) -> float:
        """What one thread is expected to need, but for the start."""
        rates = _RATES[engine]
        elements = self.prompts * 2 * self.iterations * self.elements
        return self.times * (rates.instruction * self.instructions + rates.element * elements)

    @property
    def iterations(self) -> int:
        """Lanczos steps."""
        return self.kernel.layout.iterations

    @property
    def elements(self) -> int:
        """Elements of the activation of one prompt."""
        return self.kernel.layout.rows * self.kernel.layout.cols

    def bytes(self, engine: str, machine: Machine) -> int:
        """What one run is expected to take: activation, banks, buffers, and the arrays between."""
        layout = self.kernel.layout
        together = min(together_in(self.kernel, machine), self.prompts)
        columns = sum(share.rounds * share.machine.grid.cols for share in deal(self.kernel, machine, together))
        activation, banks = together * 4 * self.elements, columns * layout.in_flight * layout.bank_bytes
        buffers = machine.grid.rows * machine.grid.cols * machine.cluster.buffer_bytes
        return activation + banks + buffers if engine == "fast" else 3 * activation + 3 * banks + 6 * buffers


@dataclass(frozen=True)
class Beside:
    """What is done with each prompt beside the run of its kernel."""

    seconds_an_element: float = 0.0
    """Seconds for each element of the activation."""
    bytes: int = 0
    """Bytes of memory for each thread."""


@dataclass(frozen=True)
class Plan:
    """How work will be done."""

    engine: str
    threads: int
    why: str
    seconds: float
    bytes: int

    def __str__(self) -> str:
        cost = f"{about(self.seconds)} and {size(self.bytes)}"
        return f"engine: {self.engine} ({self.why}), {counted(self.threads, 'thread')}, {cost}"


def plan(
    engine: str,
    work: Sequence[Work],
    machine: Machine,
    *,
    threads: int | None = None,
    memory_limit: int | None = None,
    held_bytes: int = 0,
    beside: Beside = Beside(),
) -> Plan:
    """Decide on an engine and the number of threads.

    Args:
        engine: `reference`, `fast`, or `auto`: fast where the reference engine would need long.
        threads: at most so many; None for as many as there are processors.
        memory_limit: bytes; fewer threads are used where they would need more.
        held_bytes: what is in memory all the time.
        beside: what else is done with each prompt.

    Raises:
        DcomError: the limit is too small even for one thread, or the fast engine is asked for and cannot be loaded.
    """
    chosen, why = _choose(engine, work)
    wanted = threads or processors()
    wanted = max(1, min(wanted, max((item.prompts for item in work), default=1)))
    held = _BASE_BYTES + held_bytes

    def each_with(engine: str) -> int:
        return max((item.bytes(engine, machine) for item in work), default=0) + beside.bytes

    each = each_with(chosen)
    count = wanted
    if memory_limit is not None:
        count = min(wanted, (memory_limit - held) // max(each, 1))
        if count < 1:
            less = chosen != "fast" and held + each_with("fast") <= memory_limit
            raise DcomError(
                f"one thread needs about {size(held + each)} of memory, but the limit is {size(memory_limit)}",
                hint=f"give --memory-limit {ceil((held + each) / 1e6)}MB or more"
                + (", or --engine fast, which needs less" if less else ""),
            )
    seconds = _RATES[chosen].start
    for item in work:
        aside = item.times * item.prompts * beside.seconds_an_element * item.elements
        seconds += (item.seconds(chosen) + aside) / min(count, item.prompts)
    return Plan(chosen, count, why, seconds, held + count * each)


def _choose(engine: str, work: Sequence[Work]) -> tuple[str, str]:
    if engine == "fast":
        check_fast()
    if engine != "auto":
        return engine, "as asked"
    if sum(item.seconds("reference") for item in work) <= PATIENCE_SECONDS:
        return "reference", "small work"
    try:
        check_fast()
    except DcomError as error:
        return "reference", error.what
    return "fast", "large work"


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[int], T], count: int, threads: int) -> Iterator[T]:
    """work(0), work(1), … on some threads, in order; after a failure, or when the reader stops, no more are begun."""
    if threads == 1 or count == 1:
        yield from map(work, range(count))
        return
    pool = ThreadPoolExecutor(threads)
    try:
        begun = min(count, 2 * threads)  # at most so many results wait for the reader
        running = deque(pool.submit(work, index) for index in range(begun))
        for index in range(begun, begun + count):
            yield running.popleft().result()
            if index < count:
                running.append(pool.submit(work, index))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def about(seconds: float) -> str:
    """An estimated time for people, in whole seconds, at least one: `about 8 s`."""
    return f"about {duration(max(round(seconds), 1))}"
