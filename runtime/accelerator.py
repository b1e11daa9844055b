"""Decompositions on the simulated machine: data into the banks, a kernel for each prompt, factors back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError
from runtime.access import check_access
from runtime.banks import rounds, together_in, unpack
from runtime.counts import Use
from runtime.encoding import Word
from runtime.engines import in_order, load
from runtime.groups import Groups
from runtime.lanczos import Bidiagonal, Factored, truncate
from runtime.machine import Machine
from runtime.program import Kernel, KernelLayout, Launch, Program
from runtime.replay import Stream
from runtime.sequencer import Issue, MachineFault, Runaway, check_length
from runtime.steady import time_stream
from runtime.timing import Timing

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class PromptResult:
    """What a kernel gave of one prompt, or of one block."""

    factors: Bidiagonal
    """u and v float16, alpha and beta float32 with the input's scale; fewer steps than iterations after a breakdown."""
    timing: Timing
    """Of the run that it was part of."""


def run_kernel(kernel: Kernel, machine: Machine, a: Array, engine: str = "reference") -> PromptResult:
    """`run_together` for one prompt."""
    return run_together(kernel, machine, [a], engine)[0]


def run_together(
    kernel: Kernel, machine: Machine, matrices: Sequence[Array], engine: str = "reference"
) -> list[PromptResult]:
    """Decompose prompts by one run of a kernel.

    Args:
        matrices: [S, H] each, finite; where the kernel has one matrix in flight, at most as many as it has groups.
        engine: `reference` or `fast`; both give the same.

    Raises:
        DcomError: one is not finite, has a norm too large or too small for binary32, or has not the kernel's shape.
        MachineFault: the kernel does what the machine cannot do.
    """
    layout = kernel.layout
    for a in matrices:
        if a.shape != (layout.rows, layout.cols):
            raise DcomError(
                f"kernel {kernel.name} takes {layout.rows} x {layout.cols}, not {a.shape[0]} x {a.shape[1]}"
            )
    turns = rounds(len(matrices), layout, machine)
    loaded = load(engine, kernel, machine, matrices)
    decisions: list[bool] = []

    def leaves(issue: Issue) -> bool:
        decisions.append(loaded.engine.leaves(issue))
        return decisions[-1]

    try:
        bank_bytes = turns * layout.in_flight * layout.bank_bytes
        for issue in _stream(kernel.words, machine, bank_bytes, turns).issues(leaves):
            loaded.engine.carry_out(issue)
    except MachineFault as fault:
        raise MachineFault(fault.what, hint=fault.hint, place=f"kernel {kernel.name}") from fault
    while decisions and not decisions[-1]:
        decisions.pop()
    timing = _time(kernel.name, kernel.words, layout, machine, tuple(decisions), turns)
    factors = [unpack(loaded.read, layout, machine, index) for index in range(len(matrices))]
    loaded.release()
    return [
        PromptResult(_scaled(one, exponent), timing) for one, exponent in zip(factors, loaded.exponents, strict=True)
    ]


def _scaled(factors: Bidiagonal, exponent: int) -> Bidiagonal:
    """Factors of a matrix that was scaled by 2^-exponent, with its own scale."""
    with np.errstate(over="ignore"):
        alpha, beta = (np.ldexp(values, exponent) for values in (factors.alpha, factors.beta))
    if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
        raise DcomError("the activation's norm is beyond binary32", hint="scale it down")
    if (alpha[factors.alpha != 0] == 0).any() or (beta[factors.beta != 0] == 0).any():  # no breakdown
        raise DcomError("the activation's norm is too small for binary32", hint="scale it up")
    return Bidiagonal(factors.u, alpha, beta, factors.v)


@lru_cache(maxsize=16)
def _stream(words: tuple[Word, ...], machine: Machine, bank_bytes: int, turns: int) -> Stream:
    """The stream of a kernel, the same for all its prompts, so that each instruction is checked once."""
    return Stream(words, machine, partial(check_access, machine=machine, bank_bytes=bank_bytes), turns)


@lru_cache(maxsize=128)
def _time(
    kernel: str,
    words: tuple[Word, ...],
    layout: KernelLayout,
    machine: Machine,
    decisions: tuple[bool, ...],
    turns: int,
) -> Timing:
    """Cycles of a stream, which depend on data by its exits alone: those given, after which it leaves no loop."""
    try:
        return time_stream(words, machine, layout, decisions, turns)
    except MachineFault as fault:
        raise MachineFault(fault.what, hint=fault.hint, place=f"kernel {kernel}") from fault


def time_kernel(kernel: Kernel, machine: Machine, matrices: int = 1) -> Timing:
    """Cycles of a run for so many matrices where no exit is taken; no data is needed."""
    return _time(kernel.name, kernel.words, kernel.layout, machine, (), rounds(matrices, kernel.layout, machine))


