"""Figure 4: the latency of one layer of Llama-2-7B against the length of prompts."""

from collections.abc import Mapping, Sequence

from dcomc.diagnostics import DcomError
from dcomc.reproduce.choices import HOSTS, OURS, UNBATCHED, HostChoice
from dcomc.reproduce.claims import Claim, Curve, Plot, Result
from dcomc.reproduce.layer_runs import READINGS, LayerRuns, layer_runs
from dcomc.reproduce.workbench import Workbench

LENGTHS = (128, 512, 2048, 4096, 8192, 16384)


def reproduce(bench: Workbench) -> Result:
    """The three curves, and whether they lie as the figure's text says."""
    claims: list[Claim] = []
    plots: list[Plot] = []
    for reading in READINGS:
        runs, missing = _runs(bench, reading)
        claims += [
            _lengths(f"a layer decomposed on a GPU is slower than the dense one ({reading})", _slower(runs), missing),
            _lengths(f"a layer with D-com is faster than the dense one ({reading})", _faster(runs), missing),
        ]
        ours = {length: of[OURS] for length, of in runs.items()}
        curves = [
            Curve(
                name,
                list(ours),
                [run.seconds for run in variant],
                [run.fastest for run in variant],
                [run.slowest for run in variant],
            )
            for name, variant in (
                (f"dense, {bench.gpus} GPUs", [run.dense for run in ours.values()]),
                ("decomposed on one GPU", [run.gpu for run in ours.values()]),
                ("decomposed with D-com", [run.dcom for run in ours.values()]),
            )
        ]
        plots.append(Plot(f"A layer of Llama-2-7B, 64 prompts, {reading}", "tokens a prompt", "seconds", curves))
    setting = (
        "64 prompts, rank 10 and 10 iterations; the dense products on four GPUs that share every layer, decomposition "
        "on one GPU, prompts one after another, or on one D-com; 3% of the channels exact. The paper's curves were not "
        "available, only its text."
    )
    return Result("figure4", claims, setting, plots, bench.configuration)


Runs = Mapping[int, Mapping[HostChoice, LayerRuns]]


def _slower(runs: Runs) -> Mapping[HostChoice, Sequence[int]]:
    """The lengths at which the layer decomposed on a GPU is slower than the dense one."""
    return {c: [n for n, of in runs.items() if of[c].gpu.seconds > of[c].dense.seconds] for c in HOSTS}


def _faster(runs: Runs) -> Mapping[HostChoice, Sequence[int]]:
    """The lengths at which the layer with D-com is faster than the dense one."""
    return {c: [n for n, of in runs.items() if of[c].dcom.seconds < of[c].dense.seconds] for c in UNBATCHED}


def _lengths(what: str, found: Mapping[HostChoice, Sequence[int]], missing: str) -> Claim:
    """The claim that something holds at all lengths; by the other choices, at how many."""
    here = found[OURS]
    why = f"at {len(here)} of {len(LENGTHS)} lengths: {', '.join(map(str, here)) or 'none'}{missing}"
    others = {choice.name: float(len(lengths)) for choice, lengths in found.items() if choice != OURS}
    for choice, lengths in found.items():
        if choice != OURS and len(lengths) < len(LENGTHS):
            why += f"; {choice.name}: {', '.join(map(str, lengths)) or 'none'}"
    return Claim(what, None, len(here), choices=others, holds=len(here) == len(LENGTHS), why=why)


def _runs(bench: Workbench, reading: str) -> tuple[Runs, str]:
    """The runs of each length that the machine has room for, and why not of the others."""
    runs: dict[int, Mapping[HostChoice, LayerRuns]] = {}
    missing = ""
    for length in LENGTHS:
        try:
            runs[length] = {choice: layer_runs(bench, length, reading, choice) for choice in HOSTS}
        except DcomError as error:
            missing += f"; none at {length}: {error.what}"
    return runs, missing
