"""Simulating all decompositions of a program: what each takes, and how good its factors are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcomc.activations import made_from_seed
from dcomc.diagnostics import DcomError
from dialects.dcom import SITES
from runtime.accelerator import Accelerator, time_kernel
from runtime.instructions import Unit
from runtime.lanczos import optimal_error
from runtime.program import Launch, Program
from runtime.timing import Timing

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
    """Of each prompt, one after another."""
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
        """The values of this launch in a statistics file."""
        causes: dict[str, int] = {}
        for timing in self.timings:
            for cause, cycles in timing.causes.items():
                causes[cause] = causes.get(cause, 0) + cycles
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
            "causes": causes,
            "instructions": sum(timing.instructions for timing in self.timings),
            "bank_bytes": sum(timing.bank_bytes for timing in self.timings),
            "relative_error": self.relative_error,
            "optimal_error": self.optimal_error,
        }


Inputs = Callable[[Launch, int, int], tuple[Array, str]]
"""Activations [prompts * S, H] for a launch of S rows and H columns, and where they came from."""


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

    def choose(launch: Launch, rows: int, cols: int) -> tuple[Array, str]:
        shape = (launch.prompts * rows, cols)
        if isinstance(given, Mapping) and launch.key in given:
            return given[launch.key], name
        if isinstance(given, np.ndarray) and given.reshape(-1, given.shape[-1]).shape == shape:
            return given.reshape(shape), name
        if launch.key in program.activations:
            return program.activations[launch.key], "stored in the program"
        site = list(SITES).index(launch.site)
        prompts = [made_from_seed(rows, cols, seed, launch.layer, site, prompt) for prompt in range(launch.prompts)]
        return np.concatenate(prompts), f"made from seed {seed}"

    return choose


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


def simulate(program: Program, inputs: Inputs | None) -> Iterator[LaunchResult]:
    """Run every launch in order, with data, or for its timing alone where `inputs` is None."""
    accelerator = Accelerator(program)
    for launch in program.launches:
        kernel = program.kernel(launch.kernel)
        layout = kernel.layout
        if inputs is None:
            timings = (time_kernel(kernel, program.machine),) * launch.prompts
            yield LaunchResult(
                launch, layout.rows, layout.cols, layout.iterations, (), "none: timing only", timings, None, None
            )
            continue
        x, source = inputs(launch, layout.rows, layout.cols)
        factors, results = accelerator.decompose(launch, x)
        exact = x.astype(np.float64)
        norm = float(np.linalg.norm(exact))
        difference = float(np.linalg.norm(exact - factors.reconstruct())) if norm else 0.0
        optimal = [
            optimal_error(prompt, launch.rank) * float(np.linalg.norm(prompt))
            for prompt in np.split(exact, launch.prompts)
        ]
        yield LaunchResult(
            launch,
            layout.rows,
            layout.cols,
            layout.iterations,
            tuple(len(result.factors.alpha) for result in results),
            source,
            tuple(result.timing for result in results),
            difference / norm if norm else 0.0,
            float(np.linalg.norm(optimal)) / norm if norm else 0.0,
        )
