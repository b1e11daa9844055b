"""The paper's expansion factor, swept for the kernels of a program by simulation."""

from collections.abc import Iterable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from dcomc.diagnostics import DcomError
from dcomc.expansion import SCHEDULES, Workload, sweep
from dialects.dcom import DecomposeOp
from runtime.accelerator import time_kernel
from runtime.program import Program


@dataclass(frozen=True)
class ExpansionPoint:
    """A kernel of modified Gram-Schmidt whose reductions are expanded by a factor."""

    vectors: str
    """Where vectors and bases are: in the `banks`, as in the paper, or in the `buffers`."""
    factor: int
    cycles: int
    """Cycles of the whole kernel."""
    reorthogonalisation: int
    """Cycles of its reorthogonalisation alone."""


@dataclass(frozen=True)
class Expansion:
    """The sweep for one matrix of a kernel's shape."""

    kernel: str
    cycles: int
    """Cycles of the program's own kernel, for as many matrices as it takes at least."""
    points: tuple[ExpansionPoint, ...]
    """None where the shape does not fit that schedule."""
    refused: str
    """Then why."""


def sweep_kernels(program: Program, module: ModuleOp, machine: str) -> Iterable[Expansion]:
    """The sweep of each kernel that the module's decompositions name.

    Args:
        machine: a file of the program's machine.
    """
    passes = {
        op.kernel.string_value(): op.reorthogonalisation.value.data
        for op in module.walk()
        if isinstance(op, DecomposeOp) and op.kernel is not None
    }
    for kernel in program.kernels:
        if kernel.name not in passes:
            continue
        layout = kernel.layout
        work = Workload(layout.rows, layout.cols, layout.iterations, passes[kernel.name])
        points: list[ExpansionPoint] = []
        refused = ""
        try:
            for vectors in SCHEDULES:
                for factor, point in sweep(work, vectors, machine):
                    points.append(ExpansionPoint(vectors, factor, point.whole, point.alone))
        except DcomError as error:
            refused = error.what
        yield Expansion(kernel.name, time_kernel(kernel, program.machine).cycles, tuple(points), refused)
