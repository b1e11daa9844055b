"""What to run, of all that is within a budget: decompositions that are expected to lose least."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from dcomc.diagnostics import DcomError, counted
from dcomc.search.bases import OWN, Bases
from dcomc.search.runtime import Runtime
from dcomc.search.space import Calibration, Candidate, Space

_FRONT = 12
"""Budgets at which the expected front is drawn."""
_ROUNDING = 1e-9
_SAVINGS = 64
"""Shares of all operations, as many as are told apart where the least saving is sought that keeps a runtime."""


@dataclass(frozen=True)
class Budget:
    """What may be spent: one of them is given."""

    layers: int | None = None
    """Layers, each with all sites decomposed; of their products as much may be left as by the first calibration."""
    operations: float | None = None
    """The share of the floating-point operations of all products that may be left."""
    runtime: float | None = None
    """The share of the dense model's seconds that may be taken on GPUs with a D-com, by the model of `estimate`."""

    def check(self, layers: int) -> None:
        """Raises `DcomError` for a budget that a model of so many layers does not have."""
        if sum(given is not None for given in vars(self).values()) != 1:
            raise DcomError("give one of layers, operations and runtime", hint="for example 4 layers")
        if self.layers is not None and not 1 <= self.layers <= layers:
            raise DcomError(f"{counted(self.layers, 'layer')} cannot be decomposed", hint=f"the model has {layers}")
        if self.operations is not None and not 0 < self.operations < 1:
            raise DcomError(f"operations {self.operations:g} is not between 0 and 1", hint="such as 0.9")
        if self.runtime is not None and not 0 < self.runtime < inf:
            raise DcomError(f"runtime {self.runtime:g} is not above 0", hint="such as 0.9")


def first_that(fits: Callable[[int], bool], most: int) -> int | None:
    """A number from 1 to `most` that fits though the one before it does not: the first, where those after it fit too.

    Numbers are doubled until one fits, and then halved, so that a few that fit, of many that do not, may be missed.
    """
    below, number = 0, 1
    while number < most and not fits(number):
        below, number = number, 2 * number
    number = min(number, most)
    if number == most and not fits(most):
        return None
    return below + 1 + bisect_left(range(below + 1, number), True, key=fits)


@dataclass
class Candidates:
    """Makes candidates of some sites within a budget.

    Attributes:
        runtime: for a budget of it.
        bases: that sites may have.
    """

    space: Space
    tables: Sequence[Calibration]
    budget: Budget
    sites: Sequence[str]
    runtime: Runtime | None = None
    bases: Sequence[Bases] = (OWN,)

    def layers(self) -> int:
        """How many it takes to keep the budget, as the first calibration was made; 1 where even all do not keep it."""
        table = self.tables[0]
        found = self._as_made(table, self._alone(table), self.budget.operations or 1.0, OWN)
        return self.budget.layers or (len(found[0].layers) if found else 1)

    def make(self, order: Sequence[int]) -> tuple[list[Candidate], float]:
        """From what is expected to be best on, and the operations that may be left.

        First are candidates of the layers that were chosen together; then those of others, by their expected loss.

        Args:
            order: the layers, as they were chosen one beside another.

        Raises:
            DcomError: none keeps the budget.
        """
        uniform = self.space.uniform(self.tables[0], order[: self.budget.layers], self.sites)
        most = self.budget.operations or uniform.operations
        together = [found for table in self.tables for found in self._best(self._as_made, table, order, most)]
        together += [found for first in together[:1] for found in self._best(self._by_loss, most, first.layers)]
        alone = self._best(self._by_loss, most, None)
        for table in self.tables:
            alone += self._best(self._as_made, table, self._alone(table), most)
            alone += self._best(self._swapped, table, self._alone(table), most)
        found = [*sorted(together, key=lambda each: each.loss), *sorted(alone, key=lambda each: each.loss)]
        if not found:
            assert self.runtime is not None and self.budget.runtime is not None
            least = f"{self.runtime.least:.1%} is the least that was found"
            what = f"{self.budget.runtime:.1%} of the runtime cannot be reached; {least}"
            raise DcomError(what, hint="give more, or a larger batch")
        if self.budget.runtime is not None:
            most = max(candidate.operations for candidate in found)
        return list({candidate.to_toml(): candidate for candidate in found}.values()), most

    def front(self, most: float) -> list[Candidate]:
        """The least expected loss from half of what a share of operations saves to one and a half times it.

        As far as that goes.
        """
        shares = (1 - (1 - most) * (0.5 + step / _FRONT) for step in range(_FRONT, -1, -1))
        return [found for share in shares for found in self._best(self._allocated, share, None)]

    def _best(self, make: Callable[..., list[Candidate]], *what: Any) -> list[Candidate]:
        """The candidate of least expected loss over all bases, the last argument; none where there is none."""
        found = (candidate for bases in self.bases for candidate in make(*what, bases))
        return sorted(found, key=lambda candidate: candidate.loss)[:1]

    def _alone(self, table: Calibration) -> list[int]:
        """The layers by what they cost alone."""
        costs = self.space.alone(table, self.sites)
        return sorted(costs, key=costs.__getitem__)

    def _as_made(self, table: Calibration, ranked: Sequence[int], most: float, bases: Bases) -> list[Candidate]:
        """The fewest of the layers that are within the budget, or as many as it says, as a calibration was made."""

        def way(count: int) -> Candidate:
            return self.space.uniform(table, ranked[:count], self.sites, bases)

        count = self.budget.layers or first_that(lambda count: self._fits(way(count), most), len(ranked))
        return [] if count is None else self._within(way(count), most)

    def _swapped(self, table: Calibration, ranked: Sequence[int], most: float, bases: Bases) -> list[Candidate]:
        """The same with the next layer in the place of the last."""
        found = self._as_made(table, ranked, most, bases)
        count = len(found[0].layers) if found else len(ranked)
        if count == len(ranked):
            return []
        layers = [*ranked[: count - 1], ranked[count]]
        return self._within(self.space.uniform(table, layers, self.sites, bases), most)

    def _by_loss(self, most: float, among: Sequence[int] | None, bases: Bases) -> list[Candidate]:
        """The ranks and blocks of least expected loss, of some layers or of any."""
        if self.runtime is None:
            return self._allocated(most, among, bases)

        def ways(saved: int) -> list[Candidate]:
            return self._allocated(1 - saved / _SAVINGS, among, bases)

        saved = first_that(lambda saved: any(self._fits(way, most) for way in ways(saved)), _SAVINGS)
        return [] if saved is None else ways(saved)

    def _allocated(self, operations: float, among: Sequence[int] | None, bases: Bases) -> list[Candidate]:
        """With a share of operations; none where no choices leave as few."""
        try:
            return [self.space.allocate(operations, self.sites, self.budget.layers, among, bases)]
        except DcomError:
            return []

    def _within(self, candidate: Candidate, most: float) -> list[Candidate]:
        return [candidate] if self._fits(candidate, most) else []

    def _fits(self, candidate: Candidate, most: float) -> bool:
        if self.runtime is not None and self.budget.runtime is not None:
            return self.runtime.share(candidate) <= self.budget.runtime
        return candidate.operations <= most * (1 + _ROUNDING)
