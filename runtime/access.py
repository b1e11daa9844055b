"""What memory an instruction may touch: the rules that every engine checks before it executes one."""

from runtime import costs
from runtime.instructions import Access, Unit
from runtime.machine import Machine
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
    known: list[tuple[int, int, Access]] = []
    for used in issue.word.instruction.ranges:
        start, size = int(issue.values[used.operand]), used.size(issue.values, machine)
        memory, capacity = (
            ("global memory", machine.global_memory.bytes) if used.shared else ("buffer", machine.cluster.buffer_bytes)
        )
        if start < 0 or start + size > capacity:
            raise MachineFault(f"bytes {start} to {start + size} are outside the {memory} of {capacity}")
        if start % used.element or size % used.element:
            raise MachineFault(f"bytes {start} to {start + size} are no whole elements of {used.element} bytes")
        first, end = used.interval(issue.values, machine)
        for other_first, other_end, access in known:
            overlap = max(first, other_first) < min(end, other_end)
            if overlap and (access is not Access.READ or used.access is not Access.READ):
                raise MachineFault(f"the result overlaps another operand in bytes {start} to {start + size}")
        known.append((first, end, used.access))


def _check_bank(issue: Issue, machine: Machine, bank_bytes: int) -> None:
    values = issue.values
    rows, cols = costs.transfer_extent(values, machine)
    if rows > machine.grid.rows or cols > machine.grid.cols:
        raise MachineFault(f"{rows} x {cols} clusters are more than the grid has")
    bank, size, stride = (int(values[name]) for name in ("bank", "bytes", "stride"))
    last = bank + (rows - 1) * stride
    for start in (bank, last):
        if start < 0 or start + size > bank_bytes:
            raise MachineFault(f"bytes {start} to {start + size} are outside the launch's {bank_bytes}")
    if bank % 2 or stride % 2:
        raise MachineFault(f"bank address {bank} or stride {stride} is odd")
