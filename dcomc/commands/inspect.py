"""Show what a program holds."""

import argparse
import json
from dataclasses import asdict
from typing import Any, cast

from dcomc.container import Container, read_container
from dcomc.tables import make_console, print_table
from runtime.encoding import WORD_BYTES
from runtime.program import Kernel, Launch, Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG.bin", help="the program to show")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")


def run(args: argparse.Namespace) -> int:
    container = read_container(args.program)
    if args.json:
        print(json.dumps(describe(container), indent=2, ensure_ascii=False))
    else:
        _print_tables(container, args.program)
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


def _print_tables(container: Container, path: str) -> None:
    program = container.program
    console = make_console()
    machine = program.machine
    console.print(f"{path}: dcom program, format {container.version}, {container.bytes:,} bytes", soft_wrap=True)
    console.print(
        f"machine {machine.name} ({machine.hash}): {machine.grid.rows} x {machine.grid.cols} clusters of "
        f"{machine.cluster.mac_rows} x {machine.cluster.mac_cols}, {machine.clock.hz / 1e9:g} GHz",
        soft_wrap=True,
    )
    print_table(("option", "value"), [(key, _option_text(value)) for key, value in program.options.items()])
    print_table(
        ("section", "bytes", "SHA-256", "holds"),
        [(each.name, f"{each.bytes:,}", each.sha256[:16], each.what) for each in container.sections],
    )
    print_table(
        ("kernel", "S x H", "iterations", "slice", "seed", "instructions", "code bytes", "bytes a bank"),
        [
            (
                kernel.name,
                f"{kernel.layout.rows} x {kernel.layout.cols}",
                str(kernel.layout.iterations),
                f"{kernel.layout.slice_rows} x {kernel.layout.slice_cols}",
                "mean" if kernel.seed is None else str(kernel.seed),
                str(len(kernel.words)),
                f"{len(kernel.words) * WORD_BYTES:,}",
                f"{kernel.layout.bank_bytes:,}",
            )
            for kernel in program.kernels
        ],
    )
    launches: list[tuple[str, ...]] = []
    for launch in program.launches:
        layout = program.kernel(launch.kernel).layout
        launches.append(
            (
                str(launch.layer),
                launch.site,
                f"{launch.prompts} x {layout.rows} x {layout.cols}",
                str(launch.rank),
                str(layout.iterations),
                launch.kernel,
                "stored" if launch.key in program.activations else "",
                launch.location,
            )
        )
    columns = ("layer", "site", "prompts x S x H", "rank", "iterations", "kernel", "activation", "from")
    print_table(columns, launches)


def _option_text(value: object) -> str:
    """A JSON value; the entries of an object one after another, without its braces."""
    if isinstance(value, dict):
        entries = cast(dict[str, object], value).items()
        return ", ".join(f"{key} {json.dumps(entry, ensure_ascii=False)}" for key, entry in entries)
    return json.dumps(value, ensure_ascii=False)
