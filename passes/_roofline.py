"""The cost model by which products are associated: a roofline, of a host or of a D-com accelerator."""

from collections.abc import Iterable
from dataclasses import dataclass

from dcomc.costs import Work
from runtime.machine import Machine


@dataclass(frozen=True)
class Roofline:
    """An operation takes as long as its arithmetic, or as its traffic, whichever is longer."""

    flops: float
    """Floating-point operations in a unit of time."""
    bytes: float
    """Bytes read and written in a unit of time."""
    unit: str

    @staticmethod
    def of_host(balance: float) -> "Roofline":
        """A host that does `balance` floating-point operations in the time of a byte; time counts in operations."""
        return Roofline(1, 1 / balance if balance else float("inf"), "flop")

    @staticmethod
    def of_machine(machine: Machine) -> "Roofline":
        """D-com: two operations a multiplier and cycle, and what all banks stream; time counts in cycles."""
        return Roofline(2 * machine.multipliers, machine.grid.cols * machine.bank.stream_bytes_per_cycle, "cycles")

    def time(self, works: Iterable[Work]) -> float:
        """The time of operations one after another."""
        return sum(max(work.flops / self.flops, work.bytes / self.bytes) for work in works)

    def text(self, time: float, digits: int = 3) -> str:
        """A time with its unit, such as `182 Mflop`."""
        for prefix in ("", "k", "M", "G"):
            if time < 1000:
                return f"{time:.{digits}g} {prefix}{self.unit}"
            time /= 1000
        return f"{time:.{digits}g} T{self.unit}"

    def comparison(self, dense: float, factored: float) -> str:
        """Says that dense is no dearer, with as many digits as show it: `dense is cheaper from here, 23 kflop against
        …`."""
        if dense == factored:
            return f"dense costs no more from here, {self.text(dense)}"
        digits = next((d for d in range(3, 16) if self.text(dense, d) != self.text(factored, d)), 16)
        return f"dense is cheaper from here, {self.text(dense, digits)} against {self.text(factored, digits)}"
