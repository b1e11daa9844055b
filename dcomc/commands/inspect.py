"""Show what a program holds."""

import argparse
import json
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from dcomc.container import Container, read_container
from dcomc.places import spans
from dcomc.tables import make_console, print_table, value_text
from runtime.encoding import WORD_BYTES
from runtime.groups import Groups
from runtime.machine import Machine
from runtime.program import Kernel, KernelStream, Launch, Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG.bin", help="the program to show")
    parser.add_argument(
        "--all",
        action="store_true",
        help="a row for each decomposition and stream, not one for those that differ in the layer or the place alone",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")


def run(args: argparse.Namespace) -> int:
    container = read_container(args.program)
    if args.json:
        print(json.dumps(describe(container), indent=2, ensure_ascii=False))
    else:
        _print_tables(container, args.program, every=args.all)
    return 0


def describe(container: Container) -> dict[str, Any]:
    """What the container holds, as JSON values; sizes in bytes."""
    program = container.program
    return {
        "format": container.version,
        "bytes": container.bytes,
        "machine": {**asdict(program.machine), "hash": program.machine.hash},
        "sections": [asdict(section) for section in container.sections],
        "kernels": [_describe_kernel(kernel) for kernel in program.kernels],
        "launches": [_describe_launch(launch, program) for launch in program.launches],
        "activations": [{"key": key, "shape": list(values.shape)} for key, values in program.activations.items()],
        "host_lines": program.host.count("\n"),
        "options": dict(program.options),
    }


def _describe_kernel(kernel: Kernel) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "instructions": len(kernel.words),
        "code_bytes": len(kernel.words) * WORD_BYTES,
        "seed": kernel.seed,
        "streams": [asdict(stream) for stream in kernel.streams],
        **asdict(kernel.layout),
    }


def _describe_launch(launch: Launch, program: Program) -> dict[str, Any]:
    layout = program.kernel(launch.kernel).layout
    return {
        **asdict(launch),
        "rows": layout.rows,
        "cols": layout.cols,
        "iterations": layout.iterations,
        "stored": launch.key in program.activations,
    }


def _print_tables(container: Container, path: str, *, every: bool) -> None:
    program = container.program
    console = make_console()
    machine = program.machine
    console.print(f"{path}: dcom program, format {container.version}, {container.bytes:,} bytes", soft_wrap=True)
    console.print(
        f"machine {machine.name} ({machine.hash}): {machine.grid.rows} x {machine.grid.cols} clusters of "
        f"{machine.cluster.mac_rows} x {machine.cluster.mac_cols}, {machine.clock.hz / 1e9:g} GHz",
        soft_wrap=True,
    )
    print_table(("option", "value"), [(key, value_text(value)) for key, value in program.options.items()])
    print_table(
        ("section", "bytes", "SHA-256", "holds"),
        [(each.name, f"{each.bytes:,}", each.sha256[:16], each.what) for each in container.sections],
    )
    kernels = [
        (
            kernel.name,
            f"{kernel.layout.rows} x {kernel.layout.cols}",
            str(kernel.layout.iterations),
            f"{kernel.layout.slice_rows} x {kernel.layout.slice_cols}",
            "mean" if kernel.seed is None else str(kernel.seed),
            str(len(kernel.words)),
            f"{kernel.layout.bank_bytes:,}",
        )
        for kernel in program.kernels
    ]
    streams = [
        (kernel.name, *row)
        for kernel in program.kernels
        for row in _stream_rows(kernel, program.machine, together=not every)
    ]
    for columns, rows in (
        (("kernel", "S x H", "iterations", "slice", "seed", "instructions", "bytes a bank"), kernels),
        (("kernel", "streams", "clusters of each", "a matrix on", "at a time", "entry"), streams),
        *_launch_tables(program, together=not every),
    ):
        if rows:
            print_table(columns, rows)
    if not program.launches:
        console.print("\nno activation is decomposed")


def _stream_rows(kernel: Kernel, machine: Machine, *, together: bool) -> Iterator[tuple[str, ...]]:
    """Numbers and clusters of a kernel's streams, the clusters that hold a matrix, how many of these each works on at a
    time, and first instruction.

    Args:
        together: one row for those that follow one another and differ in their place on the grid alone.
    """

    def alike(numbered: tuple[int, KernelStream]) -> Hashable:
        number, stream = numbered
        return (stream.rows, stream.cols, stream.entry) if together else number

    for _, group in groupby(enumerate(kernel.streams_on(machine.grid)), alike):
        numbers, streams = zip(*group, strict=True)
        first, last = streams[0], streams[-1]
        part = machine.part(first.rows, first.cols)
        groups = Groups.of(kernel.layout, part.grid)
        place = f"rows {first.row}-{last.row + last.rows - 1}, columns {first.col}-{last.col + last.cols - 1}"
        yield (
            spans(numbers),
            f"{first.rows} x {first.cols}, {place}",
            f"{groups.rows} x {groups.cols}",
            str(groups.count * kernel.layout.in_flight),
            str(first.entry),
        )


def _launch_tables(program: Program, *, together: bool) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Headings and rows of what is decomposed by what, and of where that stands in the model.

    Args:
        together: one row for those that differ in the layer alone.
    """
    works: list[tuple[int, tuple[str, ...]]] = []
    sources: list[tuple[int, tuple[str, ...]]] = []
    for launch in program.launches:
        layout = program.kernel(launch.kernel).layout
        shape = f"{launch.prompts} x {layout.rows} x {layout.cols}"
        stored = ("stored" if launch.key in program.activations else "",) if program.activations else ()
        works.append((launch.layer, (launch.site, shape, str(launch.rank), launch.kernel, *stored)))
        module = launch.location.replace(f".{launch.layer}.", ".*.", 1) if together else launch.location
        sources.append((launch.layer, (launch.site, module)))
    headings = ("site", "prompts x S x H", "rank", "kernel", *(("activation",) if program.activations else ()))
    for names, found in ((headings, works), (("site", "from"), sources)):
        yield ("layers" if together else "layer", *names), _rows(found, together=together)


def _rows(found: Iterable[tuple[int, tuple[str, ...]]], *, together: bool) -> list[tuple[str, ...]]:
    """Rows that begin with the layer, or with the layers of those that are alike."""
    if not together:
        return [(str(layer), *row) for layer, row in found]
    layers: dict[tuple[str, ...], list[int]] = {}
    for layer, row in found:
        layers.setdefault(row, []).append(layer)
    return [(spans(sorted(numbers)), *row) for row, numbers in layers.items()]
