"""Allocation of scalar registers to the scalars of a kernel, in the order of its operations."""

from xdsl.ir import Operation, SSAValue

from runtime.operands import SCALAR_REGISTERS


class ScalarRegisters:
    """Registers in turn, so that a value seldom waits for the last one in its place to be read.

    Args:
        first, count: of those that may be taken.
    """

    def __init__(self, first: int = 0, count: int = SCALAR_REGISTERS) -> None:
        self._free = list(range(first, first + count))
        self._held: dict[SSAValue, int] = {}
        self._unread: dict[SSAValue, int] = {}

    def copy(self) -> "ScalarRegisters":
        """As they are now, so that values taken from the copy get the same registers each time."""
        copy = ScalarRegisters()
        copy._free, copy._held, copy._unread = list(self._free), dict(self._held), dict(self._unread)
        return copy

    def __getitem__(self, value: SSAValue) -> int:
        return self._held[value]

    def take(self, value: SSAValue) -> int:
        """The register that has been free for longest, for a value."""
        register = self._free.pop(0)
        self._held[value] = register
        self._unread[value] = len(list(value.uses))
        return register

    def share(self, value: SSAValue, other: SSAValue) -> None:
        """The register of a value that is held, for one that is always the same."""
        self._held[value] = self._held[other]
        self._unread[value] = len(list(value.uses))

    def release_after(self, op: Operation) -> None:
        """Free the registers of values that the operation was the last to read; those from outside a loop stay."""
        for value in op.operands:
            if value in self._held and op.parent is value.owner.parent:
                self._unread[value] -= 1
                if not self._unread[value]:
                    register = self._held.pop(value)
                    if register not in self._held.values():
                        self._free.append(register)
