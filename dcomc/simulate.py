"""Simulating all decompositions of a program: what each takes, and how good its factors are."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcomc.activations import made_from_seed
from dcomc.diagnostics import DcomError
from dialects.dcom import SITES
from runtime.accelerator import Accelerator, PromptResult, launch_timings, launch_uses, time_launch
from runtime.bounds import Bounds
from runtime.counts import Use
from runtime.deal import Exits, together_in
from runtime.energy import energies, together
from runtime.engines import Beside, Plan, Work, plan
from runtime.instructions import Unit
from runtime.lanczos import optimal_error, truncate
from runtime.machine import Machine
from runtime.program import Launch, Program
from runtime.sequencer import ISSUE_LIMIT
from runtime.technology import Technology
from runtime.timing import Timing, add_causes

Array = NDArray[Any]


@dataclass(frozen=True)
class LaunchResult:
    """One decomposition, over all prompts of its batch."""

    launch: Launch
    rows: int
    cols: int
    iterations: int
    """Asked for."""
    steps: tuple[int, ...]
    """Taken for each prompt, fewer after a breakdown; empty without data."""
    source: str
    """Where the activations came from."""
    timings: tuple[Timing, ...]
    """The timing of each run of the kernel, one after another."""
    uses: Mapping[Use, int]
    """Multiplications of all runs."""
    relative_error: float | None
    """||X - U core V|| / ||X|| over the batch; None without data."""
    optimal_error: float | None
    """The least that any matrix of this rank reaches."""

    @property
    def cycles(self) -> int:
        return sum(timing.cycles for timing in self.timings)

    def share(self, unit: Unit) -> float:
        """Busy cycles of a unit over all cycles."""
        return sum(timing.busy[unit] for timing in self.timings) / self.cycles if self.cycles else 0.0

    def to_json(self, clock_hz: int) -> dict[str, Any]:
        """The values of this launch in a statistics file.

        The causes add up to the cycles. Where it has several streams, those of each stand beside, adding up to the
        stream's own cycles, and the causes of the launch are their mean (`Timing.mean_causes`).
        """
        streams = [
            {
                **asdict(stream),
                "cycles": timing.cycles,
                "causes": timing.causes,
                "instructions": timing.instructions,
            }
            for run in self.timings
            for stream, timing in run.streams
        ]
        return {
            "layer": self.launch.layer,
            "site": self.launch.site,
            "rows": self.rows,
            "cols": self.cols,
            "prompts": self.launch.prompts,
            "rank": self.launch.rank,
            "iterations": self.iterations,
            "steps": list(self.steps),
            "kernel": self.launch.kernel,
            "location": self.launch.location,
            "input": self.source,
            "cycles": self.cycles,
            "seconds": self.cycles / clock_hz,
            "array_busy": self.share(Unit.ARRAY),
            "bank_busy": self.share(Unit.BANK),
            "causes": add_causes(self.timings),
            **({"streams": streams} if streams else {}),
            "instructions": sum(timing.instructions for timing in self.timings),
            "bank_bytes": sum(timing.bank_bytes for timing in self.timings),
            "multiplications": self.uses,
            "relative_error": self.relative_error,
            "optimal_error": self.optimal_error,
        }


@dataclass(frozen=True)
class Simulation:
    """What `Program.simulate` found."""

    machine: Machine
    launches: tuple[LaunchResult, ...]
    """In the order of the model."""
    plan: Plan | None
    """The engine and its threads; None where only time was asked for."""
    seed: int
    """The seed of activations that were made."""

    @property
    def cycles(self) -> int:
        """Cycles of all launches, one after another."""
        return sum(result.cycles for result in self.launches)

    @property
    def seconds(self) -> float:
        """The same at the machine's clock."""
        return self.cycles / self.machine.clock.hz

    def joules(self, technology: Technology) -> Bounds:
        """Energy of all launches."""
        counts = (timing.counts for result in self.launches for timing in result.timings)
        return together(joules for one in counts for joules in energies(one, technology).values())

    def to_json(self) -> dict[str, Any]:
        """All numbers, as `dcomc sim --stats` writes them."""
        return {
            "decompositions": [result.to_json(self.machine.clock.hz) for result in self.launches],
            "total_cycles": self.cycles,
            "clock_hz": self.machine.clock.hz,
            "machine": {"name": self.machine.name, "hash": self.machine.hash},
            "engine": self.plan.engine if self.plan else "timing only",
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Activations:
    """The input of a launch."""

    prompt: Callable[[int], Array]
    """The matrix [S, H] of each prompt; may be called from several threads."""
    source: str
    """Where they came from."""


Inputs = Callable[[Launch, int, int], Activations]
"""Activations for a launch of S rows and H columns."""


def choose_inputs(program: Program, given: Mapping[str, Array] | Array | None, name: str, seed: int) -> Inputs:
    """Activations for each launch: those given, else those stored in the program, else made from a seed.

    Args:
        given: arrays by launch, or one array for every launch whose shape it has.
        name: of the file that they come from.

    Raises:
        DcomError: what is given fits no launch.
    """
    if given is not None:
        _check_given(program, given, name)

    def choose(launch: Launch, rows: int, cols: int) -> Activations:
        shape = (launch.prompts * rows, cols)

        def cut(x: Array) -> Callable[[int], Array]:
            return lambda prompt: x[prompt * rows : (prompt + 1) * rows]

        if isinstance(given, Mapping) and launch.key in given:
            return Activations(cut(given[launch.key]), name)
        if isinstance(given, np.ndarray) and given.reshape(-1, given.shape[-1]).shape == shape:
            return Activations(cut(given.reshape(shape)), name)
        if launch.key in program.activations:
            return Activations(cut(program.activations[launch.key]), "stored in the program")
        site = list(SITES).index(launch.site)
        return Activations(
            lambda prompt: made_from_seed(rows, cols, seed, launch.layer, site, prompt), f"made from seed {seed}"
        )

    return choose


def work_of(program: Program, times: int = 1) -> list[Work]:
    """What a program's launches ask of an engine, when the program runs `times` times."""
    kernels = {kernel.name: kernel for kernel in program.kernels}
    return [
        Work(kernel, sum(run.instructions for run in time_launch(kernel, program.machine, prompts)), prompts, times)
        for kernel, prompts in ((kernels[launch.kernel], launch.prompts) for launch in program.launches)
    ]


def plan_simulation(
    program: Program,
    given: Mapping[str, Array] | Array | None,
    errors: bool,
    *,
    engine: str = "auto",
    threads: int | None = None,
    memory_limit: int | None = None,
) -> Plan:
    """How `Program.simulate` does its work.

    Args:
        given: activations that are in memory beside those stored in the program; None where they are made.
        errors: the factors are compared with the activations.
        engine, threads, memory_limit: as for `plan`.

    Raises:
        DcomError: the limit is too small even for one thread, or the fast engine is asked for and cannot be loaded.
    """
    arrays = given.values() if isinstance(given, Mapping) else () if given is None else (given,)
    held = sum(array.nbytes for array in (*arrays, *program.activations.values()))
    beside = _beside(program, made=given is None, errors=errors)
    return plan(
        engine,
        work_of(program),
        program.machine,
        threads=threads,
        memory_limit=memory_limit,
        held_bytes=held,
        beside=beside,
    )


def _beside(program: Program, made: bool, errors: bool) -> Beside:
    """What making the activations, and comparing the factors with them, takes; measured on a few sizes."""
    sizes = [(kernel.layout.rows, kernel.layout.cols) for kernel in program.kernels]
    elements = max((rows * cols for rows, cols in sizes), default=0)
    seconds = (4e-8 if made else 0.0) + (3e-7 if errors else 0.0)
    return Beside(seconds, max(12 * made, 28 * errors) * elements)


def _check_given(program: Program, given: Mapping[str, Array] | Array, name: str) -> None:
    shapes = {
        launch.key: (launch.prompts * layout.rows, layout.cols)
        for launch in program.launches
        for layout in [program.kernel(launch.kernel).layout]
    }
    wanted = ", ".join(f"{key} {shape[0]} x {shape[1]}" for key, shape in shapes.items()) or "none"
    if isinstance(given, Mapping):
        for key, array in given.items():
            if key in shapes and array.shape != shapes[key]:
                raise DcomError(f"{name}: {key} has shape {array.shape}", hint=f"the program takes {wanted}")
        if not set(given) & set(shapes):
            raise DcomError(f"{name} has no array for a launch of the program", hint=f"the launches are: {wanted}")
    elif given.reshape(-1, given.shape[-1]).shape not in shapes.values():
        raise DcomError(
            f"{name} has shape {given.shape}, which is that of no launch", hint=f"the launches are: {wanted}"
        )


@dataclass(frozen=True)
class _PromptError:
    """The error of one prompt's factors, as sums of squares in float64."""

    steps: int
    timing: Timing
    exits: Exits
    exact: float
    difference: float
    optimal: float


def simulate_launches(
    program: Program,
    inputs: Inputs | None,
    *,
    engine: str = "reference",
    threads: int = 1,
    errors: bool = True,
    max_instructions: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Iterator[LaunchResult]:
    """Run every launch in order, with data, or for its timing alone where `inputs` is None.

    Args:
        engine: `reference` or `fast`.
        threads: that the prompts of a launch are spread over.
        errors: compare the factors with the activations, which for large ones takes longer than to find them.
        max_instructions: that a stream may issue.
        progress: called after each prompt.
    """
    accelerator = Accelerator(program, engine, threads, max_instructions)
    for launch in program.launches:
        kernel = program.kernel(launch.kernel)
        layout = kernel.layout
        given = partial(LaunchResult, launch, layout.rows, layout.cols, layout.iterations)
        if inputs is None:
            timings = time_launch(kernel, program.machine, launch.prompts, limit=max_instructions or ISSUE_LIMIT)
            uses = launch_uses(kernel, program.machine, launch.prompts, timings)
            yield given((), "none: timing only", timings, uses, None, None)
            continue
        activations = inputs(launch, layout.rows, layout.cols)
        measure = partial(_measure, launch.rank if errors else None)
        prompts: list[_PromptError] = []
        for prompt in accelerator.each_prompt(launch, activations.prompt, measure):
            prompts.append(prompt)
            if progress is not None:
                progress()
        exact, difference, optimal = (
            math.sqrt(sum(getattr(prompt, name) for prompt in prompts)) for name in ("exact", "difference", "optimal")
        )
        runs = [(prompt.timing, prompt.exits) for prompt in prompts[:: together_in(kernel, program.machine)]]
        timings = launch_timings(kernel, program.machine, runs, len(prompts))
        yield given(
            tuple(prompt.steps for prompt in prompts),
            activations.source,
            timings,
            launch_uses(kernel, program.machine, launch.prompts, timings),
            (difference / exact if exact else 0.0) if errors else None,
            (optimal / exact if exact else 0.0) if errors else None,
        )


def _measure(rank: int | None, x: Array, result: PromptResult) -> _PromptError:
    """How far the factors of one prompt, truncated to `rank`, are from it; nothing where that is None."""
    steps = result.factors.steps
    if rank is None:
        return _PromptError(steps, result.timing, result.exits, 0.0, 0.0, 0.0)
    exact = x.astype(np.float64)
    u, core, v = truncate(result.factors, rank)
    square = float(np.square(exact).sum())
    least = optimal_error(exact, rank) ** 2 * square
    exact -= u @ (core @ v)
    return _PromptError(steps, result.timing, result.exits, square, float(np.square(exact).sum()), least)
