"""Show what a program's cycles are spent on, without data: by decomposition, kernel, operation, line of the model, …"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcomc.profile import Line, Profile
    from runtime.technology import Technology

VIEWS = {
    "decomposition": "decomposition",
    "kernel": "kernel",
    "stream": "stream",
    "line": "line of the model",
    "op": "operation of the kernel",
    "opcode": "opcode",
    "instruction": "instruction",
}
SHOWN = ("kernel", "line", "op")
NUMBERS: dict[str, "Callable[[Line], int]"] = {
    "cycles": lambda line: line.counts.cycles,
    "waits": lambda line: line.counts.cycles - line.counts.causes.get("issue", 0),
    "instructions": lambda line: line.counts.instructions,
    "bytes": lambda line: line.counts.all_bank_bytes,
}
"""What lines can be sorted by beside their names; those of a bank are of all banks, read and written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG.bin", help="a program, made by `dcomc compile` or `dcomc asm`")
    parser.add_argument(
        "--by",
        action="append",
        choices=VIEWS,
        help=f"what to tell cycles by; may be given several times (default: {', '.join(SHOWN)})",
    )
    parser.add_argument(
        "--sort", choices=(*NUMBERS, "name"), default="cycles", help="order of the lines (default: cycles)"
    )
    parser.add_argument("--top", type=_positive, metavar="N", default=10, help="lines of each (default: %(default)s)")
    parser.add_argument(
        "--technology", default="15nm", metavar="NAME|FILE.toml", help="of energies (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every line of every view")


def run(args: argparse.Namespace) -> int:
    """Time the program and report."""
    # NumPy and the dialects take a tenth of a second to import, which `--help` need not wait for.
    import dcomc
    from dcomc.profile import profile
    from runtime.technology import load_technology

    technology = load_technology(args.technology)
    told = profile(dcomc.load(args.program))
    if args.json:
        print(json.dumps(told.to_json(technology), indent=1, ensure_ascii=False))
        return 0
    _print_summary(told, technology)
    if told.launches:
        several = any(launch.kernel.streams for launch in told.launches)
        for view in args.by or (*SHOWN, *(["stream"] if several else [])):
            _print_view(told, view, args.sort, args.top)
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of lines from 1 upwards")
    return int(text)


def _print_summary(told: "Profile", technology: "Technology") -> None:
    from dcomc.diagnostics import counted
    from dcomc.tables import duration, energy, make_console
    from runtime.counts import Direction, Use
    from runtime.energy import energies

    machine, total = told.machine, told.total
    lines = [f"machine: {machine.name} ({machine.hash}), {machine.clock.hz / 1e9:g} GHz"]
    if told.launches:
        cycles, uses = told.cycles, told.uses
        products = sum(uses.values())
        busy = {unit.value: share for unit, share in told.busy.items()}
        moved = (f"{way.value} {total.bank_bytes(way):,}" for way in Direction)
        lines += [
            f"total: {cycles:,} cycles, {duration(cycles / machine.clock.hz)}, {total.instructions:,} instructions",
            *_side_by_side(total.cycles, cycles),
            f"cycles: {_shares(told.causes, cycles)}",
            f"busy: {_shares(busy, cycles)}",
            f"multiplications: {products:,}: {_shares({use.value: uses[use] for use in Use}, products)}",
            f"bank bytes: {', '.join(moved)}, of {counted(machine.grid.cols, 'bank')}",
            f"energy in {technology.name}: "
            + ", ".join(f"{unit} {energy(joules)}" for unit, joules in energies(total, technology).items()),
        ]
    else:
        lines.append("the program decomposes nothing: it has no launches")
    console = make_console()
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)


def _side_by_side(summed: int, cycles: int) -> list[str]:
    """Says of several streams what is their mean and what adds up their cycles."""
    return (
        [f"streams: side by side; causes are their mean, the tables below add up their cycles, {summed:,} together"]
        if summed > cycles
        else []
    )


def _shares(parts: "Mapping[str, float]", whole: int) -> str:
    """Each part's share of the whole, the largest first."""
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {part / whole:.1%}" for name, part in ordered if part)


def _print_view(told: "Profile", view: str, sort: str, top: int) -> None:
    from dcomc.tables import print_table

    lines = sorted(told.by(view), key=_order(sort))
    total = told.total.cycles
    more = [] if sort in ("cycles", "name") else [sort]
    rows: list[tuple[str, ...]] = []
    for line in lines[:top]:
        numbers = [f"{line.counts.cycles:,}", f"{line.counts.cycles / total:.1%}"]
        numbers += [f"{NUMBERS[each](line):,}" for each in more]
        rows.append((_short(line.name), *numbers, _longest_wait(line)))
    cycles = "cycles" if total == told.cycles else "cycles of all streams"
    print_table((VIEWS[view], cycles, "share", *more, "waits most for"), rows)
    if len(lines) > top:
        rest = sum(line.counts.cycles for line in lines[top:])
        print(f"and {len(lines) - top} more, {rest / total:.1%} of the cycles (--top {len(lines)} shows all)")


def _order(sort: str) -> "Callable[[Line], tuple[int, str]]":
    """What lines are sorted by: the largest first, and those alike by name."""
    return lambda line: (-NUMBERS[sort](line) if sort in NUMBERS else 0, line.name)


def _longest_wait(line: "Line") -> str:
    waits = {cause: cycles for cause, cycles in line.counts.causes.items() if cause != "issue"}
    if not waits:
        return ""
    cause = max(waits, key=lambda cause: waits[cause])
    return f"{waits[cause] / line.counts.cycles:.0%} {cause}"


def _short(name: str) -> str:
    """The name without the folders of files."""
    return re.sub(r"[^\s(]*/", "", name)
