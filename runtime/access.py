"""What memory an instruction may touch: the rules that every engine checks before it executes one."""

from runtime.instructions import Access, Unit
from runtime.machine import Machine
from runtime.operands import Values
from runtime.sequencer import Issue, MachineFault


def check_access(issue: Issue, machine: Machine, bank_bytes: int) -> None:
    """Check the ranges of an instruction by the table, and the bank addresses of a stream.

    Raises:
        MachineFault: bytes outside the buffer, the global memory or the bank, an address that is no multiple of its
            element's size, a result that overlaps another operand, or clusters that the grid does not have.
    """
    try:
        _check_buffer(issue, machine)
        if issue.word.instruction.unit is Unit.BANK:
            _check_bank(issue, machine, bank_bytes)
    except MachineFault as fault:
        raise MachineFault(f"instruction {issue.index}, {issue.word}: {fault.what}") from fault


def _check_buffer(issue: Issue, machine: Machine) -> None:
    spans: list[tuple[int, int, Access, bool]] = []
    for used in issue.word.instruction.ranges:
        start = int(issue.values[used.operand])
        size = used.size(issue.values, machine)
        memory, capacity = (
            ("global memory", machine.global_memory.bytes) if used.shared else ("buffer", machine.cluster.buffer_bytes)
        )
        if start < 0 or start + size > capacity:
            raise MachineFault(f"bytes {start} to {start + size} are outside the {memory} of {capacity}")
        if start % used.element or size % used.element:
            raise MachineFault(f"bytes {start} to {start + size} are no whole elements of {used.element} bytes")
        for other_start, other_end, access, shared in spans:
            overlap = (
                shared is used.shared
                and size
                and other_end > other_start
                and start < other_end
                and other_start < start + size
            )
            if overlap and (access is not Access.READ or used.access is not Access.READ):
                raise MachineFault(f"the result overlaps another operand in bytes {start} to {start + size}")
        spans.append((start, start + size, used.access, used.shared))


def _check_bank(issue: Issue, machine: Machine, bank_bytes: int) -> None:
    values = issue.values
    rows, cols = transfer_extent(values, machine)
    if rows > machine.grid.rows or cols > machine.grid.cols:
        raise MachineFault(f"{rows} x {cols} clusters are more than the grid has")
    bank, size, stride = (int(values[name]) for name in ("bank", "bytes", "stride"))
    last = bank + (rows - 1) * stride
    for start in (bank, last):
        if start < 0 or start + size > bank_bytes:
            raise MachineFault(f"bytes {start} to {start + size} are outside the launch's {bank_bytes}")
    if bank % 2 or stride % 2:
        raise MachineFault(f"bank address {bank} or stride {stride} is odd")


def transfer_extent(values: Values, machine: Machine) -> tuple[int, int]:
    """Cluster rows and columns that a stream between banks and buffers serves."""
    return int(values["rows"]) or machine.grid.rows, int(values["cols"]) or machine.grid.cols
