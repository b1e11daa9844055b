"""Figure 11 and the speeds of the text: a layer, and the model in the paper's best configuration."""

from collections.abc import Sequence
from typing import Any

from dcomc.diagnostics import DcomError
from dcomc.estimate import Run
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims
from dcomc.reproduce.layer_runs import BATCH, READINGS, LayerRuns, layer_runs
from dcomc.reproduce.workbench import Workbench

BEST_LAYERS = (9, 10, 13, 14, 17, 18, 21, 22, 26, 27)
BEST_RANK = 20
_LENGTH = 4096
_LAYERS = 32


def reproduce(bench: Workbench) -> Result:
    """The claims on one layer and on the whole model, in both readings of a decomposed layer."""
    claims = [claim for reading in READINGS for claim in _layer_claims(layer_runs(bench, _LENGTH, reading), reading)]
    plots = [_bars(f"A layer, {reading}", _runs(layer_runs(bench, _LENGTH, reading))) for reading in READINGS]
    dense = bench.run(bench.steps(_LENGTH, _LAYERS), "dense", BATCH)
    for reading, reuse in READINGS.items():
        bench.say(f"the model, {reading}")
        options: dict[str, Any] = {"rank": BEST_RANK, "reuse": reuse}
        steps = bench.steps(_LENGTH, _LAYERS, BEST_LAYERS, **options)
        runs = [dense, bench.run(steps, "gpu", BATCH)]
        missing = ""
        try:
            runs.append(bench.run(steps, "dcom", BATCH, bench.decomposition_seconds(_LENGTH, **options)))
        except DcomError as error:  # the machine may have no room for so many steps
            missing = error.what
        claims += _model_claims(runs, missing, reading)
        plots.append(_bars(f"The model, {reading}", runs))
    setting = (
        f"{BATCH} prompts of {_LENGTH} tokens; a layer at rank 10 with 10 iterations; the model with layers "
        f"{', '.join(map(str, BEST_LAYERS))} at rank {BEST_RANK}; 3% of the channels exact. The paper's own batch "
        "and length of prompts for figure 11 are not stated."
    )
    return Result("figure11", claims, setting, plots, bench.configuration)


def _layer_claims(runs: LayerRuns, reading: str) -> list[Claim]:
    paper = paper_claims()["claims"]
    return [
        _ratio(
            f"a dense layer over one with D-com ({reading})", paper["layer_speedup_vs_original"], runs.dense, runs.dcom
        ),
        _ratio(
            f"a layer decomposed on a GPU over one with D-com ({reading})",
            paper["layer_speedup_vs_decomposed_on_gpu"],
            runs.gpu,
            runs.dcom,
        ),
        _ratio(
            f"a layer decomposed on a GPU over a dense one ({reading})",
            paper["naive_gpu_decomposed_layer_slowdown"],
            runs.gpu,
            runs.dense,
        ),
        Claim(
            f"decomposition on a GPU over that on D-com ({reading})",
            paper["decomposition_speedup_vs_gpu"],
            runs.gpu_decomposition / runs.dcom_decomposition,
            0.25,
            why="prompts one after another on both",
        ),
    ]


def _model_claims(runs: Sequence[Run], missing: str, reading: str) -> list[Claim]:
    """Of the dense model, decomposed on a GPU, and with D-com, or what that lacks."""
    paper, dense = paper_claims()["claims"], runs[0]

    def percent(what: str, value: float, run: Run, sign: int, why: str = "") -> Claim:
        """A change against the dense model; its range: with every assumption for both at one end or the other."""
        middle, fast, slow = (
            sign * 100 * (ours / other - 1)
            for ours, other in (
                (run.seconds, dense.seconds),
                (run.fastest, dense.fastest),
                (run.slowest, dense.slowest),
            )
        )
        return Claim(f"{what} ({reading})", value, middle, 0.25, min(fast, slow), max(fast, slow), why=why)

    less = "the model with D-com takes less time, in percent"
    better = paper["end_to_end_improvement_percent"]
    more = "the model decomposed on a GPU takes more time, in percent"
    unstated = "the paper's layers, rank and batch for this number are not stated"
    return [
        Claim(f"{less} ({reading})", better, None, why=missing) if missing else percent(less, better, runs[2], -1),
        percent(more, paper["naive_gpu_end_to_end_slowdown_percent"], runs[1], 1, unstated),
    ]


def _ratio(what: str, paper: float, slow: Run, fast: Run) -> Claim:
    """A speed of one run over another; its range: with every assumption for both at one end or the other."""
    ratios = (slow.fastest / fast.fastest, slow.seconds / fast.seconds, slow.slowest / fast.slowest)
    return Claim(what, paper, ratios[1], 0.25, min(ratios), max(ratios))


def _runs(runs: LayerRuns) -> tuple[Run, Run, Run]:
    return runs.dense, runs.gpu, runs.dcom


def _bars(title: str, runs: Sequence[Run]) -> Plot:
    names = ("dense", "decomposed on a GPU", "decomposed with D-com")[: len(runs)]
    return Plot(title, "", "seconds", [Curve("", range(len(runs)), [run.seconds for run in runs])], names)
