"""What the reproductions share: Llama-2-7B at any length, decomposed in any way, its kernels and its decompositions."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xdsl.dialects.builtin import ModuleOp

import dcomc
from dcomc.dcom_times import dcom_seconds
from dcomc.estimate import Options, Run, Variant, run_steps
from dcomc.gpu_model import LanczosWork
from dcomc.host_kernels import Step, module_steps
from dcomc.model import resolve_model
from dcomc.pipeline import Decomposition
from dcomc.reproduce.choices import OURS, HostChoice
from runtime.gpu import Gpu, load_gpu
from runtime.machine import Machine, load_machine

ONE_BASIS = ("o", "gate_up", "down")
"""The sites that project on the basis of the layer's input: "the decomposition happens once at the beginning of the
layer" (paper, 3.1)."""


@dataclass(frozen=True)
class Workbench:
    """The machines, and Llama-2-7B on them."""

    gpu_name: str = "a100-80gb"
    machine_name: str = "dcom-16x16"
    gpus: int = 4

    @cached_property
    def gpu(self) -> Gpu:
        return load_gpu(self.gpu_name)

    @cached_property
    def machine(self) -> Machine:
        return load_machine(self.machine_name)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """The machines, all their values, and their hashes; with what else a result depends on."""
        gpu = described(self.gpu, self.gpu.hash) | {"tensor_parallel": self.gpus}
        return {"gpu": gpu, "machine": described(self.machine, self.machine.hash), **more}

    def options(self, batch: int, choice: HostChoice = OURS) -> Options:
        """The GPUs of the paper: kernels launched eagerly, fused attention; GPUs in turn have the latency of one."""
        return Options(self.gpu, 1 if choice.in_turn else self.gpus, batch, batched_lanczos=choice.batched)

    def steps(
        self,
        seq_len: int,
        layers: int = 1,
        decomposed: Iterable[int] = (),
        *,
        inside: bool = False,
        **options: Any,
    ) -> tuple[Step, ...]:
        """The kernels of the model with so many layers.

        Args:
            decomposed: layers; `options` are those of `dcomc.pipeline.Decomposition`.
            inside: only what is in the layers.
        """
        steps = module_steps(self.module(seq_len, layers, decomposed, **options))
        return _inside(steps) if inside else steps

    def module(self, seq_len: int, layers: int, decomposed: Iterable[int] = (), **options: Any) -> ModuleOp:
        """The model with some of its layers decomposed, in the dcom dialect."""
        given: dict[str, Any] = {"outliers": 3.0, **options}
        chosen = Decomposition(tuple(decomposed), **given)
        module = traced(seq_len, layers)
        return dcomc.lower(module.clone(), chosen, self.machine_name, level="dcom") if chosen.layers else module

    def run(self, steps: tuple[Step, ...], variant: Variant, batch: int, choice: HostChoice = OURS) -> Run:
        """Schedule kernels; raises `DcomError` where the D-com has no room for a decomposition."""

        def seconds(work: LanczosWork, layer: int | None, site: str) -> float:
            return dcom_seconds(work, self.machine, alone=choice.alone)

        return run_steps(steps, variant, 1, seconds, self.options(batch, choice))

    def say(self, what: str) -> None:
        """Progress, on stderr."""
        print(what, file=sys.stderr)


def described(description: Any, digest: str) -> dict[str, Any]:
    """The values of a machine, a GPU or a technology, and the hash of its file."""
    return asdict(description) | {"hash": digest}


@lru_cache
def traced(seq_len: int, layers: int) -> ModuleOp:
    """Llama-2-7B with so many layers, one prompt, float16."""
    config = resolve_model("llama2-7b").config()
    config |= {"num_hidden_layers": layers, "max_position_embeddings": max(seq_len, config["max_position_embeddings"])}
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return dcomc.trace(folder, seq_len, 1, "f16")


def _inside(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps of layers alone; what they need from outside is there."""
    kept = [number for number, step in enumerate(steps) if step.layer is not None]
    renamed = {old: new for new, old in enumerate(kept)}

    def own(step: Step) -> Step:
        needs = tuple(renamed[need] for need in step.kernel.needs if need in renamed)
        return replace(step, kernel=replace(step.kernel, needs=needs))

    return tuple(own(steps[number]) for number in kept)
