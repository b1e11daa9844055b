"""From a lowered module to a program: kernels assembled, launches listed in the order of the model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.rewriter import Rewriter

from dcomc.config import SiteOptions
from dcomc.diagnostics import DcomError, readable
from dcomc.ir import describe_location, place_of, print_module
from dcomc.pipeline import Decomposition
from dcomc.program import Program
from dialects import isa
from dialects.dcom import DecomposeOp
from passes._sites import read_config
from runtime.machine import Machine
from runtime.program import Launch

_AGAIN = "compile it again"


def make_program(
    module: ModuleOp,
    machine: Machine,
    decomposition: Decomposition,
    source: str = "",
    activations: Mapping[str, NDArray[np.float16]] | None = None,
    factors: Mapping[str, NDArray[Any]] | None = None,
) -> Program:
    """The program of a module on which all passes have run; its kernels leave the module.

    Args:
        module: as `dcomc.lower` leaves it.
        machine: that it was lowered for.
        decomposition: what the compiler was asked for, for the record.
        source: the name of the module's file, for the record.
        activations: inputs of launches to store, [prompts * S, H] by launch.
        factors: of the module's weights, where it has some in factors (`dcomc.factors.compute_factors`).

    Raises:
        DcomError: a decomposition has no kernel, or one for another; or stored activations do not fit their launch.
    """
    kernel_ops = [op for op in module.body.block.ops if isinstance(op, isa.KernelOp)]
    kernels = tuple(isa.assemble_kernel(op) for op in kernel_ops)
    for op in kernel_ops:
        Rewriter.erase_op(op)
    options = {"model": describe_module(module), "source": source, **_options(asdict(decomposition))}
    launches = tuple(_launch(op) for op in _decompositions(module))
    if placings := _placings(decomposition, launches):
        options["kernels"] = placings
    program = Program(machine, kernels, launches, print_module(module), options, activations or {}, factors)
    check_launches(program, module)
    _check_activations(program)
    return program


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON values; of files only their names, since a program does not depend on its folder."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            options[name] = _options(cast(dict[str, Any], value))
        elif isinstance(value, tuple):
            options[name] = list(cast(tuple[object, ...], value))
        elif name in ("outliers", "config", "statistics") and isinstance(value, str):
            options[name] = readable(Path(value).name)
        else:
            options[name] = value
    return options


def _placings(decomposition: Decomposition, launches: Iterable[Launch]) -> dict[str, dict[str, str]]:
    """What the mapping and the streams of each kernel were asked to be, where a config has some: it is only named."""
    config = read_config(decomposition.config)
    given = SiteOptions(mapping=decomposition.mapping, streams=decomposition.streams)
    if not config.sets("mapping") and not config.sets("streams"):
        return {}
    asked = {launch.kernel: config.options(launch.layer, launch.site, given) for launch in launches}
    return {kernel: {"mapping": options.mapping, "streams": options.streams} for kernel, options in asked.items()}


def _decompositions(module: ModuleOp) -> Iterator[DecomposeOp]:
    """The decompositions in the order of execution: as @main calls the layers."""
    functions = {op.sym_name.data: op for op in module.body.block.ops if isinstance(op, FuncOp)}
    for op in functions["main"].walk() if "main" in functions else ():
        callee = functions.get(op.callee.string_value()) if isinstance(op, CallOp) else None
        if callee is not None:
            yield from (inner for inner in callee.walk() if isinstance(inner, DecomposeOp))


def _launch(op: DecomposeOp) -> Launch:
    if op.kernel is None:
        raise DcomError(
            f"the decomposition of layer {op.layer.value.data}, site {op.site.data}, has no kernel",
            hint="run lower-dcom-to-cluster",
            place=place_of(op.location),
        )
    prompts, _, _ = op.factors.type.blocks
    return Launch(
        kernel=op.kernel.string_value(),
        layer=op.layer.value.data,
        site=op.site.data,
        prompts=prompts,
        rank=op.factors.type.rank.data,
        location=describe_location(op.location),
    )


def check_launches(program: Program, module: ModuleOp) -> None:
    """Check that a program's launches are the decompositions of its host's part, each by a kernel that does it.

    Raises:
        DcomError: one is missing or is another, or its kernel has another shape, number of iterations or seed.
    """
    launches = {launch.key: launch for launch in program.launches}
    kernels = {kernel.name: kernel for kernel in program.kernels}
    for op in _decompositions(module):
        wanted = _launch(op)
        found = launches.pop(wanted.key, None)
        if found is None or replace(found, location=wanted.location) != wanted:
            raise DcomError(
                f"the host's part has another {wanted.key} than the launches: by kernel {wanted.kernel}, "
                f"{wanted.prompts} times, rank {wanted.rank}",
                hint=_AGAIN,
            )
        if wanted.kernel not in kernels:
            raise DcomError(f"{wanted.key} is by kernel {wanted.kernel}, which there is not", hint=_AGAIN)
        kernel = kernels[wanted.kernel]
        _, rows, cols = op.factors.type.blocks
        asked = (rows, cols, op.iterations.value.data, op.start_seed)
        if (kernel.layout.rows, kernel.layout.cols, kernel.layout.iterations, kernel.seed) != asked:
            raise DcomError(
                f"{wanted.key} is {rows} x {cols}, {asked[2]} iterations from {_start(asked[3])}, but its kernel "
                f"{kernel.name} is for {kernel.layout.rows} x {kernel.layout.cols}, {kernel.layout.iterations} "
                f"iterations from {_start(kernel.seed)}",
                hint=_AGAIN,
            )
    if launches:
        raise DcomError(f"the host's part has no {next(iter(launches))}, which is among the launches", hint=_AGAIN)


def _check_activations(program: Program) -> None:
    launches = {launch.key: launch for launch in program.launches}
    for key, stored in program.activations.items():
        if key not in launches:
            known = ", ".join(launches) or "none"
            raise DcomError(f"activations '{key}' belong to no launch", hint=f"the launches are: {known}")
        layout = program.kernel(launches[key].kernel).layout
        expected = (launches[key].prompts * layout.rows, layout.cols)
        if stored.shape != expected:
            raise DcomError(f"activations '{key}' have shape {stored.shape}", hint=f"{key} takes {expected}")


def describe_module(module: ModuleOp) -> dict[str, Any]:
    """What the tracer noted of the model: the module's `dcom.` attributes as JSON values."""
    values: dict[str, Any] = {}
    for name, value in module.attributes.items():
        if name.startswith("dcom.") and isinstance(value, IntegerAttr | StringAttr):
            values[name.removeprefix("dcom.")] = value.data if isinstance(value, StringAttr) else value.value.data
    return values


def _start(seed: int | None) -> str:
    return "the mean" if seed is None else f"seed {seed}"
