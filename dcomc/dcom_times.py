"""What a D-com takes for decompositions, of any number of prompts together.

A kernel is mapped for the matrices that there are: short prompts, and blocks of tokens, stand side by side in groups of
clusters where there are enough of them. So a kernel is lowered anew for each number of matrices that is asked for, and
timed, as it would be in the same model compiled for so many prompts.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from dcomc.gpu_model import LanczosWork
from dcomc.program import Program
from dcomc.single_kernel import compile_kernel
from runtime.accelerator import launch_cycles
from runtime.machine import Machine, machine_file
from runtime.program import Launch

DcomSeconds = Callable[[LanczosWork, int | None, str], float]
"""Seconds of a D-com for a work of a layer and site, all its matrices."""


def dcom_cycles(work: LanczosWork, machine: Machine, mapping: str = "auto", streams: str = "auto") -> int:
    """Cycles of a launch for all matrices of a work, none of which breaks down.

    Neither the rank, to which the host truncates, nor where Lanczos starts matters.

    Args:
        mapping, streams: of `cluster-map`.

    Raises:
        DcomError: the machine has no room for a matrix.
    """
    return _lowered_cycles(replace(work, rank=work.iterations), machine, mapping, streams)


@cache
def _lowered_cycles(work: LanczosWork, machine: Machine, mapping: str, streams: str) -> int:
    with machine_file(machine) as file:
        kernel = compile_kernel(
            work.rows,
            work.cols,
            work.iterations,
            passes=work.passes,
            mapping=mapping,
            matrices=work.matrices,
            machine=file,
            gram_schmidt=work.gram_schmidt,
            streams=streams,
        )
    return launch_cycles(kernel, machine, work.matrices)


def dcom_seconds(work: LanczosWork, machine: Machine, *, alone: bool = False) -> float:
    """Seconds of a machine for a work, mapped as is expected to take the least.

    Args:
        alone: each matrix has the machine to itself, one after another.
    """
    times, together = (work.matrices, replace(work, matrices=1)) if alone else (1, work)
    return times * dcom_cycles(together, machine) / machine.clock.hz


def program_seconds(program: Program) -> DcomSeconds:
    """Seconds of a program's own machine: its kernels, or what they would be for another number of prompts."""
    launches: dict[tuple[int | None, str], Launch] = {(each.layer, each.site): each for each in program.launches}

    @cache
    def cycles(kernel: str, own: int, work: LanczosWork) -> int:
        if work.matrices == own:
            return launch_cycles(program.kernel(kernel), program.machine, own)
        return dcom_cycles(work, program.machine, *_placing(program.options, kernel))

    def seconds(work: LanczosWork, layer: int | None, site: str) -> float:
        launch = launches[layer, site]
        return cycles(launch.kernel, launch.prompts, work) / program.machine.clock.hz

    return seconds


def _placing(options: Mapping[str, Any], kernel: str) -> tuple[str, str]:
    """What a kernel's mapping and streams were asked to be, by the options of its program."""
    given = options.get("kernels", {}).get(kernel, options)
    return given.get("mapping", "auto"), given.get("streams", "1x1")
