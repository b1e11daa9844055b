"""What must hold of a program beyond its form: references lead somewhere, data lies where there is room."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise, product
from math import ceil

import numpy as np

from dcomc.diagnostics import DcomError
from dialects.dcom import SITES
from runtime.groups import Groups
from runtime.machine import Machine
from runtime.operands import LABEL, TARGET, OperandError
from runtime.program import Kernel, KernelLayout, Launch, Program

LIMIT = 1 << 63
"""Numbers in a program are below this."""
MOST_IN_FLIGHT = 64
"""Matrices of a group at a time: more would not fit into any buffer."""
MOST_PROMPTS = 1 << 24
"""The most prompts of a launch: more take days on any machine, and no memory holds what each of them gave."""


class ProgramError(DcomError):
    """What does not hold; `part` is the kernel or launch."""

    def __init__(self, part: str, what: str) -> None:
        super().__init__(f"{part}: {what}")
        self.part = part


def check_program(program: Program) -> None:
    """Raise `ProgramError` for the first thing that does not hold."""
    kernels: dict[str, Kernel] = {}
    for kernel in program.kernels:
        if kernel.name in kernels or not kernel.name:
            raise ProgramError("kernels", f"the name '{kernel.name}' is empty or given twice")
        kernels[kernel.name] = kernel
        check_kernel(kernel, program.machine)
    launches: dict[str, Launch] = {}
    for launch in program.launches:
        if launch.key in launches:
            raise ProgramError(f"launch {launch.key}", "stands twice")
        launches[launch.key] = launch
        _check_launch(launch, kernels)
    for key, values in program.activations.items():
        if key not in launches:
            raise ProgramError(f"activation {key}", "there is no such launch")
        layout = kernels[launches[key].kernel].layout
        shape = (launches[key].prompts * layout.rows, layout.cols)
        if values.dtype != np.float16 or values.shape != shape:
            raise ProgramError(
                f"activation {key}", f"{values.dtype} of shape {values.shape}, but its launch takes float16 of {shape}"
            )


def check_kernel(kernel: Kernel, machine: Machine) -> None:
    """Raise `ProgramError` for the first thing that does not hold of a kernel."""
    part = f"kernel {kernel.name}"
    if not kernel.words:
        raise ProgramError(part, "has no instructions")
    if len(kernel.locations) != len(kernel.words):
        raise ProgramError(part, f"{len(kernel.locations)} locations for {len(kernel.words)} instructions")
    if kernel.seed is not None and not 0 <= kernel.seed < LIMIT:
        raise ProgramError(part, f"seed {kernel.seed} is out of range")
    for index, name in kernel.labels.items():
        if not 0 <= index <= len(kernel.words) or not LABEL.fullmatch(name):
            raise ProgramError(part, f"label '{name}' at instruction {index} is none")
    if len(set(kernel.labels.values())) != len(kernel.labels):
        raise ProgramError(part, "a label stands twice")
    for index, word in enumerate(kernel.words):
        for (name, kind), raw in zip(word.instruction.operands, word.operands, strict=True):
            place = f"instruction {index}, {word.instruction.mnemonic}"
            try:
                kind.check(raw, f"{name} = {raw}")
            except OperandError as error:
                raise ProgramError(part, f"{place}: {error}") from error
            if kind is TARGET and not index < raw <= len(kernel.words):
                raise ProgramError(part, f"{place}: {name} {raw} is no later place in the kernel")
    for what in chain(_stream_faults(kernel, machine), _layout_faults_of(kernel, machine)):
        raise ProgramError(part, what)


def _stream_faults(kernel: Kernel, machine: Machine) -> Iterator[str]:
    grid, taken = machine.grid, dict[tuple[int, int], int]()
    if len(kernel.streams) == 1:
        yield "one stream alone has all clusters and is not listed"
    for number, stream in enumerate(kernel.streams):
        rows, cols = range(stream.row, stream.row + stream.rows), stream.columns
        inside = 0 <= stream.row < rows.stop <= grid.rows and 0 <= stream.col < cols.stop <= grid.cols
        if not inside:
            yield f"stream {number}: {stream} are not on the grid of {grid.rows} x {grid.cols}"
            return
        for cluster in product(rows, cols):
            if cluster in taken:
                at = f"row {cluster[0]}, column {cluster[1]}"
                yield f"stream {number}: the cluster at {at} is of stream {taken[cluster]}, too"
                return
            taken[cluster] = number
        if not 0 <= stream.entry < len(kernel.words):
            yield f"stream {number}: begins at instruction {stream.entry} of {len(kernel.words)}"


def _layout_faults_of(kernel: Kernel, machine: Machine) -> Iterator[str]:
    """The faults of a layout over each stream's rectangle, and in banks that hold what several streams need."""
    streams, layout = kernel.streams_on(machine.grid), kernel.layout
    for rows, cols in dict.fromkeys((stream.rows, stream.cols) for stream in streams):
        yield from _layout_faults(layout, machine.part(rows, cols))
    most = max(Counter(column for stream in streams for column in stream.columns).values())
    if most * layout.bank_bytes > machine.bank.capacity_bytes:
        yield f"layout: {layout.bank_bytes} bytes for each of {most} streams in a bank of {machine.bank.capacity_bytes}"