def time_launch(kernel: Kernel, machine: Machine, prompts: int) -> tuple[Timing, ...]:
    """Cycles of the runs, one after another, that a launch of so many prompts takes."""
    if kernel.layout.in_flight > 1:
        return (time_kernel(kernel, machine, prompts),)
    return (time_kernel(kernel, machine),) * rounds(prompts, kernel.layout, machine)


def check_lengths(program: Program, limit: int) -> None:
    """Raise `MachineFault` for a program with a stream that would issue more than `limit` where no exit leaves."""
    for launch in program.launches:
        kernel = program.kernel(launch.kernel)
        in_one = rounds(launch.prompts, kernel.layout, program.machine) if kernel.layout.in_flight > 1 else 1
        try:
            check_length(kernel.words, in_one, limit)
            time_stream(kernel.words, program.machine, kernel.layout, (), in_one, limit)
        except Runaway as fault:
            hint = f"{fault.hint}, or raise --max-instructions"
            raise MachineFault(fault.what, hint=hint, place=f"kernel {kernel.name}") from fault
        except MachineFault:
            continue  # an exit may lead past it


def launch_uses(kernel: Kernel, machine: Machine, prompts: int, timings: Sequence[Timing]) -> dict[Use, int]:
    """Multiplications by use of a launch's runs; those of groups that get no matrix in the last round are padding."""
    layout, uses = kernel.layout, dict.fromkeys(Use, 0)
    together = Groups.of(layout, machine.grid).count * layout.in_flight
    if layout.in_flight > 1:
        together *= rounds(prompts, layout, machine)
    for number, timing in enumerate(timings):
        matrices = min(together, prompts - number * together)
        for use, count in timing.uses.items():
            kept = count * matrices // together if use in (Use.USEFUL, Use.REPLICATED) else count
            uses[use] += kept
            uses[Use.PADDING] += count - kept
    return uses


class Accelerator:
    """The accelerator as the host executor calls it: a program's launches by layer and site.

    Args:
        engine: `reference` or `fast`.
        threads: that prompts are spread over; what they give does not depend on it.
    """

    def __init__(self, program: Program, engine: str = "reference", threads: int = 1) -> None:
        self._program = program
        self._launches = {launch.key: launch for launch in program.launches}
        self._engine = engine
        self._threads = threads

    def launch(self, layer: int, site: str) -> Launch:
        """The launch of a layer's site; raises `DcomError` where the program has none."""
        key = f"layer{layer}.{site}"
        if key not in self._launches:
            raise DcomError(f"the program has no launch for {key}", hint="compile it again")
        return self._launches[key]

    def each_prompt(
        self, launch: Launch, prompt: Callable[[int], Array], then: Callable[[Array, PromptResult], T]
    ) -> Iterator[T]:
        """Decompose the prompts of a launch, and do something with each while its data is there.

        Args:
            prompt: makes the activation of a prompt, [S, H]; called from several threads.
            then: takes that activation and what its run gave.

        Returns:
            What `then` returned for each prompt, in order.

        Raises:
            DcomError: an activation has the wrong shape, or a value that is not finite; says which launch.
        """
        kernel, machine = self._program.kernel(launch.kernel), self._program.machine
        together = together_in(kernel.layout, machine)

        def run(index: int) -> list[T]:
            numbers = range(index * together, min((index + 1) * together, launch.prompts))
            matrices = [prompt(number) for number in numbers]
            results = run_together(kernel, machine, matrices, self._engine)
            return [then(a, result) for a, result in zip(matrices, results, strict=True)]

        try:
            for results in in_order(run, ceil(launch.prompts / together), self._threads):
                yield from results
        except DcomError as error:
            raise DcomError(f"{launch.key}: {error.what}", hint=error.hint, place=error.place) from error

    def decompose(self, launch: Launch, x: Array) -> tuple[Factored, list[PromptResult]]:
        """Decompose a batch of activations by simulated instructions.

        Args:
            x: [prompts * S, H].

        Returns:
            The truncated factors, float32, and what each prompt's run gave.

        Raises:
            DcomError: as `each_prompt`.
        """
        layout = self._program.kernel(launch.kernel).layout
        expected = (launch.prompts * layout.rows, layout.cols)
        if x.shape != expected:
            raise DcomError(f"{launch.key} takes activations of {expected[0]} x {expected[1]}, not {x.shape}")
        prompts = np.split(x, launch.prompts)
        results = list(self.each_prompt(launch, lambda index: prompts[index], lambda _, result: result))
        parts = [truncate(result.factors, launch.rank) for result in results]
        return Factored(*(np.stack(part) for part in zip(*parts, strict=True))), results
