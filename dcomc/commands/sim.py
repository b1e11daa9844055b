"""Simulate a program's decompositions: their cycles and the error of their factors."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomc.commands._engine import add_engine_arguments, count
from dcomc.diagnostics import DcomError, check_output, counted, say_written, write_text

if TYPE_CHECKING:
    from dcomc.perfetto_trace import Window
    from dcomc.simulate import Simulation
    from runtime.machine import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        nargs="+",
        metavar="PROG.bin",
        help="programs, made by `dcomc compile` or `dcomc asm`; of several, --stats "
        "names a folder for a file of numbers each, and those that are there already are not run again",
    )
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="programs at a time, in a process each")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="activations: .npy [S, H] or [B, S, H] for launches of that shape, or .npz by `layer10.qkv`; without it "
        "those stored in the program, else made from the seed with a decaying spectrum",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="for activations that are made (default: %(default)s)"
    )
    parser.add_argument("--timing-only", action="store_true", help="count cycles without data")
    parser.add_argument("--machine", metavar="NAME|FILE.toml", help="check that the program is for this machine")
    parser.add_argument("--no-errors", action="store_true", help="do not compare the factors with the activations")
    add_engine_arguments(parser)
    parser.add_argument(
        "--max-instructions",
        type=_instructions,
        metavar="N",
        default=20_000_000,
        help="refuse a program with a stream that would issue more (default: 20 million, minutes to hours)",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write a trace of units, banks and stalls for ui.perfetto.dev, as if there were no breakdowns; needs the "
        "extra `perfetto`",
    )
    parser.add_argument(
        "--trace-window",
        type=_window,
        metavar="A:B",
        help="only what goes on in cycles A to before B; either may be left out",
    )
    parser.add_argument("--stats", "--json", type=Path, metavar="FILE.json|FOLDER", help="write all numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Simulate the program and report."""
    # NumPy and the dialects take a tenth of a second to import, which `--help` need not wait for.
    import dcomc
    from dcomc.container import check_machine
    from dcomc.perfetto_trace import LARGE_BYTES, Window, check_perfetto, trace_size, write_trace
    from runtime.accelerator import check_lengths
    from runtime.machine import load_machine

    machine = None if args.machine is None else load_machine(args.machine)
    if args.trace is None and args.trace_window is not None:
        raise DcomError("--trace-window is of a trace", hint="give --trace FILE, too")
    if len(args.program) > 1:
        return _run_several(args, machine)
    check_output(args.stats, *args.program, args.input)
    check_output(args.trace, *args.program, args.input)
    if args.trace is not None:
        check_perfetto()
    program = dcomc.load(args.program[0])
    if machine is not None:
        check_machine(program, machine)
    if args.trace is not None:
        check_lengths(program, args.max_instructions)
        expected = trace_size(program, args.trace_window or Window(), args.max_instructions)
        if expected.bytes > LARGE_BYTES:
            print(expected, file=sys.stderr)
    simulation = program.simulate(args.input, **_options(args), progress=True)
    _print(simulation)
    if args.stats is not None:
        document = {**simulation.to_json(), "options": dict(program.options)}
        write_text(args.stats, json.dumps(document, indent=1) + "\n")
    if args.trace is not None:
        write_trace(program, args.trace, args.trace_window or Window(), args.max_instructions)
        say_written(args.trace)
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `Program.simulate`."""
    names = ("seed", "timing_only", "engine", "threads", "memory_limit", "max_instructions")
    return {**{name: getattr(args, name) for name in names}, "errors": not args.no_errors}


def _run_several(args: argparse.Namespace, machine: "Machine | None") -> int:
    """Simulate programs into a folder; 1 where one of them fails, which does not keep the others."""
    from dcomc.batch import announce, jobs_of, make_folder, run_jobs
    from dcomc.tables import print_table
    from runtime.engines import processors

    programs = [Path(program) for program in args.program]
    _check_distinct(programs)
    if args.trace is not None:
        raise DcomError("--trace is of one program", hint="give one, or leave --trace out")
    if args.stats is None:
        raise DcomError("several programs leave a file of numbers each", hint="give a folder for them: --stats FOLDER")
    options = _options(args)
    processes = min(args.jobs, len(args.program))
    if processes > 1:
        options["threads"] = options["threads"] or max(1, processors() // processes)
        options["memory_limit"] = options["memory_limit"] and options["memory_limit"] // processes
    inputs = None if args.input is None else Path(args.input)
    jobs = jobs_of(programs, args.stats, inputs, options)
    rest = [job for job in jobs if not job.finished()]
    rows = [(job.program.name, "kept", "", str(job.stats)) for job in jobs if job not in rest]
    announced = announce(rest, processes, machine)
    if announced.ready:
        make_folder(args.stats)
        print(announced.text, file=sys.stderr)
    failed = 0
    for outcome in chain(announced.refused, run_jobs(announced.ready, processes)):
        if outcome.error is not None:
            failed += 1
            print(f"{outcome.job.program}: {outcome.error}", file=sys.stderr)
            continue
        rows.append((outcome.job.program.name, "simulated", f"{outcome.cycles:,}", str(outcome.job.stats)))
        print(f"{outcome.job.program}: {outcome.cycles:,} cycles", file=sys.stderr)
    if rows:
        print_table(("program", "", "cycles", "numbers"), rows)
    return 1 if failed else 0


def _check_distinct(programs: Sequence[Path]) -> None:
    files = [program.resolve() for program in programs]
    for number, file in enumerate(files):
        if file in files[:number]:
            raise DcomError(f"{programs[number]} is given twice", hint="give each program once")


def _instructions(text: str) -> int:
    from runtime.sequencer import ISSUE_LIMIT

    if not text.isdecimal() or not 1 <= int(text) <= ISSUE_LIMIT:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of instructions from 1 to {ISSUE_LIMIT:,}")
    return int(text)


def _window(text: str) -> "Window":
    from dcomc.perfetto_trace import Window

    first, colon, end = text.partition(":")
    numbers = [int(part) if part.isdecimal() else None for part in (first or "0", end)]
    if not colon or numbers[0] is None or (end and (numbers[1] is None or numbers[1] <= numbers[0])):
        raise argparse.ArgumentTypeError(f"'{text}' is no window of cycles, such as 1000:2000 or 5000:")
    return Window(numbers[0], numbers[1])


def _print(simulation: "Simulation") -> None:
    from dcomc.tables import duration, energy, print_table
    from runtime.instructions import Unit
    from runtime.technology import load_technology

    machine, results = simulation.machine, simulation.launches
    print(f"machine: {machine.name} ({machine.hash}), {machine.clock.hz / 1e9:g} GHz")
    if not results:
        print("the program decomposes nothing: it has no launches")
        return
    sources = list(dict.fromkeys(result.source for result in results))
    for number, source in enumerate(sources, start=1):
        print(f"activations{f' [{number}]' if len(sources) > 1 else ''}: {source}")
    if simulation.plan:
        print(f"engine: {simulation.plan.engine}")
    measured = any(result.relative_error is not None for result in results)
    headers = ["layer", "site", "shape", "rank", "steps", "cycles", "time", "arrays", "banks"]
    headers += ["error", "optimal"] if measured else []
    headers += ["input"] if len(sources) > 1 else []
    rows: list[list[str]] = []
    for result in results:
        launch = result.launch
        prompts = f"{launch.prompts} x " if launch.prompts > 1 else ""
        row = [
            str(launch.layer),
            launch.site,
            f"{prompts}{result.rows} x {result.cols}",
            str(launch.rank),
            "-".join(str(count) for count in sorted({min(result.steps), max(result.steps)}))
            if result.steps
            else str(result.iterations),
            f"{result.cycles:,}",
            duration(result.cycles / machine.clock.hz),
            f"{result.share(Unit.ARRAY):.1%}",
            f"{result.share(Unit.BANK):.1%}",
        ]
        row += [f"{error:.4f}" for error in (result.relative_error, result.optimal_error) if error is not None]
        rows.append([*row, f"[{sources.index(result.source) + 1}]"] if len(sources) > 1 else row)
    print_table(headers, rows)
    total = counted(len(results), "decomposition")
    print(f"\ntotal: {total}, {simulation.cycles:,} cycles, {duration(simulation.seconds)}")
    joules = simulation.joules(load_technology("15nm"))
    print(f"energy: {energy(joules)} (arrays, buffers and banks; 15nm)")
    if measured:
        print("error: ||X - U core V|| / ||X||; optimal: the least at that rank (truncated SVD)")
