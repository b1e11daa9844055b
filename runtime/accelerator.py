"""Decompositions on the simulated machine: data into the banks, a kernel for each prompt, factors back."""

from dataclasses import dataclass
from functools import lru_cache
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError
from runtime.lanczos import Bidiagonal, Factored, start_weights, truncate
from runtime.machine import Machine
from runtime.program import Kernel, KernelLayout, Launch, Program
from runtime.reference import ReferenceEngine
from runtime.sequencer import MachineFault, never_leave, sequence
from runtime.timing import Timing, TimingReader

Array = NDArray[Any]

_HALF_EXPONENT = 15
"""Activations are scaled so that the largest magnitude is in [2^14, 2^15): binary16 reaches 65504."""


@dataclass(frozen=True)
class PromptResult:
    """What one run of a kernel gave."""

    factors: Bidiagonal
    """u float16 [S, k], alpha and beta float32 with the input's scale, v float16 [k, H]; k < iterations: breakdown."""
    timing: Timing


def to_half_scaled(x: Array) -> tuple[NDArray[np.float16], int]:
    """x * 2^-e in binary16, and e, so that the largest magnitude is just below 2^15; e = 0 for zeros.

    Raises:
        DcomError: x has a NaN or an infinity.
    """
    largest = float(np.abs(x).max()) if x.size else 0.0
    if not np.isfinite(largest):
        row, col = np.argwhere(~np.isfinite(x))[0]
        raise DcomError(
            f"the activation has a value that is not finite, {x[row, col]} at row {row}, column {col}",
            hint="look for an overflow in the layers before, or for damage in the input",
        )
    exponent = frexp(largest)[1] - _HALF_EXPONENT if largest else 0
    return np.ldexp(x, -exponent).astype(np.float16), exponent


def pack(a: NDArray[np.float16], layout: KernelLayout, seed: int, machine: Machine) -> NDArray[np.uint8]:
    """The banks before a launch, [grid columns, bank_bytes]: the activation in tiles and the start weights.

    Args:
        a: [S, H].
    """
    grid, cluster = machine.grid, machine.cluster
    banks = np.zeros((grid.cols, layout.bank_bytes), np.uint8)
    padded = np.zeros((grid.rows * layout.slice_rows, grid.cols * layout.slice_cols), np.float16)
    padded[: layout.rows, : layout.cols] = a
    tiles = padded.reshape(
        grid.rows,
        layout.slice_rows // cluster.mac_rows,
        cluster.mac_rows,
        grid.cols,
        layout.slice_cols // cluster.mac_cols,
        cluster.mac_cols,
    ).transpose(3, 0, 1, 4, 2, 5)
    blocks = np.ascontiguousarray(tiles).reshape(grid.cols, grid.rows, -1).view(np.uint8)
    for row in range(grid.rows):
        start = layout.a_offset + row * layout.a_stride
        banks[:, start : start + blocks.shape[2]] = blocks[:, row]
    weights = np.zeros(padded.shape[0], np.float16)
    weights[: layout.rows] = start_weights(layout.rows, seed)
    banks[:, layout.start_offset : layout.start_offset + weights.nbytes] = weights.view(np.uint8)
    return banks


def unpack(banks: NDArray[np.uint8], layout: KernelLayout, machine: Machine) -> Bidiagonal:
    """The factors that a kernel left in the banks."""
    k = layout.iterations

    def read(bank: Array, offset: int, count: int, kind: type[np.generic]) -> Array:
        return bank[offset : offset + count * np.dtype(kind).itemsize].copy().view(kind)

    alpha = read(banks[0], layout.alpha_offset, k, np.float32)
    beta = read(banks[0], layout.alpha_offset + alpha.nbytes, k, np.float32)
    steps = int(np.count_nonzero(alpha))
    u = [
        read(banks[0], layout.u_offset + row * layout.u_stride, k * layout.slice_rows, np.float16).reshape(k, -1)
        for row in range(machine.grid.rows)
    ]
    v = [read(bank, layout.v_offset, k * layout.slice_cols, np.float16).reshape(k, -1) for bank in banks]
    return Bidiagonal(
        u=np.concatenate(u, axis=1)[:steps, : layout.rows].T,
        alpha=alpha[:steps],
        beta=beta[1:steps],
        v=np.concatenate(v, axis=1)[:steps, : layout.cols],
    )


