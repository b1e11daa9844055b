"""Compute the paper's figures, tables and equations, and say of each claim whether it is reproduced."""

import argparse
from pathlib import Path

from dcomc.diagnostics import DcomError, check_output, counted

QUALITY = "quality"
QUALITY_TIME = "about 100 minutes on 2 processors"
"""As measured: 97 minutes, with other work beside it."""
_HARDWARE = {"gpu": "a100-80gb", "machine": "dcom-16x16", "tp": 4}
"""Options of figures and tables, with their defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc reproduce`."""
    from dcomc.reproduce import WHAT

    parser.add_argument(
        "what",
        nargs="+",
        choices=(*WHAT, "all", QUALITY),
        metavar="WHAT",
        help=f"all, or of: {', '.join(WHAT)}; or {QUALITY}: perplexities and accuracies of a small model, in "
        f"FOLDER/quality.md, {QUALITY_TIME}",
    )
    parser.add_argument(
        "--gpu", default=_HARDWARE["gpu"], metavar="NAME|FILE.toml", help="the host's GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--machine",
        default=_HARDWARE["machine"],
        metavar="NAME|FILE.toml",
        help="the accelerator (default: %(default)s)",
    )
    parser.add_argument(
        "--tp", type=int, choices=(1, 2, 4, 8), default=_HARDWARE["tp"], help="GPUs that share the model (default: 4)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write FOLDER/reproduction.md, with plots and numbers beside it",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUALITY}: little of everything, in minutes")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help=f"{QUALITY}: begin no run after N minutes; the page says what is missing, and the next call goes on",
    )


def run(args: argparse.Namespace) -> int:
    """Reproduce, print, and write the report."""
    from dcomc.reproduce import SECONDS, WHAT, reproduction
    from dcomc.reproduce.report import claim_rows, reasons, write_report
    from dcomc.reproduce.workbench import Workbench
    from dcomc.tables import print_notes, print_table

    if QUALITY in args.what:
        return _quality(args)
    for option, given in (("quick", args.quick), ("minutes", args.minutes is not None)):
        if given:
            raise DcomError(f"--{option} is of {QUALITY}", hint="leave it out, or reproduce that alone")
    if args.output is not None:
        _check_folder(args.output, "reproduction")
    bench = Workbench(args.gpu, args.machine, args.tp)
    names = [name for name in WHAT if name in args.what or "all" in args.what]
    cost = f"about {sum(SECONDS[name] for name in names)} s of a processor"
    bench.say(f"{', '.join(names)}, of {bench.gpu.name} and {bench.machine.name}: {cost}")
    results = [reproduction(name)(bench) for name in names]
    for result in results:
        print(f"{result.name}: {WHAT[result.name]}")
        print_notes([result.setting])
        print_table(("claim", "paper", "ours", "range", "ratio", "verdict"), claim_rows(result.claims))
        print_notes((f"{about}: {why}" for why, about in reasons(result.claims).items()), indent=2)
    if args.output is not None:
        for file in write_report(results, args.output)[:1]:
            print(f"wrote {file}")
    return 0


def _check_folder(folder: Path, name: str) -> None:
    """Fail before long work where `name.md`, and the folder `name` of its numbers, cannot be written."""
    if not folder.is_dir():
        what = f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}"
        raise DcomError(what, hint="give one that exists, such as docs")
    check_output(folder / f"{name}.md")
    try:
        (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise DcomError(f"cannot write {folder / name}: {error.strerror}", hint="give another folder") from error


def _quality(args: argparse.Namespace) -> int:
    """Write quality.md; its runs are its own."""
    if set(args.what) != {QUALITY}:
        raise DcomError(f"{QUALITY} is reproduced alone", hint=f"dcomc reproduce {QUALITY} -o docs")
    for option, default in _HARDWARE.items():
        if getattr(args, option) != default:
            raise DcomError(f"--{option} is of figures and tables", hint=f"leave it out: {QUALITY} depends on none")
    if args.output is None:
        raise DcomError(f"{QUALITY} needs a folder for its results", hint="give one that exists, such as -o docs")
    _check_folder(args.output, QUALITY)
    if args.minutes is not None and not args.minutes >= 0:
        raise DcomError(f"minutes {args.minutes:g} is below 0", hint="0 writes the page anew from what is there")
    from dcomc.progress import speaker
    from dcomc.quality.lab import FULL, QUICK
    from dcomc.quality.report import reproduce

    settings, say = (QUICK if args.quick else FULL), speaker(True)
    cost = "under 10 minutes on 2 processors" if args.quick else QUALITY_TIME
    say(f"{cost}, less what {args.output / QUALITY} has; a line for each run when it is done")
    page, missing = reproduce(args.output, settings, minutes=args.minutes, say=say)
    print(f"wrote {page}" + (f"; {counted(missing, 'run')} missing, which the same command makes" if missing else ""))
    return 0
