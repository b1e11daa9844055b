"""One layer of Llama-2-7B: dense, decomposed on a GPU, and with D-com, by the length of prompts and by reading."""

from dataclasses import dataclass
from functools import cache

from dcomc.estimate import Run
from dcomc.reproduce.workbench import ONE_BASIS, Workbench

BATCH = 64
READINGS = {"one basis a layer": ONE_BASIS, "four a layer": ()}
"""How many decompositions a decomposed layer has: the sites that reuse the basis of the first. The paper's 3.1 says
once a layer, and its 6.2 that inputs stay decomposed for all products of a layer."""


@dataclass(frozen=True)
class LayerRuns:
    """A layer three times."""

    dense: Run
    gpu: Run
    dcom: Run
    gpu_decomposition: float
    """Seconds of decomposition on one GPU."""
    dcom_decomposition: float
    """Seconds of decomposition on the D-com."""


@cache
def layer_runs(bench: Workbench, seq_len: int, reading: str, rank: int = 10, iterations: int = 10) -> LayerRuns:
    """The runs of a layer with 64 prompts of a length."""
    bench.say(f"a layer at {seq_len} tokens, {reading}")
    options = {"rank": rank, "iterations": iterations, "reuse": READINGS[reading]}
    by_site = bench.decomposition_seconds(seq_len, **options)
    steps = bench.steps(seq_len, 1, [0], inside=True, **options)
    dense = bench.run(bench.steps(seq_len, inside=True), "dense", BATCH)
    gpu, dcom = bench.run(steps, "gpu", BATCH), bench.run(steps, "dcom", BATCH, by_site)
    return LayerRuns(
        dense,
        gpu,
        dcom,
        sum(event.end - event.start for event in gpu.events if event.name == "decompose"),
        dcom.busy("D-com"),
    )
