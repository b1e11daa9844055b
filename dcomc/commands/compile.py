"""Decompose chosen layers of a traced model and make a program for the accelerator and its host."""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomc.commands._passes import add_pass_arguments, instrumentation
from dcomc.diagnostics import DcomError, check_output, counted, write_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from dcomc.pipeline import Decomposition, WeightDecomposition
    from dcomc.program import Program

EMIT = ("dcom", "cluster", "isa", "asm", "bin")
MOST_LAYERS = 10_000
"""Where a range of layers is cut: past those of any model."""


class _OfDecomposition(argparse.Action):
    """Stores the value of an option of decompositions, and that it was given, which a default does not show."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.of_decomposition = {**namespace.of_decomposition, self.option_strings[0]: None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(of_decomposition={})
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="Level 0 IR, made by `dcomc trace`, or IR dumped between passes; - is standard input",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; needed for --emit=bin, else stdout")
    parser.add_argument("--emit", choices=EMIT, default="bin", help="what to write (default: %(default)s)")
    parser.add_argument(
        "--from-stage",
        metavar="STAGE",
        help="FILE is the IR after this pass, such as 05-cse, the name of its dump (default: what the IR shows)",
    )
    _add_decomposition(parser)
    _add_lanczos(parser)
    _add_weights(parser)
    _add_machine(parser)
    reports = parser.add_argument_group("what to tell")
    reports.add_argument(
        "--report-cost",
        nargs="?",
        const="",
        metavar="FILE.json",
        help="print operations, bytes and memory of each layer and site to standard error, dense and decomposed, with "
        "the paper's ratios, and write them to FILE.json",
    )
    help = (
        "print the cycles of each mapping: expected, and counted where that was worth it; those of one matrix alone, "
        "and in shares of them the work of arrays and banks, with all matrices in flight"
    )
    reports.add_argument("--explain", action="store_true", help=help)
    reports.add_argument("--print-pipeline", action="store_true", help="print the passes as `dcomc opt -p` takes them")
    add_pass_arguments(parser)


def _add_decomposition(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to decompose")
    group.add_argument(
        "--decompose-layers",
        default="",
        metavar="LIST",
        help="layers to decompose, such as 10,15 or 1-31; none: the dense model",
    )
    group.add_argument(
        "--sites",
        action=_OfDecomposition,
        default="qkv,o,gate_up,down",
        metavar="LIST",
        help="inputs to decompose (default: %(default)s)",
    )
    group.add_argument(
        "--rank",
        action=_OfDecomposition,
        type=int,
        default=10,
        metavar="N",
        help="columns of the factors (default: %(default)s)",
    )
    group.add_argument(
        "--block",
        action=_OfDecomposition,
        type=int,
        metavar="TOKENS",
        help="tokens that share a basis (default: all of a prompt)",
    )
    group.add_argument(
        "--outliers",
        action=_OfDecomposition,
        default="3",
        metavar="PERCENT|FILE.toml",
        help="channels kept exact: a percentage, or a thresholds table (default: %(default)s)",
    )
    group.add_argument(
        "--exact-rows",
        action=_OfDecomposition,
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="tokens kept exact (default: none)",
    )
    group.add_argument(
        "--energy",
        action=_OfDecomposition,
        type=float,
        metavar="SHARE",
        help="stop at this share of a block's energy (default: at the rank)",
    )
    group.add_argument(
        "--reuse",
        action=_OfDecomposition,
        default="",
        metavar="LIST",
        help="sites projected on the basis of their layer's first (default: none)",
    )
    group.add_argument(
        "--config", metavar="FILE.toml", help="options of single layers and sites, such as [layers.14.sites.o]"
    )


def _add_lanczos(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to decompose it, by Lanczos bidiagonalisation")
    group.add_argument(
        "--iterations",
        action=_OfDecomposition,
        type=int,
        metavar="N",
        help="steps, at least the rank (default: rank + 5)",
    )
    group.add_argument(
        "--reorthogonalisation",
        action=_OfDecomposition,
        type=int,
        default=2,
        metavar="N",
        help="Gram-Schmidt passes a vector (default: %(default)s)",
    )
    group.add_argument(
        "--gram-schmidt",
        action=_OfDecomposition,
        choices=("classical", "modified"),
        default="classical",
        help="each new vector against all before at once, or one after another (default: %(default)s)",
    )
    group.add_argument(
        "--start",
        action=_OfDecomposition,
        choices=("random", "mean"),
        default="random",
        help="start from random weights of the tokens, or from their mean, which is better at rank 1 "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        action=_OfDecomposition,
        type=int,
        default=0,
        metavar="N",
        help="of the random start (default: %(default)s)",
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("weights in factors")
    group.add_argument("--weight-rank", type=int, metavar="N", help="decompose weights too, to this rank")
    group.add_argument(
        "--weight-method",
        default="svd",
        metavar="METHOD",
        help="svd; whitened, the best for the activations of a text; or tucker2, with factors that weights of a site "
        "share (default: %(default)s)",
    )
    group.add_argument("--weight-layers", metavar="LIST", help="of these layers (default: those decomposed)")
    group.add_argument("--weight-sites", metavar="LIST", help="of these sites (default: those decomposed)")
    group.add_argument(
        "--weight-statistics", metavar="FILE.safetensors", help="made by `dcomc statistics`, for the method whitened"
    )
    group.add_argument(
        "--model", metavar="MODEL", help="the model that was traced; its factors go to PROG.weights.safetensors"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("accelerator")
    group.add_argument(
        "--machine", default="dcom-16x16", metavar="NAME|FILE.toml", help="the accelerator (default: %(default)s)"
    )
    group.add_argument(
        "--mapping",
        action=_OfDecomposition,
        default="auto",
        metavar="MAPPING",
        help="clusters that decompose a matrix together: grid, column, cluster, or rows and columns of them, such as "
        "8x8 (default: %(default)s, by the shape and number of matrices)",
    )
    group.add_argument(
        "--streams",
        action=_OfDecomposition,
        default="auto",
        metavar="ROWSxCOLUMNS",
        help="equal rectangles of clusters that take their shares of a launch's matrices side by side, each at its own "
        "pace (default: %(default)s: beside the mapping auto those of a matrix each where they save cycles, else 1x1)",
    )
    group.add_argument(
        "--activations", metavar="FILE.npz", help="inputs to store in the program for `dcomc sim`, by `layer10.qkv`"
    )


def run(args: argparse.Namespace) -> int:
    """Compile the module and write what is asked for."""
    # The dialects take a tenth of a second to import, which `--help` need not wait for.
    from dcomc.compile_warnings import warnings, without_effect
    from dcomc.compiler import factors_of, lower
    from dcomc.ir import make_context, parse_module, print_module, read_text
    from dcomc.pipeline import compile_pipeline, pipeline_text
    from runtime.machine import load_machine

    decomposition = _decomposition(args)
    level = args.emit if args.emit in ("dcom", "cluster") else "isa"
    if args.print_pipeline:
        print(pipeline_text(compile_pipeline(decomposition, args.machine, level)))
        return 0
    if args.explain and level == "dcom":
        what = "--explain is of mappings, and --emit=dcom stops before they are chosen"
        hint = "emit cluster, isa, asm or bin; why factors end where they do, dcom.stopped says in the IR"
        raise DcomError(what, hint=hint)
    if args.activations is not None and args.emit != "bin":
        raise DcomError(f"--activations are stored in programs, and --emit={args.emit} writes none", hint="emit bin")
    if args.report_cost and not args.report_cost.endswith(".json"):
        raise DcomError(f"--report-cost {args.report_cost} is no .json file", hint="give the input FILE before it")
    if args.file is None:
        raise DcomError("no FILE given", hint="give a file made by `dcomc trace`, or - for standard input")
    if args.emit == "bin" and args.output in (None, "-"):
        what = "no output file given" if args.output is None else "a program is no text for standard output"
        raise DcomError(what, hint="add -o prog.bin")
    _check_outputs(args)
    machine = load_machine(args.machine)
    activations = _read_activations(args.activations)
    name, text = read_text(args.file, "give a file made by `dcomc trace`")

    def parse() -> "ModuleOp":
        return parse_module(text, name, make_context())

    watch = instrumentation(args, parse)
    with watch.times.measure("parse"):
        module = parse()
    lower(
        module,
        decomposition,
        args.machine,
        level=level,
        from_stage=args.from_stage,
        watch=watch,
        progress=True,
        explain=args.explain,
    )
    given = [each for each in args.of_decomposition if each != "--sites" or decomposition.weights is None]
    for line in (*warnings(module), *without_effect(module, given)):
        print(line, file=sys.stderr)
    if args.report_cost is not None:
        from dcomc.cost_report import report_costs

        report_costs(module, Path(args.report_cost) if args.report_cost else None)
    with watch.times.measure("write"):
        if args.emit in ("dcom", "cluster", "isa"):
            _write(print_module(module), args.output)
        else:
            from dcomc.encode import make_program

            factors = factors_of(module, decomposition, args.model, progress=True) if args.emit == "bin" else None
            program = make_program(module, machine, decomposition, Path(name).name, activations, factors)
            _emit(program, args)
            if args.emit == "bin" and program.launches and args.report_cost is None:
                from dcomc.cost_report import gain

                print(gain(module), file=sys.stderr)
    if watch.print_times:
        watch.times.print()
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Fail before long work where an output cannot be written, or would take the place of something that is read."""
    options = (args.config, args.activations, args.outliers, args.weight_statistics, args.machine, args.model)
    output = None if args.output in (None, "-") else Path(args.output)
    costs = Path(args.report_cost) if args.report_cost else None
    # IR may take the place of the IR that it is made from.
    check_output(output, *options, *([args.file] if args.emit in ("asm", "bin") else []))
    check_output(costs, args.file, *options)
    if output is not None and costs is not None and output.resolve() == costs.resolve():
        raise DcomError(f"-o and --report-cost are one file, {output}", hint="give two")


