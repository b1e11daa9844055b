"""Figure 4: the latency of one layer of Llama-2-7B against the length of prompts."""

from dcomc.diagnostics import DcomError
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
        slower = [length for length, run in runs.items() if run.gpu.seconds > run.dense.seconds]
        faster = [length for length, run in runs.items() if run.dcom.seconds < run.dense.seconds]
        for what, lengths in (
            ("a layer decomposed on a GPU is slower than the dense one", slower),
            ("a layer with D-com is faster than the dense one", faster),
        ):
            why = f"at {len(lengths)} of {len(LENGTHS)} lengths: {', '.join(map(str, lengths)) or 'none'}{missing}"
            holds = len(lengths) == len(LENGTHS)
            claims.append(Claim(f"{what} ({reading})", None, len(lengths), holds=holds, why=why))
        curves = [
            Curve(
                name,
                list(runs),
                [run.seconds for run in variant],
                [run.fastest for run in variant],
                [run.slowest for run in variant],
            )
            for name, variant in (
                (f"dense, {bench.gpus} GPUs", [runs[length].dense for length in runs]),
                ("decomposed on one GPU", [runs[length].gpu for length in runs]),
                ("decomposed with D-com", [runs[length].dcom for length in runs]),
            )
        ]
        plots.append(Plot(f"A layer of Llama-2-7B, 64 prompts, {reading}", "tokens a prompt", "seconds", curves))
    setting = (
        "64 prompts, rank 10 and 10 iterations; the dense products on four GPUs, decomposition on one GPU or on one "
        "D-com; 3% of the channels exact. The paper's curves were not available, only its text."
    )
    return Result("figure4", claims, setting, plots, bench.configuration)


def _runs(bench: Workbench, reading: str) -> tuple[dict[int, LayerRuns], str]:
    """The runs of each length that the machine has room for, and why not of the others."""
    runs: dict[int, LayerRuns] = {}
    missing = ""
    for length in LENGTHS:
        try:
            runs[length] = layer_runs(bench, length, reading)
        except DcomError as error:
            missing += f"; none at {length}: {error.what}"
    return runs, missing
