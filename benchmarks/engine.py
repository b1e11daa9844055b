"""How long the simulation takes, against the same Lanczos in NumPy float32 on the same data, as many threads each.

    python benchmarks/engine.py [--prompts 64 --rows 4096 --cols 4096 --rank 10 --iterations 10 --threads 2]

The default is the paper's largest workload. Each prompt is made from a seed, outside the measured times. It is
decomposed by simulated instructions on the fast engine, cycles counted, and by NumPy, both up to the factors truncated
to the rank. They take turns, some prompts at a time, so that what else the computer does falls on both alike; each
thread works on a prompt of its own, and NumPy's BLAS is kept to that thread: left to itself it starts more, which get
into each other's way. The ratios are medians over the turns. Loading (or, the first time, compiling) the engine's code
stands apart. The last line is one JSON object; its `cpu_ratio` compares processor time, which a busy computer distorts
less. The goal: a ratio of at most 1.5 in wall time, under 4 GB.
"""

import argparse
import resource
import sys
from typing import Any

import numpy as np
from measure import Goal, Stopwatch, finish, median_ratio, start_anew_with

from dcomc.activations import made_from_seed
from dcomc.single_kernel import MACHINE, compile_kernel
from runtime.accelerator import Accelerator, PromptResult, time_kernel
from runtime.engines import in_order
from runtime.lanczos import bidiagonalise, relative_error, truncate
from runtime.machine import load_machine
from runtime.program import Launch, Program

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(program: Program, prompts: list[np.ndarray], threads: int) -> list[tuple[Factors, int]]:
    """Factors and cycles of each prompt, by simulated instructions."""
    (launch,) = program.launches

    def then(_: np.ndarray, result: PromptResult) -> tuple[Factors, int]:
        return truncate(result.factors, launch.rank), result.timing.cycles

    launch = Launch(launch.kernel, launch.layer, launch.site, len(prompts), launch.rank, launch.location)
    return list(Accelerator(program, "fast", threads).each_prompt(launch, prompts.__getitem__, then))


def by_numpy(rank: int, iterations: int, prompts: list[np.ndarray], threads: int) -> list[Factors]:
    """Factors of each prompt, in float32."""
    return list(
        in_order(lambda index: truncate(bidiagonalise(prompts[index], iterations), rank), len(prompts), threads)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompts", 64), ("rows", 4096), ("cols", 4096), ("rank", 10), ("iterations", 10)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: %(default)s)")
    args = parser.parse_args()
    start_anew_with(dict.fromkeys(BLAS_THREADS, "1"))
    kernel = compile_kernel(args.rows, args.cols, args.iterations)
    machine = load_machine(MACHINE)
    program = Program(machine, (kernel,), (Launch(kernel.name, 0, "qkv", 1, args.rank, ""),), "")

    timing, start, simulation, numpy = (Stopwatch() for _ in range(4))
    with timing:
        time_kernel(kernel, machine)
    with start:
        simulate(program, [np.zeros((args.rows, args.cols), np.float32)], 1)

    cycles, errors = 0, (0.0, 0.0)
    turn = 4 * args.threads
    for first in range(0, args.prompts, turn):
        numbers = range(first, min(first + turn, args.prompts))
        prompts = [made_from_seed(args.rows, args.cols, 0, number) for number in numbers]
        with simulation:
            simulated = simulate(program, prompts, args.threads)
        with numpy:
            computed = by_numpy(args.rank, args.iterations, prompts, args.threads)
        cycles += sum(count for _, count in simulated)
        if not first:
            errors = relative_error(prompts[0], *simulated[0][0]), relative_error(prompts[0], *computed[0])
        print(
            f"{numbers.stop} of {args.prompts} prompts: simulation {sum(simulation.wall):.2f} s, "
            f"NumPy {sum(numpy.wall):.2f} s",
            file=sys.stderr,
        )
    result: dict[str, Any] = {
        "workload": f"{args.prompts} x {args.rows} x {args.cols}, rank {args.rank}, {args.iterations} iterations",
        "threads": args.threads,
        "simulation_seconds": round(sum(simulation.wall), 3),
        "numpy_seconds": round(sum(numpy.wall), 3),
        "ratio": round(median_ratio(simulation.wall, numpy.wall), 3),
        "cpu_ratio": round(median_ratio(simulation.cpu, numpy.cpu), 3),
        "start_seconds": round(start.wall[0], 3),
        "timing_only_seconds": round(timing.wall[0], 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "cycles": cycles,
        "relative_error": round(errors[0], 5),
        "numpy_relative_error": round(errors[1], 5),
    }
    print(f"simulation over NumPy, {result['workload']}, {args.threads} threads: {result['ratio']}, ", end="")
    print(f"{result['cpu_ratio']} in processor time")
    finish(
        "engine",
        result,
        [
            Goal("simulation over NumPy, wall time", result["ratio"], 1.5),
            Goal("most memory, GB", result["peak_memory_gb"], 4),
            Goal("timing alone, seconds", result["timing_only_seconds"], 1),
        ],
    )


if __name__ == "__main__":
    main()
