"""Simulate a program's decompositions: their cycles and the error of their factors."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomc.commands._engine import PromptProgress, add_engine_arguments
from dcomc.diagnostics import DcomError, check_output, write_text

if TYPE_CHECKING:
    from dcomc.simulate import LaunchResult
    from runtime.engines import Plan
    from runtime.program import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG", help="a program, made by `dcomc compile` or `dcomc asm`")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="activations: .npy [S, H] or [B, S, H] for launches of that shape, or .npz by `layer10.qkv`; without it "
        "those stored in the program, else made from the seed with a decaying spectrum",
    )
    parser.add_argument("--seed", type=int, default=0, help="for activations that are made (default: %(default)s)")
    parser.add_argument("--timing-only", action="store_true", help="count cycles without data")
    parser.add_argument("--machine", metavar="NAME|FILE.toml", help="check that the program is for this machine")
    parser.add_argument("--no-errors", action="store_true", help="do not compare the factors with the activations")
    add_engine_arguments(parser)
    parser.add_argument("--stats", type=Path, metavar="FILE.json", help="write all numbers as JSON")


def run(args: argparse.Namespace) -> int:
    # NumPy and the dialects take a tenth of a second to import, which `--help` need not wait for.
    from dcomc.activations import is_archive, read_archive, read_array
    from dcomc.container import check_machine, read_program
    from dcomc.simulate import beside_of, choose_inputs, simulate, work_of
    from runtime.engines import PATIENCE_SECONDS, plan
    from runtime.machine import load_machine

    if args.timing_only and args.input:
        raise DcomError("--timing-only needs no --input", hint="leave one of them out")
    if args.seed < 0:
        raise DcomError(f"--seed {args.seed} is negative", hint="give 0 or more")
    check_output(args.stats)
    program = read_program(args.program)
    if args.machine is not None:
        check_machine(program, load_machine(args.machine))
    given = None
    if args.input is not None:
        given = read_archive(args.input) if is_archive(args.input) else read_array(args.input)
    if args.timing_only:
        chosen, results = None, list(simulate(program, None))
    else:
        arrays = given.values() if isinstance(given, dict) else [] if given is None else [given]
        chosen = plan(
            args.engine,
            work_of(program),
            program.machine,
            threads=args.threads,
            memory_limit=args.memory_limit,
            held_bytes=sum(array.nbytes for array in (*arrays, *program.activations.values())),
            beside=beside_of(program, made=given is None, errors=not args.no_errors),
        )
        if chosen.seconds > PATIENCE_SECONDS:
            print(chosen, file=sys.stderr, flush=True)
        if isinstance(given, dict):
            unused = [name for name in given if name not in {launch.key for launch in program.launches}]
            if unused and len(unused) < len(given):
                print(f"{args.input}: not used by the program: {', '.join(unused)}", file=sys.stderr)
        inputs = choose_inputs(program, given, str(args.input), args.seed)
        with PromptProgress(sum(launch.prompts for launch in program.launches)) as progress:
            results = list(
                simulate(
                    program,
                    inputs,
                    engine=chosen.engine,
                    threads=chosen.threads,
                    errors=not args.no_errors,
                    progress=progress.advance,
                )
            )
    _print(program, results, chosen)
    if args.stats is not None:
        write_text(args.stats, json.dumps(_statistics(program, results, args, chosen), indent=1) + "\n")
    return 0


def _statistics(
    program: "Program", results: Iterable["LaunchResult"], args: argparse.Namespace, chosen: "Plan | None"
) -> dict[str, Any]:
    machine = program.machine
    decompositions = [result.to_json(machine.clock.hz) for result in results]
    return {
        "decompositions": decompositions,
        "total_cycles": sum(entry["cycles"] for entry in decompositions),
        "clock_hz": machine.clock.hz,
        "machine": {"name": machine.name, "hash": machine.hash},
        "engine": chosen.engine if chosen else "timing only",
        "seed": args.seed,
        "options": dict(program.options),
    }


def _print(program: "Program", results: list["LaunchResult"], chosen: "Plan | None") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from runtime.instructions import Unit

    machine = program.machine
    console = Console(width=None if Console().is_terminal else 120)
    print(f"machine: {machine.name} ({machine.hash}), {machine.clock.hz / 1e9:g} GHz")
    if not results:
        print("the program decomposes nothing: it has no launches")
        return
    sources = list(dict.fromkeys(result.source for result in results))
    for number, source in enumerate(sources, start=1):
        print(f"activations{f' [{number}]' if len(sources) > 1 else ''}: {source}")
    if chosen:
        print(f"engine: {chosen.engine}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("layer", "site", "shape", "rank", "steps", "cycles", "time", "arrays", "banks", "error", "optimal"):
        table.add_column(header, justify="left" if header == "site" else "right", no_wrap=True)
    if len(sources) > 1:
        table.add_column("input", justify="right", no_wrap=True)
    for result in results:
        launch = result.launch
        prompts = f"{launch.prompts} x " if launch.prompts > 1 else ""
        table.add_row(
            str(launch.layer),
            launch.site,
            f"{prompts}{result.rows} x {result.cols}",
            str(launch.rank),
            "-".join(str(count) for count in sorted({min(result.steps), max(result.steps)}))
            if result.steps
            else str(result.iterations),
            f"{result.cycles:,}",
            _time(result.cycles / machine.clock.hz),
            f"{result.share(Unit.ARRAY):.1%}",
            f"{result.share(Unit.BANK):.1%}",
            "" if result.relative_error is None else f"{result.relative_error:.4f}",
            "" if result.optimal_error is None else f"{result.optimal_error:.4f}",
            *([Text(f"[{sources.index(result.source) + 1}]")] if len(sources) > 1 else []),
        )
    console.print(table)
    total = sum(result.cycles for result in results)
    print(f"total: {len(results)} decompositions, {total:,} cycles, {_time(total / machine.clock.hz)}")
    if results[0].relative_error is not None:
        print("error: ||X - U core V|| / ||X||; optimal: the least at that rank (truncated SVD)")


def _time(seconds: float) -> str:
    """A time with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