def _emit(program: "Program", args: argparse.Namespace) -> None:
    """Write a program as text or as a binary."""
    from dcomc.program import factors_file

    if args.emit == "asm":
        from dcomc.disassembler import disassemble

        _write(disassemble(program), args.output)
        return
    program.save(args.output)
    if not program.launches and not program.factors:
        of_config = "; --config has options of layers, and chooses none" if args.config else ""
        print(f"no layer is decomposed: choose some by --decompose-layers{of_config}", file=sys.stderr)
    layers = {launch.layer for launch in program.launches}
    instructions = sum(len(kernel.words) for kernel in program.kernels)
    print(
        f"compiled {counted(len(layers), 'layer')}: "
        f"{counted(len(program.launches), 'decomposition')} by {counted(len(program.kernels), 'kernel')} "
        f"of {counted(instructions, 'instruction')}, for {program.machine.name} ({program.machine.hash})",
        file=sys.stderr,
    )
    if isinstance(program.factors, Mapping) and program.factors:
        weights = sum(name.endswith(".core") for name in program.factors)
        size = sum(factor.nbytes for factor in program.factors.values()) / 1e6
        file = factors_file(Path(args.output))
        print(f"{counted(weights, 'weight')} in factors, {size:.3g} MB, in {file}", file=sys.stderr)


