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
from runtime.banks import unpack
from runtime.counts import Use
from runtime.deal import Exits, Share, deal, join_exits, rounds, together_in
from runtime.encoding import Word
from runtime.engine import Engine
from runtime.engines import in_order, load
from runtime.groups import Groups
from runtime.lanczos import Bidiagonal, Factored, truncate
from runtime.machine import Machine
from runtime.program import Kernel, KernelLayout, KernelStream, Launch, Program
from runtime.replay import Stream
from runtime.sequencer import ISSUE_LIMIT, Decide, Issue, MachineFault, Runaway, check_length
from runtime.shared import SharedMemory, StreamFault, in_turns
from runtime.steady import time_streams
from runtime.timing import Timing

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class PromptResult:
    """What a kernel gave of one prompt, or of one block."""

    factors: Bidiagonal
    """u and v float16, alpha and beta float32 with the input's scale; fewer steps than iterations after a breakdown."""
    timing: Timing
    """The timing of the run that it was part of."""
    exits: Exits
    """The exits of that run."""


def run_kernel(kernel: Kernel, machine: Machine, a: Array, engine: str = "reference") -> PromptResult:
    """`run_together` for one prompt."""
    return run_together(kernel, machine, [a], engine)[0]


def run_together(
    kernel: Kernel,
    machine: Machine,
    matrices: Sequence[Array],
    engine: str = "reference",
    limit: int | None = None,
) -> list[PromptResult]:
    """Decompose prompts by one run of a kernel.

    Args:
        matrices: [S, H] each, finite; where the kernel takes one round, at most as many as it has groups.
        engine: `reference` or `fast`; both give the same.
        limit: instructions that a stream may issue, whichever exits it takes (default: that of `sequence`).

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
    shares = deal(kernel, machine, len(matrices))
    padding = [np.broadcast_to(np.float32(0), (layout.rows, layout.cols))]
    loaded = [
        load(engine, kernel, share.machine, [matrices[index] for index in share.matrices] or padding)
        for share in shares
    ]
    try:
        exits = _carry_out(kernel, shares, [each.engine for each in loaded], limit)
    except MachineFault as fault:
        raise _placed(fault, kernel) from fault
    timing = _time_run(kernel, machine, len(matrices), exits)
    results: list[PromptResult] = []
    for index in range(len(matrices)):
        own, number = divmod(index, len(shares))
        factors = unpack(loaded[number].read, layout, shares[number].machine, own)
        results.append(PromptResult(_scaled(factors, loaded[number].exponents[own]), timing, exits))
    for each in loaded:
        each.release()
    return results


def _carry_out(kernel: Kernel, shares: Sequence[Share], engines: Sequence[Engine], limit: int | None) -> Exits:
    """Run the streams of a kernel on their engines; whether each exit left, by stream."""
    for engine in engines:
        engine.global_memory = engines[0].global_memory
    exits: list[list[bool]] = [[] for _ in shares]

    def decide(number: int) -> Decide:
        def leaves(issue: Issue) -> bool:
            exits[number].append(engines[number].leaves(issue))
            return exits[number][-1]

        return leaves

    shared = SharedMemory([share.machine for share in shares])
    streams = [
        _stream(kernel.words, share.machine, engine.bank_bytes, share.rounds, share.stream.entry, limit)
        for share, engine in zip(shares, engines, strict=True)
    ]
    with np.errstate(all="ignore"):
        for number, issue in in_turns([stream.issues(decide(number)) for number, stream in enumerate(streams)]):
            shared.read(number, issue)
            engines[number].carry_out(issue)
    return tuple(tuple(left) for left in exits)


def _scaled(factors: Bidiagonal, exponent: int) -> Bidiagonal:
    """Factors of a matrix that was scaled by 2^-exponent, with its own scale."""
    with np.errstate(over="ignore"):
        alpha, beta = (np.ldexp(values, exponent) for values in (factors.alpha, factors.beta))
    if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
        raise DcomError("the activation's norm is beyond binary32", hint="scale it down")
    if (alpha[factors.alpha != 0] == 0).any() or (beta[factors.beta != 0] == 0).any():  # no breakdown
        raise DcomError("the activation's norm is too small for binary32", hint="scale it up")
    return Bidiagonal(factors.u, alpha, beta, factors.v)


@lru_cache(maxsize=64)
def _stream(
    words: tuple[Word, ...], machine: Machine, bank_bytes: int, turns: int, entry: int, limit: int | None
) -> Stream:
    """A stream of a kernel, the same for all its prompts, so that each instruction is checked once."""
    return Stream(words, machine, partial(check_access, machine=machine, bank_bytes=bank_bytes), turns, entry, limit)


def _placed(fault: MachineFault, kernel: Kernel) -> MachineFault:
    """A fault of a kernel, with what stands there where it is one of several streams."""
    told = fault.of(kernel) if isinstance(fault, StreamFault) else fault
    place = f"kernel {kernel.name}" + (f", {fault.place}" if fault.place else "")
    return MachineFault(told.what, hint=told.hint, place=place)


@lru_cache(maxsize=128)
def _time(
    words: tuple[Word, ...],
    layout: KernelLayout | None,
    machine: Machine,
    streams: tuple[KernelStream, ...],
    exits: Exits,
    turns: tuple[int, ...],
    limit: int,
) -> Timing:
    """Cycles of streams, which depend on data by their exits alone: those given, after which they leave no loop."""
    return time_streams(words, machine, layout, streams, exits, turns, limit)


def _time_run(
    kernel: Kernel,
    machine: Machine,
    matrices: int,
    exits: Exits = (),
    limit: int = ISSUE_LIMIT,
    *,
    uses: bool = True,
) -> Timing:
    """Cycles of a run for so many matrices, where these exits are taken, and none besides.

    Args:
        uses: find out what the multiplications are for, which takes longer than all else.
    """
    shares = deal(kernel, machine, matrices)
    until_last = tuple(_until_last(left) for left in exits) or ((),) * len(shares)
    streams, turns = tuple(share.stream for share in shares), tuple(share.rounds for share in shares)
    try:
        return _time(kernel.words, kernel.layout if uses else None, machine, streams, until_last, turns, limit)
    except MachineFault as fault:
        raise _placed(fault, kernel) from fault


def _until_last(left: Sequence[bool]) -> tuple[bool, ...]:
    """Decisions up to the last that leaves."""
    return tuple(left[: max((index + 1 for index, leaves in enumerate(left) if leaves), default=0)])


def time_kernel(kernel: Kernel, machine: Machine, matrices: int = 1) -> Timing:
    """Cycles of a run for so many matrices where no exit is taken; no data is needed."""
    return _time_run(kernel, machine, matrices)


def time_launch(
    kernel: Kernel, machine: Machine, prompts: int, exits: Exits = (), limit: int = ISSUE_LIMIT
) -> tuple[Timing, ...]:
    """Cycles of the runs, one after another, that a launch of so many prompts takes.

    Args:
        exits: of a kernel that takes all rounds in one run.
        limit: instructions that a stream may issue.
    """
    if kernel.takes_rounds:
        return (_time_run(kernel, machine, prompts, exits, limit),)
    return (_time_run(kernel, machine, 1, (), limit),) * rounds(prompts, kernel.layout, machine)


def launch_cycles(kernel: Kernel, machine: Machine, prompts: int) -> int:
    """Cycles of a launch of so many prompts where no exit is taken: those of `time_launch`, sooner."""
    times, together = (1, prompts) if kernel.takes_rounds else (rounds(prompts, kernel.layout, machine), 1)
    return times * _time_run(kernel, machine, together, uses=False).cycles


def launch_timings(
    kernel: Kernel, machine: Machine, runs: Sequence[tuple[Timing, Exits]], prompts: int
) -> tuple[Timing, ...]:
    """Cycles of a launch that was simulated in several runs.

    A kernel that takes all rounds of a launch in one run is timed as that run; of any other kernel these runs count.
    """
    if not kernel.takes_rounds:
        return tuple(timing for timing, _ in runs)
    together = together_in(kernel, machine)
    taken = [(min(together, prompts - number * together), exits) for number, (_, exits) in enumerate(runs)]
    return time_launch(kernel, machine, prompts, join_exits(taken))


def check_lengths(program: Program, limit: int) -> None:
    """Raise `MachineFault` for a program with a stream that would issue more than `limit` where no exit leaves."""
    for launch in program.launches:
        kernel = program.kernel(launch.kernel)
        shares = deal(kernel, program.machine, launch.prompts if kernel.takes_rounds else 1)
        streams, turns = tuple(share.stream for share in shares), tuple(share.rounds for share in shares)
        try:
            for share in shares:
                check_length(kernel.words, share.rounds, limit, share.stream.entry)
            _time(kernel.words, kernel.layout, program.machine, streams, ((),) * len(shares), turns, limit)
        except Runaway as fault:
            raise MachineFault(fault.what, hint=fault.hint, place=f"kernel {kernel.name}") from fault
        except MachineFault:
            continue  # an exit may lead past it


def launch_uses(kernel: Kernel, machine: Machine, prompts: int, timings: Sequence[Timing]) -> dict[Use, int]:
    """Multiplications by use of a launch's runs; those of groups that get no matrix in the last round are padding."""
    layout, uses = kernel.layout, dict.fromkeys(Use, 0)
    left = prompts
    for timing in timings:
        for share, of_stream in zip(deal(kernel, machine, left), timing.streams or ((None, timing),), strict=True):
            room = Groups.of(layout, share.machine.grid).count * layout.in_flight
            together = room * share.rounds if kernel.takes_rounds else room
            matrices = min(together, len(share.matrices))
            for use, count in of_stream[1].uses.items():
                kept = count * matrices // together if use in (Use.USEFUL, Use.REPLICATED) else count
                uses[use] += kept
                uses[Use.PADDING] += count - kept
        left -= together_in(kernel, machine)
    return uses


class Accelerator:
    """The accelerator as the host executor calls it: a program's launches by layer and site.

    Args:
        engine: `reference` or `fast`.
        threads: that prompts are spread over; what they give does not depend on it.
        limit: instructions that a stream may issue (default: that of `sequence`).
    """

    def __init__(self, program: Program, engine: str = "reference", threads: int = 1, limit: int | None = None) -> None:
        self._program = program
        self._launches = {launch.key: launch for launch in program.launches}
        self._engine = engine
        self._threads = threads
        self._limit = limit

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
        together = together_in(kernel, machine)

        def run(index: int) -> list[T]:
            numbers = range(index * together, min((index + 1) * together, launch.prompts))
            matrices = [prompt(number) for number in numbers]
            results = run_together(kernel, machine, matrices, self._engine, self._limit)
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
