"""Decompose chosen layers of a traced model and make a program for the accelerator and its host."""

import argparse
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dcomc.diagnostics import DcomError, write_text

EMIT = ("dcom", "cluster", "isa", "asm", "bin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="Level 0 IR, made by `dcomc trace`; - is standard input")
    parser.add_argument(
        "--decompose-layers",
        default="",
        metavar="LIST",
        help="layers to decompose, such as 10,15 or 1-31; none: the dense model",
    )
    parser.add_argument(
        "--sites", default="qkv,o,gate_up,down", metavar="LIST", help="inputs to decompose (default: %(default)s)"
    )
    parser.add_argument("--rank", type=int, default=10, help="columns of the factors (default: %(default)s)")
    parser.add_argument("--iterations", type=int, help="Lanczos steps, at least the rank (default: rank + 5)")
    parser.add_argument(
        "--block", type=int, metavar="TOKENS", help="tokens that share a basis (default: all of a prompt)"
    )
    parser.add_argument(
        "--reorthogonalisation", type=int, default=2, help="Gram-Schmidt passes a vector (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the start vector (default: %(default)s)")
    parser.add_argument(
        "--outliers",
        default="3",
        metavar="PERCENT|FILE.toml",
        help="channels kept exact: a percentage, or a thresholds table (default: %(default)s)",
    )
    parser.add_argument(
        "--machine", default="dcom-16x16", metavar="NAME|FILE.toml", help="the accelerator (default: %(default)s)"
    )
    parser.add_argument("--activations", metavar="FILE.npz", help="inputs of launches to store, by `layer10.qkv`")
    parser.add_argument("--emit", choices=EMIT, default="bin", help="what to write (default: %(default)s)")
    parser.add_argument("--dump-ir-dir", type=Path, metavar="DIR", help="write the IR after each pass that changes it")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; needed for --emit=bin, else stdout")


def run(args: argparse.Namespace) -> int:
    # The dialects take a tenth of a second to import, which `--help` need not wait for.
    from dcomc.encode import describe_module, make_program
    from dcomc.ir import make_context, print_module, read_module
    from dcomc.pipeline import cluster_pipeline, decompose_pipeline, isa_pipeline, run_passes
    from runtime.machine import load_machine

    if args.emit == "bin" and args.output in (None, "-"):
        what = "no output file given" if args.output is None else "a program is no text for standard output"
        raise DcomError(what, hint="add -o prog.bin")
    machine = load_machine(args.machine)
    decomposition = _decomposition(args)
    activations = _read_activations(args.activations)
    context = make_context()
    module = read_module(args.file, context)
    passes = decompose_pipeline(decomposition)
    if args.emit != "dcom":
        passes += cluster_pipeline(args.machine)
    if args.emit in ("isa", "asm", "bin"):
        passes += isa_pipeline(args.machine)
    run_passes(context, module, passes, args.dump_ir_dir)
    if args.emit in ("dcom", "cluster", "isa"):
        _write(print_module(module), args.output)
        return 0
    options = {"model": describe_module(module), "source": Path(args.file).name, **asdict(decomposition)}
    if decomposition.thresholds is not None:
        options["thresholds"] = Path(decomposition.thresholds).name  # a program does not depend on its folder
    program = make_program(module, machine, options, activations)
    if args.emit == "asm":
        from dcomc.disassembler import disassemble

        _write(disassemble(program), args.output)
    else:
        from dcomc.container import write_program

        write_program(program, Path(args.output))
        instructions = sum(len(kernel.words) for kernel in program.kernels)
        print(
            f"compiled {len(decomposition.layers)} layers: {len(program.launches)} decompositions by "
            f"{len(program.kernels)} kernels of {instructions} instructions, for {machine.name} ({machine.hash})",
            file=sys.stderr,
        )
    return 0


def _write(text: str, output: str | None) -> None:
    if output in (None, "-"):
        sys.stdout.write(text)
    else:
        write_text(Path(str(output)), text)


def _decomposition(args: argparse.Namespace) -> Any:
    from dcomc.pipeline import Decomposition

    percent, thresholds = _outliers(args.outliers)
    return Decomposition(
        layers=parse_layers(args.decompose_layers),
        sites=tuple(site.strip() for site in args.sites.split(",")),
        rank=args.rank,
        iterations=args.iterations,
        reorthogonalisation=args.reorthogonalisation,
        seed=args.seed,
        outlier_percent=percent,
        thresholds=thresholds,
        block=args.block,
    )


def parse_layers(text: str) -> tuple[int, ...]:
    """The layers of a list such as `10,15` or `1-3,7`, each once, in order.

    Raises:
        DcomError: a part is neither a number nor a range.
    """
    layers: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise DcomError(f"--decompose-layers: '{part}' is no layer", hint="write numbers and ranges: 10,15 or 1-31")
        layers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(layers))


def _outliers(text: str) -> tuple[float, str | None]:
    """A percentage of channels, or the file of a thresholds table."""
    try:
        percent = float(text)
    except ValueError:
        return 0.0, text
    if not 0 <= percent <= 100:
        raise DcomError(f"--outliers {text} is no percentage", hint="give 0 to 100, or a thresholds TOML file")
    return percent, None


def _read_activations(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    from dcomc.activations import read_archive, to_half

    return to_half(read_archive(path))
