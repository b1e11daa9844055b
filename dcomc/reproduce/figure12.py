"""Figure 12: decomposition against the expansion factor, by simulation of the schedule that it belongs to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from dcomc.expansion import SCHEDULES, Point, Workload, measure, sweep, sweep_kernels, time_point
from dcomc.reproduce.choices import claim_of, named
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims
from dcomc.reproduce.workbench import Workbench
from runtime.machine import Machine

_SUMS = ("replicas", "all-gather")
_PAPER = ("banks", "replicas")
"""Vectors in the banks, and replicated multiplications: the schedule of the paper."""
Sweep = Mapping[int, Point]


def reproduce(bench: Workbench) -> Result:
    """The best factor, what it gains, and what bounds small and large factors, with the sweep of each schedule."""
    paper, workload = paper_claims()["claims"], paper_claims()["workloads"]["figure12"]
    work = Workload(workload["seq"], workload["hidden"], workload["rank"])
    sweeps: dict[tuple[str, str], Sweep] = {}
    for sums in _SUMS:
        for vectors in SCHEDULES:
            bench.say(f"figure 12: vectors in the {vectors}, {sums}")
            sweeps[vectors, sums] = dict(sweep(work, vectors, bench.machine_name, sums))
    classical = measure(work, "classical", bench.machine_name)
    ours = sweeps[_PAPER]
    by_latency = _by_latency(work, bench)
    best = {_choice(name): _best(points) for name, points in sweeps.items()}
    best |= {name: _best(points) for name, points in by_latency.items()}
    gains = {_choice(name): _gain(points, "whole") for name, points in sweeps.items()}
    gains |= {name: _gain(points, "whole") for name, points in by_latency.items()}
    gains |= {
        named("reorthogonalisation alone", name): _gain(points, "alone")
        for name, points in {"": ours, **by_latency}.items()
    }
    steps = ", ".join(f"{ours[factor].alone / work.steps:.0f} at f = {factor}" for factor in (1, 4, 8, 16))
    claims = [
        claim_of(
            "best expansion factor",
            paper["optimal_expansion_factor"],
            0.0,
            best,
            f"a step of reorthogonalisation in the paper's schedule takes, in cycles, {steps}: replicated "
            "multiplications and their traffic cost more than shorter reductions save",
        ),
        claim_of(
            "speed of computation expansion: f = 1 over the best factor",
            paper["expansion_speedup"],
            0.25,
            gains,
            f"expansion shortens reorthogonalisation alone, {ours[1].alone / ours[1].whole:.0%} of the whole at f = 1 "
            f"(2k reads of A are most of the rest), and {ours[1].share('bank'):.0%} of a step waits for the banks, "
            "whose latency no factor changes; reorthogonalisation by classical Gram-Schmidt in the buffers is "
            f"{ours[1].alone / classical.alone:.0f} times as fast",
        ),
        _bounds(paper["optimal_expansion_factor"], ours, by_latency),
    ]
    plots = [
        Plot(f"{what}, cycles of {workload['batch']} prompts", "expansion factor f", "cycles", curves)
        for what, curves in (
            ("Decomposition", [_curve(name, points, workload["batch"], "whole") for name, points in sweeps.items()]),
            (
                "Reorthogonalisation alone",
                [_curve(name, points, workload["batch"], "alone") for name, points in sweeps.items()],
            ),
        )
    ]
    setting = (
        f"{workload['batch']} prompts of {work.rows} x {work.cols}, {work.iterations} iterations, modified "
        f"Gram-Schmidt in {work.passes} passes, one prompt after another on {bench.machine_name}; factors as the pass "
        "cluster-expand-reductions defines them. Latencies of links and memories are assumed: the ranges are over "
        "others and over other schedules."
    )
    return Result("figure12", claims, setting, plots, bench.configuration(workload=workload))


def _by_latency(work: Workload, bench: Workbench) -> Mapping[str, Sweep]:
    """The paper's schedule with other latencies than the machine's, which are all assumed."""
    vectors, sums = _PAPER
    machine, kernels = bench.machine, dict(sweep_kernels(work, vectors, bench.machine_name, sums))

    def latencies(banks: float, others: float) -> Machine:
        """With those of banks, and of links and global memory, times these; at least a cycle."""
        memory, bank, links = machine.global_memory, machine.bank, machine.links
        return replace(
            machine,
            bank=replace(bank, latency_cycles=_cycles(banks * bank.latency_cycles)),
            global_memory=replace(
                memory,
                write_latency_cycles=_cycles(others * memory.write_latency_cycles),
                read_latency_cycles=_cycles(others * memory.read_latency_cycles),
            ),
            links=replace(links, hop_cycles=_cycles(others * links.hop_cycles)),
        )

    return {
        name: {factor: time_point(kernel, other) for factor, kernel in kernels.items()}
        for name, other in (
            ("all latencies halved", latencies(0.5, 0.5)),
            ("all latencies doubled", latencies(2, 2)),
            ("banks of a twelfth of the latency, as SRAM", latencies(1 / 12, 1)),
            ("links and global memory of four times the latency", latencies(1, 4)),
            ("banks as SRAM, links and global memory of four times the latency", latencies(1 / 12, 4)),
        )
    }


def _cycles(count: float) -> int:
    return max(1, round(count))


def _best(points: Sweep) -> int:
    """The factor that is the fastest, the least of such."""
    return min(points, key=lambda factor: points[factor].whole)


def _gain(points: Sweep, what: Literal["whole", "alone"]) -> float:
    """The time without expansion over the least."""
    cycles = [getattr(point, what) for point in points.values()]
    return getattr(points[1], what) / min(cycles)


def _choice(schedule: tuple[str, str]) -> str:
    """The name of a schedule; empty for the paper's."""
    return "" if schedule == _PAPER else _name(schedule)


def _bounds(paper: float, ours: Sweep, by_latency: Mapping[str, Sweep]) -> Claim:
    """The claim on the factor from which computation bounds a step, and not memory."""
    crossings = {name: _crossing(points) for name, points in {"": ours, **by_latency}.items()}
    first, last = ours[1], ours[max(ours)]
    return Claim(
        "the factor from which on computation bounds a step, and memory below (section 6.4)",
        paper,
        crossings[""],
        choices={name: factor for name, factor in crossings.items() if name and factor is not None},
        why=f"a step at f = 1 waits {first.share('bank'):.0%} for banks and {first.share('array'):.0%} for the array, "
        f"at f = {max(ours)} {last.share('bank'):.0%} and {last.share('array'):.0%}",
    )


def _crossing(points: Sweep) -> int | None:
    """The least factor from which on the array is waited for longer than the banks; None where it never is."""
    memory = [factor for factor, point in points.items() if point.share("array") <= point.share("bank")]
    return min((factor for factor in points if factor > max(memory, default=0)), default=None)


def _curve(name: tuple[str, str], points: Sweep, prompts: int, what: str) -> Curve:
    return Curve(_name(name), list(points), [prompts * getattr(point, what) for point in points.values()])


def _name(schedule: tuple[str, str]) -> str:
    vectors, sums = schedule
    return f"vectors in the {vectors}, {sums}"
