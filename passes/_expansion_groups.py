"""How the groups of computation expansion lie on the grid of clusters."""

from dataclasses import dataclass

from dcomc.diagnostics import DcomError
from dialects.cluster_types import COLS, ROWS
from runtime.machine import Machine


@dataclass(frozen=True)
class ExpansionGroups:
    """f groups of clusters, for vectors along one side of the matrix."""

    rows: int
    cols: int
    """Clusters of a group."""
    replicas: int
    """Replicas of a group that are there at a time, neighbours on the line that holds a slice."""
    turns: int
    """Partial sums that a replica takes."""
    line: int
    """Clusters that hold a slice in parts."""

    @classmethod
    def of(cls, factor: int, axis: str, machine: Machine) -> "ExpansionGroups":
        """The most nearly square groups; raises `DcomError` where there are none.

        A slice along the columns is held by a column of clusters, and replicas are neighbours in it.
        """
        found = _groups(factor, axis, machine)
        if found is None:
            clusters = f"{machine.grid.rows} x {machine.grid.cols} clusters of {machine.name}"
            raise DcomError(
                f"factor {factor} cuts the {clusters} into no equal groups of {factor} replicas",
                hint=f"one of {', '.join(map(str, factors(machine)))}",
            )
        return found

    def pattern(self, axis: str) -> tuple[int, int]:
        """Clusters that have different partial sums."""
        return (self.replicas, 1) if axis == COLS else (1, self.replicas)


def factors(machine: Machine) -> list[int]:
    """Those by which vectors along both sides of a matrix can be expanded."""
    every = range(1, machine.grid.rows * machine.grid.cols + 1)
    return [factor for factor in every if all(_groups(factor, axis, machine) for axis in (ROWS, COLS))]


def _groups(factor: int, axis: str, machine: Machine) -> ExpansionGroups | None:
    rows, cols = machine.grid.rows, machine.grid.cols
    line, other = (rows, cols) if axis == COLS else (cols, rows)
    if factor < 1 or rows * cols % factor:
        return None
    size = rows * cols // factor
    replicas = min(factor, size)
    if max(factor, size) % replicas:
        return None
    sides = [
        (along, size // along)
        for along in range(replicas, line + 1, replicas)
        if line % along == size % along == 0 and other % (size // along) == 0
    ]
    if not sides:
        return None
    along, across = min(sides, key=lambda side: abs(side[0] - side[1]))
    group = (along, across) if axis == COLS else (across, along)
    return ExpansionGroups(*group, replicas, factor // replicas, line)
