"""Machines, instructions and kernels for tests."""

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from dcomc.ir import make_context, parse_module
from dcomc.pipeline import cluster_pipeline, isa_pipeline, run_passes
from dialects import isa
from passes import make_passes
from runtime.encoding import Word
from runtime.instructions import BY_MNEMONIC
from runtime.machine import Machine, machine_from_values
from runtime.program import Kernel
from runtime.sequencer import Decide, Issue, never_leave, sequence

SHIPPED = (resources.files("dcomc") / "configs" / "machines" / "dcom-16x16.toml").read_text(encoding="utf-8")


def machine_text(**values: int) -> str:
    """The shipped machine's TOML with some values changed, each named by its key alone (which must stand once)."""
    text = SHIPPED
    for key, value in values.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    return text


def machine(**values: int) -> Machine:
    """The shipped machine with some values changed."""
    return machine_from_values(tomllib.loads(machine_text(**values)), "test.toml")


def machine_file(folder: Path, **values: int) -> str:
    """A TOML file of the shipped machine with some values changed."""
    path = folder / f"machine{'_'.join(str(value) for value in values.values())}.toml"
    path.write_text(machine_text(**values), encoding="utf-8")
    return str(path)


def words(*lines: str) -> list[Word]:
    """Instructions from their text; branch targets are indices."""
    result: list[Word] = []
    for line in lines:
        mnemonic, _, rest = line.partition(" ")
        row = BY_MNEMONIC[mnemonic]
        texts = [text.strip() for text in rest.split(",")] if rest else []
        result.append(Word(row, tuple(kind.parse(text) for (_, kind), text in zip(row.operands, texts, strict=True))))
    return result


def issues(*lines: str, leaves: Decide = never_leave) -> Iterator[Issue]:
    """The instructions of a stream in the order of their execution, from base address 0."""
    return sequence(words(*lines), 0, leaves)


def compile_kernel(
    rows: int,
    cols: int,
    iterations: int,
    machine: str = "dcom-16x16",
    *,
    rank: int = 1,
    seed: int | None = 0,
    passes: int = 2,
    mapping: str = "grid",
    in_flight: int | None = None,
    matrices: int = 1,
    gram_schmidt: str | None = None,
    expansion: str | None = None,
    streams: str = "1x1",
) -> Kernel:
    """The Lanczos kernel of one shape, for a machine by name or TOML file.

    Args:
        seed: of the start vector, which is the mean without one.
        matrices: of its launch: no more of them are in flight.
        expansion: options of cluster-expand-reductions.
    """
    start = 'seed = 0 : i64, start = "mean"' if seed is None else f"seed = {seed} : i64"
    factored = f"!dcom.factored<{matrices}x{rows}x{cols}, rank {rank}, f32>"
    attribute = f', gram_schmidt = "{gram_schmidt}"' if gram_schmidt else ""
    text = f"""func.func @f(%x: tensor<{matrices * rows}x{cols}xf32>) -> {factored} {{
      %f = dcom.decompose %x {{layer = 3 : i64, site = "qkv", iterations = {iterations} : i64,
        reorthogonalisation = {passes} : i64, {start}{attribute}}} : tensor<{matrices * rows}x{cols}xf32> -> {factored}
      func.return %f : {factored}
    }}"""
    context = make_context()
    module = parse_module(text, "kernel.mlir", context)
    passes = cluster_pipeline(machine, mapping, in_flight, streams=streams) + isa_pipeline(machine)
    if expansion is not None:
        passes[1:1] = make_passes(f'cluster-expand-reductions{{{expansion} machine="{machine}"}}')
    run_passes(context, module, passes)
    (kernel,) = (isa.assemble_kernel(op) for op in module.body.block.ops if isinstance(op, isa.KernelOp))
    return kernel