def _layout_faults(layout: KernelLayout, machine: Machine) -> Iterator[str]:
    for name, value in vars(layout).items():
        if not 0 <= value < LIMIT:
            yield f"layout: {name} = {value} is out of range"
    if min(layout.rows, layout.cols, layout.iterations, layout.slice_rows, layout.slice_cols) < 1:
        yield "layout: a size is zero"
        return
    if layout.iterations > min(layout.rows, layout.cols):
        yield f"layout: {layout.iterations} iterations of a {layout.rows} x {layout.cols} matrix"
    if layout.slice_rows % machine.cluster.mac_rows or layout.slice_cols % machine.cluster.mac_cols:
        yield f"layout: slices of {layout.slice_rows} x {layout.slice_cols} are not whole tiles"
    grid, groups = machine.grid, Groups.of(layout, machine.grid)
    if layout.folded > 1 or not 1 <= layout.in_flight <= MOST_IN_FLIGHT:
        yield f"layout: folded = {layout.folded}, in_flight = {layout.in_flight}"
        return
    if grid.rows % groups.rows or grid.cols % groups.cols:
        yield f"layout: groups of {groups.rows} x {groups.cols} do not fill {grid.rows} x {grid.cols} clusters"
        return
    rows, cols = ceil(layout.rows / layout.slice_rows), ceil(layout.cols / layout.slice_cols)
    if rows > groups.cut[0] or cols > groups.cut[1]:
        yield f"layout: {rows} x {cols} slices on {groups.cut[0]} x {groups.cut[1]} clusters"
        return
    if layout.bank_bytes > machine.bank.capacity_bytes:
        yield f"layout: {layout.bank_bytes} bytes in a bank of {machine.bank.capacity_bytes}"
    sizes = {
        "a": 2 * layout.slice_rows * layout.slice_cols,
        "start": 2 * groups.rows_used(layout) * layout.slice_rows,
        "u": 2 * (layout.iterations + 1) * layout.slice_rows,
        "v": 2 * layout.iterations * layout.slice_cols,
        "alpha": 8 * layout.iterations,
    }
    first_rows = (groups.down - 1) * groups.rows
    blocks_of = {
        "a": groups.rows_used(layout),
        "start": 1,
        "u": first_rows + groups.rows_held(layout),
        "v": first_rows + max(row for row, _ in groups.columns_held(layout)) + 1,
        "alpha": first_rows + 1,
    }
    extents: list[tuple[int, int, str]] = []
    for name, size in sizes.items():
        begin, stride = getattr(layout, f"{name}_offset"), getattr(layout, f"{name}_stride", size)
        blocks = blocks_of[name]
        if blocks > 1 and stride < size:
            yield f"layout: {name}_stride = {stride} is shorter than the {size} bytes that it steps over"
        extents.append((begin, begin + (blocks - 1) * stride + size, name))
    for _, end, name in extents:
        if end > layout.bank_bytes:
            yield f"layout: {name} ends at byte {end} of {layout.bank_bytes}"
    for (_, end, name), (begin, _, other) in pairwise(sorted(extents)):
        if begin < end:
            yield f"layout: {other} begins at byte {begin}, before {name} ends at byte {end}"
    for name, value in vars(layout).items():
        if name.endswith(("_offset", "_stride", "_bytes")) and value % 2:
            yield f"layout: {name} = {value} is odd"


def _check_launch(launch: Launch, kernels: dict[str, Kernel]) -> None:
    part = f"launch {launch.key}"
    if launch.kernel not in kernels:
        raise ProgramError(part, f"there is no kernel '{launch.kernel}'")
    if not 0 <= launch.layer < LIMIT or launch.site not in SITES:
        raise ProgramError(part, f"layer {launch.layer}, site '{launch.site}' is no place in a model")
    if not 1 <= launch.prompts <= MOST_PROMPTS:
        raise ProgramError(part, f"{launch.prompts} prompts, not between 1 and {MOST_PROMPTS}")
    iterations = kernels[launch.kernel].layout.iterations
    if not 1 <= launch.rank <= iterations:
        raise ProgramError(part, f"rank {launch.rank} is not between 1 and the {iterations} iterations of its kernel")
