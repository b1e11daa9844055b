"""Runtimes on GPUs with a D-com beside them, over those of the dense model there, as `dcomc estimate` has them."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from xdsl.dialects.builtin import ModuleOp

from dcomc.compiler import lower
from dcomc.dcom_times import DcomSeconds, program_seconds
from dcomc.diagnostics import write_text
from dcomc.encode import make_program
from dcomc.estimate import Options, Variant, run_steps
from dcomc.host_kernels import element_bytes, module_steps
from dcomc.pipeline import Decomposition
from dcomc.search.space import Candidate
from passes._sites import module_size
from runtime.machine import load_machine


class Runtime:
    """Compiles candidates, times their kernels and schedules the model; each once."""

    def __init__(self, module: ModuleOp, sites: Sequence[str], host: Options, machine: str) -> None:
        """Prepare.

        Args:
            module: the traced model, which stays as it is.
            sites: that may be decomposed.
            host: the GPUs and the batch.
            machine: name or TOML file of the D-com.
        """
        self._module, self._sites, self._host = module, tuple(sites), host
        self._name, self._machine = machine, load_machine(machine)
        self._known: dict[str, float] = {}

    def share(self, candidate: Candidate) -> float:
        """The seconds of the model over those of the dense one."""
        text = candidate.to_toml()
        if text not in self._known:
            self._known[text] = self._estimate(candidate.layers, text)
        return self._known[text]

    @property
    def least(self) -> float:
        """The least share of the candidates so far."""
        return min(self._known.values())

    def _estimate(self, layers: tuple[int, ...], config: str) -> float:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "config.toml"
            write_text(file, config)
            options = Decomposition(layers, self._sites, config=str(file))
            lowered = lower(self._module.clone(), options, self._name)
            program = make_program(lowered, self._machine, options)
        return self._seconds(lowered, "dcom", program_seconds(program)) / self._dense

    @cached_property
    def _dense(self) -> float:
        return self._seconds(self._module, "dense", lambda work, layer, site: 0.0)

    def _seconds(self, module: ModuleOp, variant: Variant, dcom: DcomSeconds) -> float:
        steps = module_steps(module, fused_attention=self._host.fused_attention)
        batch, each = module_size(module, "batch"), element_bytes(module)
        return run_steps(steps, variant, batch, dcom, self._host, each).seconds
