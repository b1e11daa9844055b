"""The equal rectangles of clusters on which streams of a kernel run side by side."""

import re
from dataclasses import replace

from dcomc.diagnostics import DcomError
from dialects.cluster import KernelOp
from dialects.isa import Rectangle
from passes._kernels import dictionary, numbers
from runtime.machine import Machine

ROWS_AND_COLUMNS = re.compile(r"([1-9]\d*)x([1-9]\d*)", re.ASCII)
"""As `8x16`."""
Sides = tuple[int, int]
"""A number of rows and one of columns."""
ONE_STREAM: Sides = 1, 1
_SIDES = "across", "down"


def parse_streams(text: str, machine: Machine) -> Sides:
    """How many rectangles a text such as `2x2` asks for, down and across.

    Raises:
        DcomError: it is none, or they do not fill the grid.
    """
    match, grid = ROWS_AND_COLUMNS.fullmatch(text), machine.grid
    if match is None:
        raise DcomError(f"streams '{text}' are no rows and columns", hint="such as 2x2, 1x1 for one stream, or auto")
    down, across = int(match[1]), int(match[2])
    if grid.rows % down or grid.cols % across:
        raise DcomError(
            f"{down} x {across} streams do not fill the {grid.rows} x {grid.cols} clusters of {machine.name}",
            hint="give divisors of these",
        )
    return down, across


def part_of_each(streams: Sides, machine: Machine) -> Machine:
    """The rectangle of each of so many streams, with its share of each bank, as a machine of its own."""
    down, across = streams
    part = machine.part(machine.grid.rows // down, machine.grid.cols // across)
    return (
        part if down == 1 else replace(part, bank=replace(part.bank, capacity_bytes=part.bank.capacity_bytes // down))
    )


def part_of_mapped(kernel: KernelOp, machine: Machine) -> Machine:
    """The same of a mapped kernel."""
    return part_of_each(_sides(kernel, machine), machine)


def set_streams(kernel: KernelOp, streams: Sides) -> None:
    """Give a kernel its streams, so many down and across."""
    kernel.properties.pop("streams", None)
    if streams != ONE_STREAM:
        kernel.properties["streams"] = dictionary(dict(zip(_SIDES, reversed(streams), strict=True)))


def rectangles(kernel: KernelOp, machine: Machine) -> list[Rectangle]:
    """Those of a mapped kernel's streams, row by row; none where it has one stream."""
    down, across = _sides(kernel, machine)
    rows, cols = machine.grid.rows // down, machine.grid.cols // across
    if (down, across) == ONE_STREAM:
        return []
    return [(row * rows, col * cols, rows, cols) for row in range(down) for col in range(across)]


def _sides(kernel: KernelOp, machine: Machine) -> Sides:
    if kernel.streams is None:
        return ONE_STREAM
    found = numbers(kernel, kernel.streams, _SIDES)
    return parse_streams(f"{found['down']}x{found['across']}", machine)
