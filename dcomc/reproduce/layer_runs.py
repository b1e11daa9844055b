"""One layer of Llama-2-7B: dense, decomposed on a GPU, and with D-com, by the length of prompts and by reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from dcomc.dcom_times import dcom_seconds
from dcomc.estimate import PARTS, SPEEDS, Run, Speed
from dcomc.gpu_lanczos import lanczos_seconds
from dcomc.gpu_model import Host, LanczosWork
from dcomc.host_kernels import Step
from dcomc.reproduce.choices import FOUR, OURS, HostChoice
from dcomc.reproduce.workbench import ONE_BASIS, Workbench

BATCH = 64
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
def make_layer(bench: Workbench, seq_len: int, *, four: bool = False) -> Layer:
    """A layer with prompts of a length; decomposed with one basis, or with four (`HostChoice.four`)."""
    bench.say(f"a layer at {seq_len} tokens{f', {FOUR}' if four else ''}")
    options = {"rank": RANK, "iterations": ITERATIONS, "reuse": bases(four=four)}
    return Layer(
        bench.steps(seq_len, inside=True),
        bench.steps(seq_len, 1, [0], inside=True, **options),
    )


def bases(*, four: bool) -> tuple[str, ...]:
    """The sites of a layer that reuse the basis of its input."""
    return () if four else ONE_BASIS


@cache
def layer_runs(bench: Workbench, seq_len: int, choice: HostChoice = OURS) -> LayerRuns:
    """The runs of a layer with 64 prompts of a length."""
    layer = make_layer(bench, seq_len, four=choice.four)
    return LayerRuns(
        bench.run(layer.dense, "dense", BATCH, choice),
        bench.run(layer.decomposed, "gpu", BATCH, choice),
        bench.run(layer.decomposed, "dcom", BATCH, choice),
    )


def gpu_decomposition_seconds(bench: Workbench, seq_len: int, choice: HostChoice = OURS) -> Mapping[Speed, float]:
    """Seconds of one GPU for the decompositions of a layer with 64 prompts of a length."""
    return {
        speed: sum(
            lanczos_seconds(Host(bench.gpu, optimism=optimism), work, batched=choice.batched)
            for work in _works(make_layer(bench, seq_len, four=choice.four).decomposed)
        )
        for speed, optimism in SPEEDS.items()
    }


def dcom_decomposition_seconds(bench: Workbench, seq_len: int, choice: HostChoice = OURS) -> float:
    """Seconds of a D-com for the same."""
    works = _works(make_layer(bench, seq_len, four=choice.four).decomposed)
    return sum(dcom_seconds(work, bench.machine) for work in works)


def decompositions(bench: Workbench, seq_len: int, *, four: bool) -> list[LanczosWork]:
    """Those of a layer, of the whole batch and of each of its parts that `run_steps` tries."""
    steps = make_layer(bench, seq_len, four=four).decomposed
    return [work for parts in PARTS for work in _works(steps, BATCH // parts)]


def _works(steps: Sequence[Step], prompts: int = BATCH) -> list[LanczosWork]:
    """The decompositions of a batch, or of fewer prompts, among these kernels."""
    return [work for step in steps if (work := step.kernel.of_prompts(prompts).decomposition) is not None]