def run_kernel(kernel: Kernel, machine: Machine, a: Array) -> PromptResult:
    """Decompose one prompt by a kernel, on the reference engine.

    Args:
        a: [S, H], finite.

    Raises:
        DcomError: `a` is not finite, has a norm beyond binary32, or has not the kernel's shape.
        MachineFault: the kernel does what the machine cannot do.
    """
    layout = kernel.layout
    if a.shape != (layout.rows, layout.cols):
        raise DcomError(f"kernel {kernel.name} takes {layout.rows} x {layout.cols}, not {a.shape[0]} x {a.shape[1]}")
    half, exponent = to_half_scaled(a)
    banks = pack(half, layout, kernel.seed, machine)
    engine, clock = ReferenceEngine(machine, banks), TimingReader(machine)
    try:
        for issue in sequence(kernel.words, 0, engine.leaves):
            engine.execute(issue)
            clock.read(issue)
    except MachineFault as fault:
        raise MachineFault(fault.what, hint=fault.hint, place=f"kernel {kernel.name}") from fault
    factors = unpack(banks, layout, machine)
    with np.errstate(over="ignore"):
        alpha, beta = np.ldexp(factors.alpha, exponent), np.ldexp(factors.beta, exponent)
    if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
        raise DcomError("the activation's norm is beyond binary32", hint="scale it down")
    return PromptResult(Bidiagonal(factors.u, alpha, beta, factors.v), clock.result())


@lru_cache(maxsize=64)
def _time_without_data(kernel: str, words: tuple[Any, ...], machine: Machine) -> Timing:
    clock = TimingReader(machine)
    try:
        for issue in sequence(words, 0, never_leave):
            clock.read(issue)
    except MachineFault as fault:
        raise MachineFault(fault.what, hint=fault.hint, place=f"kernel {kernel}") from fault
    return clock.result()


def time_kernel(kernel: Kernel, machine: Machine) -> Timing:
    """Cycles of one prompt where no breakdown ends the iteration early; no data is needed."""
    return _time_without_data(kernel.name, kernel.words, machine)


class Accelerator:
    """The accelerator as the host executor calls it: a program's launches by layer and site."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._launches = {launch.key: launch for launch in program.launches}

    def launch(self, layer: int, site: str) -> Launch:
        """The launch of a layer's site; raises `DcomError` where the program has none."""
        key = f"layer{layer}.{site}"
        if key not in self._launches:
            raise DcomError(f"the program has no launch for {key}", hint="compile it again")
        return self._launches[key]

    def decompose(self, launch: Launch, x: Array) -> tuple[Factored, list[PromptResult]]:
        """Decompose a batch of activations by simulated instructions.

        Args:
            x: [prompts * S, H].

        Returns:
            The truncated factors, float32, and what each prompt's run gave.

        Raises:
            DcomError: x has the wrong shape, or a value that is not finite; says which launch.
        """
        kernel = self._program.kernel(launch.kernel)
        expected = (launch.prompts * kernel.layout.rows, kernel.layout.cols)
        if x.shape != expected:
            raise DcomError(f"{launch.key} takes activations of {expected[0]} x {expected[1]}, not {x.shape}")
        try:
            results = [run_kernel(kernel, self._program.machine, a) for a in np.split(x, launch.prompts)]
        except DcomError as error:
            raise DcomError(f"{launch.key}: {error.what}", hint=error.hint, place=error.place) from error
        parts = [truncate(result.factors, launch.rank) for result in results]
        return Factored(*(np.stack(part) for part in zip(*parts, strict=True))), results
