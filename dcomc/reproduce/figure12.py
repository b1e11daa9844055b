"""Figure 12: decomposition against the expansion factor, by simulation of the schedule that it belongs to."""

from collections.abc import Mapping

from dcomc.expansion import SCHEDULES, Point, Workload, measure, sweep
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims
from dcomc.reproduce.workbench import Workbench

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
    best = {name: min(points, key=lambda factor: points[factor].whole) for name, points in sweeps.items()}
    gains = {name: points[1].whole / points[best[name]].whole for name, points in sweeps.items()}
    steps = ", ".join(f"f = {factor} {ours[factor].alone / work.steps:.0f}" for factor in (1, 4, 8, 16))
    claims = [
        Claim(
            "best expansion factor",
            paper["optimal_expansion_factor"],
            best[_PAPER],
            low=min(best.values()),
            high=max(best.values()),
            why=f"cycles of a step in the paper's schedule: {steps}; the best of other schedules, the range: "
            + ", ".join(f"{factor} ({_name(name)})" for name, factor in best.items() if name != _PAPER),
        ),
        Claim(
            "speed of computation expansion: f = 1 over the best factor",
            paper["expansion_speedup"],
            gains[_PAPER],
            0.25,
            low=min(gains.values()),
            high=max(gains.values()),
            why=f"all but reorthogonalisation, 2k reads of A before all, takes {1 - ours[1].alone / ours[1].whole:.0%} "
            f"of the whole at f = 1, and {ours[1].share('bank'):.0%} of a step is for the banks, whose latency no "
            "factor changes; reorthogonalisation by classical Gram-Schmidt in the buffers takes "
            f"{ours[1].alone / classical.alone:.0f} times less time",
        ),
        _bounds(ours),
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
        "cluster-expand-reductions defines them. Latencies of links and memories are assumed, and none is fitted."
    )
    return Result("figure12", claims, setting, plots, {**bench.configuration, "workload": workload})


def _bounds(points: Sweep) -> Claim:
    """Memory bounds small factors and computation large ones, if so."""
    changed = [factor for factor, point in points.items() if point.share("array") > point.share("bank")]
    first, last = points[1], points[max(points)]
    return Claim(
        "small factors are bound by memory, large ones by computation (section 6.4)",
        None,
        min(changed, default=None),
        holds=bool(changed) and changed[0] > 1 and changed[-1] == max(points),
        why=f"a step at f = 1 waits {first.share('bank'):.0%} for banks and {first.share('array'):.0%} for the array, "
        f"at f = {max(points)} {last.share('bank'):.0%} and {last.share('array'):.0%}; the array is first waited for "
        "the longer at the factor given, which is 8 in the paper",
    )


def _curve(name: tuple[str, str], points: Sweep, prompts: int, what: str) -> Curve:
    return Curve(_name(name), list(points), [prompts * getattr(point, what) for point in points.values()])


def _name(schedule: tuple[str, str]) -> str:
    vectors, sums = schedule
    return f"vectors in the {vectors}, {sums}"
