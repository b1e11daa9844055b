"""Figure 11 and the speeds of the text: a layer, and the model in the paper's best configuration."""

from collections.abc import Sequence
from typing import Any

from dcomc.diagnostics import DcomError
from dcomc.estimate import Run
from dcomc.reproduce.choices import HOSTS, OURS, UNBATCHED, claim_of, compare_runs
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims
from dcomc.reproduce.layer_runs import (
    BATCH,
    READINGS,
    LayerRuns,
    dcom_decomposition_seconds,
    gpu_decomposition_seconds,
    layer_runs,
    make_layer,
)
from dcomc.reproduce.workbench import Workbench

BEST_LAYERS = (9, 10, 13, 14, 17, 18, 21, 22, 26, 27)
BEST_RANK = 20
_LENGTH = 4096
_LAYERS = 32
_TOLERANCE = 0.25


def reproduce(bench: Workbench) -> Result:
    """The claims on one layer and on the whole model, in both readings of a decomposed layer."""
    claims: list[Claim] = []
    plots: list[Plot] = []
    for reading in READINGS:
        claims += _layer_claims(bench, reading)
        plots.append(_bars(f"A layer, {reading}", _runs(layer_runs(bench, _LENGTH, reading))))
    for reading in READINGS:
        of_model, runs = _model_claims(bench, reading)
        claims += of_model
        plots.append(_bars(f"The model, {reading}", runs))
    setting = (
        f"{BATCH} prompts of {_LENGTH} tokens; a layer at rank 10 with 10 iterations; the model with layers "
        f"{', '.join(map(str, BEST_LAYERS))} at rank {BEST_RANK} with as many iterations; 3% of the channels exact. "
        "The paper does not state, and the range has, whether four GPUs share every layer (ours) or hold layers in "
        "turn, and whether a GPU decomposes prompts one after another (ours) or batched."
    )
    return Result("figure11", claims, setting, plots, bench.configuration)


def _layer_claims(bench: Workbench, reading: str) -> list[Claim]:
    paper, layer = paper_claims()["claims"], make_layer(bench, _LENGTH, reading)
    runs = {choice: layer_runs(bench, _LENGTH, reading, choice) for choice in HOSTS}
    on_gpu = gpu_decomposition_seconds(bench, layer.decomposed)
    on_dcom = dcom_decomposition_seconds(bench, layer.decomposed)
    return [
        compare_runs(
            f"a dense layer over one with D-com ({reading})",
            paper["layer_speedup_vs_original"],
            _TOLERANCE,
            {choice: (runs[choice].dense, runs[choice].dcom) for choice in UNBATCHED},
        ),
        compare_runs(
            f"a layer decomposed on a GPU over one with D-com ({reading})",
            paper["layer_speedup_vs_decomposed_on_gpu"],
            _TOLERANCE,
            {choice: (of.gpu, of.dcom) for choice, of in runs.items()},
        ),
        compare_runs(
            f"a layer decomposed on a GPU over a dense one ({reading})",
            paper["naive_gpu_decomposed_layer_slowdown"],
            _TOLERANCE,
            {choice: (of.gpu, of.dense) for choice, of in runs.items()},
        ),
        claim_of(
            f"decomposition on a GPU over that on D-com ({reading})",
            paper["decomposition_speedup_vs_gpu"],
            _TOLERANCE,
            {name: seconds / on_dcom for name, seconds in on_gpu.items()},
        ),
    ]


def _model_claims(bench: Workbench, reading: str) -> tuple[list[Claim], list[Run]]:
    """Claims on the model decomposed on a GPU, and with D-com, against the dense one; and the three runs."""
    bench.say(f"the model, {reading}")
    paper = paper_claims()["claims"]
    options: dict[str, Any] = {"rank": BEST_RANK, "iterations": BEST_RANK, "reuse": READINGS[reading]}
    whole, steps = bench.steps(_LENGTH, _LAYERS), bench.steps(_LENGTH, _LAYERS, BEST_LAYERS, **options)
    dense = {choice: bench.run(whole, "dense", BATCH, choice) for choice in UNBATCHED}
    gpu = {choice: bench.run(steps, "gpu", BATCH, choice) for choice in HOSTS}
    what, value = (
        f"the model with D-com takes less time, in percent ({reading})",
        paper["end_to_end_improvement_percent"],
    )
    runs = [dense[OURS], gpu[OURS]]
    try:
        dcom = {choice: bench.run(steps, "dcom", BATCH, choice) for choice in UNBATCHED}
    except DcomError as error:  # the machine may have no room for so many steps
        less = Claim(what, value, None, why=error.what)
    else:
        pairs = {choice: (run, dense[choice]) for choice, run in dcom.items()}
        less = compare_runs(what, value, _TOLERANCE, pairs, lambda ratio: 100 * (1 - ratio))
        runs.append(dcom[OURS])
    more = compare_runs(
        f"the model decomposed on a GPU takes more time, in percent ({reading})",
        paper["naive_gpu_end_to_end_slowdown_percent"],
        _TOLERANCE,
        {choice: (run, dense[UNBATCHED[choice.in_turn]]) for choice, run in gpu.items()},
        lambda ratio: 100 * (ratio - 1),
        "the paper's layers, rank and batch for this number are not stated",
    )
    return [less, more], runs


def _runs(runs: LayerRuns) -> tuple[Run, Run, Run]:
    return runs.dense, runs.gpu, runs.dcom


def _bars(title: str, runs: Sequence[Run]) -> Plot:
    names = ("dense", "decomposed on a GPU", "decomposed with D-com")[: len(runs)]
    return Plot(title, "", "seconds", [Curve("", range(len(runs)), [run.seconds for run in runs])], names)
