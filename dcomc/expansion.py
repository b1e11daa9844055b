"""The sweep of the paper's expansion factor by simulation: cycles of decomposition and of its reorthogonalisation."""

from collections.abc import Iterator
from dataclasses import dataclass

from dcomc.single_kernel import MACHINE, compile_kernel
from passes._expansion_groups import factors
from passes.cluster_expand_reductions import ClusterExpandReductionsPass
from runtime.accelerator import time_kernel
from runtime.machine import Machine, load_machine
from runtime.program import Kernel
from runtime.sequencer import never_leave, sequence
from runtime.timing import Timing, TimingReader

SCHEDULES = ("banks", "buffers")
"""Where vectors and bases are between the steps of Gram-Schmidt."""


@dataclass(frozen=True)
class Workload:
    """One prompt: [S, H], k iterations, and passes of Gram-Schmidt."""

    rows: int
    cols: int = 4096
    iterations: int = 10
    passes: int = 2

    @property
    def steps(self) -> int:
        """Vectors that are projected out, one after another."""
        return self.passes * self.iterations**2


@dataclass(frozen=True)
class Point:
    """Cycles of one schedule."""

    whole: int
    """Cycles of the kernel, for one prompt."""
    alone: int
    """Cycles of the instructions of its reorthogonalisation, with nothing else in the machine."""
    causes: dict[str, int]
    """The cycles of `alone`, by what the stream waited for."""

    def share(self, unit: str) -> float:
        """The share of the cycles of reorthogonalisation alone in which it waited for a unit or its results."""
        return sum(cycles for cause, cycles in self.causes.items() if unit in cause.split()) / self.alone


def sweep(work: Workload, vectors: str, machine: str = MACHINE, sums: str = "replicas") -> Iterator[tuple[int, Point]]:
    """Each factor, and what a schedule takes with it; `vectors` and `sums` are those of cluster-expand-reductions."""
    described = load_machine(machine)
    for factor, kernel in sweep_kernels(work, vectors, machine, sums):
        yield factor, time_point(kernel, described)


def sweep_kernels(
    work: Workload, vectors: str, machine: str = MACHINE, sums: str = "replicas"
) -> Iterator[tuple[int, Kernel]]:
    """Each factor, and the kernel of a schedule with it."""
    for factor in factors(load_machine(machine)):
        expansion = ClusterExpandReductionsPass(factor=factor, vectors=vectors, sums=sums, machine=machine)
        yield factor, _compile(work, "modified", machine, expansion)


def measure(work: Workload, gram_schmidt: str, machine: str = MACHINE) -> Point:
    """What a schedule without expansion takes."""
    return time_point(_compile(work, gram_schmidt, machine), load_machine(machine))


def time_point(kernel: Kernel, machine: Machine) -> Point:
    """What a kernel takes on a machine, which may have other latencies than the one it was compiled for."""
    alone = _reorthogonalisation(kernel, machine)
    return Point(time_kernel(kernel, machine).cycles, alone.cycles, alone.causes)


def _compile(
    work: Workload, gram_schmidt: str, machine: str, expansion: ClusterExpandReductionsPass | None = None
) -> Kernel:
    return compile_kernel(
        work.rows,
        work.cols,
        work.iterations,
        passes=work.passes,
        machine=machine,
        gram_schmidt=gram_schmidt,
        expansion=expansion,
    )


def _reorthogonalisation(kernel: Kernel, machine: Machine) -> Timing:
    """The cycles of a kernel's instructions of reorthogonalisation, as they come, without the others."""
    clock = TimingReader(machine, kernel.layout)
    for issue in sequence(kernel.words, 0, never_leave):
        if issue.mnemonic == "halt" or kernel.locations[issue.index].startswith("reorthogonalise"):
            clock.read(issue)
    return clock.result()
