"""One layer of Llama-2-7B: dense, decomposed on a GPU, and with D-com, by the length of prompts and by reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from dcomc.dcom_times import dcom_seconds
from dcomc.estimate import SPEEDS, Run
from dcomc.gpu_lanczos import lanczos_seconds
from dcomc.gpu_model import Host, LanczosWork
from dcomc.host_kernels import Step
from dcomc.reproduce.choices import OURS, HostChoice, named, speed_name
from dcomc.reproduce.workbench import ONE_BASIS, Workbench

BATCH = 64
READINGS = {"one basis a layer": ONE_BASIS, "four a layer": ()}
"""How many decompositions a decomposed layer has: the sites that reuse the basis of the first. The paper's 3.1 says
once a layer, and its 6.2 that inputs stay decomposed for all products of a layer."""
RANK = ITERATIONS = 10
"""Those of the paper's figures 4 and 12, one of which names the iterations and the other the rank."""


@dataclass(frozen=True)
class LayerRuns:
    """A layer three times."""

    dense: Run
    gpu: Run
    dcom: Run


@dataclass(frozen=True)
class Layer:
    """The kernels of a layer."""

    dense: tuple[Step, ...]
    decomposed: tuple[Step, ...]


@cache
def make_layer(bench: Workbench, seq_len: int, reading: str) -> Layer:
    """A layer with prompts of a length."""
    bench.say(f"a layer at {seq_len} tokens, {reading}")
    options = {"rank": RANK, "iterations": ITERATIONS, "reuse": READINGS[reading]}
    return Layer(
        bench.steps(seq_len, inside=True),
        bench.steps(seq_len, 1, [0], inside=True, **options),
    )


@cache
def layer_runs(bench: Workbench, seq_len: int, reading: str, choice: HostChoice = OURS) -> LayerRuns:
    """The runs of a layer with 64 prompts of a length."""
    layer = make_layer(bench, seq_len, reading)
    return LayerRuns(
        bench.run(layer.dense, "dense", BATCH, choice),
        bench.run(layer.decomposed, "gpu", BATCH, choice),
        bench.run(layer.decomposed, "dcom", BATCH, choice),
    )


def gpu_decomposition_seconds(bench: Workbench, steps: Sequence[Step]) -> Mapping[str, float]:
    """Seconds of one GPU for the decompositions of a batch among these kernels, by choice."""
    works = _works(steps)
    return {
        named(choice.name, speed_name(speed)): sum(
            lanczos_seconds(Host(bench.gpu, optimism=optimism), work, batched=choice.batched) for work in works
        )
        for choice in (OURS, HostChoice(batched=True))
        for speed, optimism in SPEEDS.items()
    }


def dcom_decomposition_seconds(bench: Workbench, steps: Sequence[Step]) -> float:
    """Seconds of a D-com for the decompositions of a batch among these kernels."""
    return sum(dcom_seconds(work, bench.machine) for work in _works(steps))


def _works(steps: Sequence[Step]) -> list[LanczosWork]:
    """The decompositions of a batch among these kernels."""
    return [work for step in steps if (work := step.kernel.of_prompts(BATCH).decomposition) is not None]