def _write(text: str, output: str | None) -> None:
    if output in (None, "-"):
        sys.stdout.write(text)
    else:
        write_text(Path(str(output)), text)


def _decomposition(args: argparse.Namespace) -> "Decomposition":
    from dcomc.config import LIMITS, check_limits
    from dcomc.pipeline import Decomposition

    decomposition = Decomposition(
        layers=parse_layers(args.decompose_layers),
        sites=_parts(args.sites),
        rank=args.rank,
        iterations=args.iterations,
        reorthogonalisation=args.reorthogonalisation,
        seed=args.seed,
        gram_schmidt=args.gram_schmidt,
        start=args.start,
        outliers=_outliers(args.outliers),
        block=args.block,
        energy=args.energy,
        exact_rows=args.exact_rows,
        reuse=_parts(args.reuse) if args.reuse else (),
        config=args.config,
        weights=_weights(args),
        mapping=args.mapping,
        streams=args.streams,
    )
    for option in LIMITS:
        value = getattr(decomposition, option)
        if not isinstance(value, str):
            check_limits(option, value)
    return decomposition


def _weights(args: argparse.Namespace) -> "WeightDecomposition | None":
    from dcomc.pipeline import WeightDecomposition
    from passes._sites import read_config

    if args.weight_rank is None and not read_config(args.config).sets("weight_rank"):
        for option, unset in (("layers", None), ("sites", None), ("statistics", None), ("method", "svd")):
            if getattr(args, f"weight_{option}") != unset:
                raise DcomError(f"--weight-{option} needs --weight-rank", hint="for example --weight-rank 64")
        if args.model is not None:
            what = "--model is for weights in factors, and no --weight-rank is given"
            raise DcomError(what, hint="leave it out, or add for example --weight-rank 64")
        return None
    if not args.weight_layers and not args.decompose_layers:
        raise DcomError("--weight-rank has no layers", hint="choose some by --weight-layers or --decompose-layers")
    if args.emit == "bin" and args.model is None:
        raise DcomError("--weight-rank needs --model", hint="give the model that was traced")
    return WeightDecomposition(
        layers=parse_layers(args.weight_layers or args.decompose_layers, "--weight-layers"),
        sites=_parts(args.weight_sites or args.sites),
        rank=args.weight_rank or 0,
        method=args.weight_method,
        statistics=args.weight_statistics,
    )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def parse_layers(text: str, option: str = "--decompose-layers") -> tuple[int, ...]:
    """The layers of a list such as `10,15` or `1-3,7`, each once, in order.

    Of a range beyond `MOST_LAYERS` its first so many are taken and its last: the model lacks one of them, and which
    layers it has is for the error to say that the first pass raises. `option` is where the list was given.

    Raises:
        DcomError: a part is neither a number nor a range.
    """
    layers: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise DcomError(f"{option}: '{part}' is no layer", hint="write numbers and ranges: 10,15 or 1-31")
        layers.update((*range(first, min(last, first + MOST_LAYERS)), last))
    return tuple(sorted(layers))


def _outliers(text: str) -> float | str:
    """A percentage of channels, or the file of a thresholds table."""
    try:
        return float(text)
    except ValueError:
        if not text:
            raise DcomError("--outliers is empty", hint="give a percentage, or a thresholds TOML file") from None
        return text


def _read_activations(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    from dcomc.activations import read_archive, to_half

    return to_half(read_archive(path))
