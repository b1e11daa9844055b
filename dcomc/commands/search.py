"""Choose what to decompose within a budget, from calibrations, and confirm it on text: a file for compile --config."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dcomc.diagnostics import DcomError, check_output

if TYPE_CHECKING:
    from dcomc.search.search import Found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc search`."""
    parser.add_argument("model", metavar="MODEL", help="a model with weights: folder, GGUF file, or preset")
    parser.add_argument(
        "--calibration",
        nargs="+",
        required=True,
        metavar="FILE.toml",
        help="tables made by `dcomc calibrate` of this model, each for a rank, a block or a share of outliers to "
        "choose from",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar="FILE",
        help="texts to choose and to confirm on, others than those of the calibration: files, data sets, or folders",
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--layers",
        type=int,
        metavar="N",
        help="decompose N layers, and leave no more operations of them than the first calibration does",
    )
    budget.add_argument(
        "--operations", type=float, metavar="SHARE", help="operations of all projections that may be left, such as 0.9"
    )
    budget.add_argument(
        "--runtime",
        type=float,
        metavar="SHARE",
        help="seconds that may be taken of the dense model's, on GPUs with a D-com, as `dcomc estimate` has them",
    )
    parser.add_argument(
        "--gpu", default="a100-80gb", metavar="NAME|FILE.toml", help="of --runtime (default: %(default)s)"
    )
    parser.add_argument("--tp", type=int, choices=(1, 2, 4, 8), default=1, help="GPUs of --runtime (default: 1)")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="prompts of --runtime (default: 1)")
    parser.add_argument("--graph", action="store_true", help="--runtime: launch kernels as nodes of a graph")
    parser.add_argument(
        "--machine", default="dcom-16x16", metavar="NAME|FILE.toml", help="D-com of --runtime (default: %(default)s)"
    )
    parser.add_argument(
        "--sites", default="qkv,o,gate_up,down", metavar="LIST", help="inputs to decompose (default: %(default)s)"
    )
    parser.add_argument("--confirm", type=int, default=4, metavar="K", help="candidates to run (default: %(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, default=8192, metavar="N", help="tokens to run them on (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.toml", help="where to write the file")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg|png", help="draw loss against operations")
    parser.add_argument(
        "--restart", action="store_true", help="begin anew where FILE.toml.state has an interrupted search"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="where torch computes, such as cuda:0 (default: cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Search, show the candidates, and draw."""
    check_output(args.output, *args.calibration, *args.text)
    check_output(args.plot, *args.calibration, *args.text)
    if args.plot is not None and args.plot.suffix not in (".svg", ".png"):
        raise DcomError(f"a plot is no {args.plot.suffix or 'file without an ending'}", hint="name it .svg or .png")
    if args.plot is not None:
        from dcomc.reproduce.plots import check_plots

        check_plots()
    if args.batch < 1:
        raise DcomError(f"--batch {args.batch} is too small", hint="give 1 or more")
    from dcomc.estimate import Options
    from dcomc.search.candidates import Budget
    from dcomc.search.search import search
    from runtime.gpu import load_gpu

    found = search(
        args.model,
        args.calibration,
        args.text,
        args.output,
        Budget(args.layers, args.operations, args.runtime),
        sites=tuple(part.strip() for part in args.sites.split(",")),
        confirm=args.confirm,
        max_tokens=args.max_tokens,
        host=Options(load_gpu(args.gpu), args.tp, args.batch, args.graph),
        machine=args.machine,
        restart=args.restart,
        device=args.device,
        progress=True,
    )
    _print(found)
    if args.plot is not None:
        _plot(found, args.plot)
    return 0


def _print(found: "Found") -> None:
    from math import exp

    from dcomc.tables import print_table

    rows = [
        (
            each.candidate.name,
            ",".join(map(str, each.candidate.layers)),
            f"{exp(each.candidate.loss):.4f}",
            f"{each.ratio:.4f}",
            f"{each.kept.products:.1%}",
            f"{each.kept.model:.1%}",
            f"{each.kept.matvecs:.0f}",
            *(() if each.runtime is None else (f"{each.runtime:.1%}",)),
        )
        for each in found.confirmed
    ]
    columns = ["candidate", "layers", "expected", "ratio", "of their sites", "of all", "matvecs"]
    caption = (
        f"ratio: perplexity over the dense one, on {found.tokens:,} tokens; expected: from the calibrations\n"
        "of their sites, of all: operations of projections that are left; matvecs: matrix-vector operations a site"
    )
    if found.confirmed[0].runtime is not None:
        columns.append("runtime")
        caption += "; runtime: over the dense model's"
    print_table(columns, rows, caption=caption)


def _plot(found: "Found", file: Path) -> None:
    from math import exp

    from dcomc.reproduce.claims import Curve, Plot
    from dcomc.reproduce.plots import draw

    front = sorted(found.front, key=lambda candidate: candidate.operations)
    measured = sorted(found.confirmed, key=lambda each: each.kept.model)
    curves = [
        Curve("expected", [each.operations for each in front], [exp(each.loss) for each in front]),
        Curve("measured", [each.kept.model for each in measured], [each.ratio for each in measured]),
    ]
    plot = Plot(
        "Perplexity against operations",
        "operations of all projections that are left",
        "perplexity over the dense one",
        curves,
        logarithmic=False,
    )
    draw(plot, file)
