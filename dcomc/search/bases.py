"""How the sites of a layer come by their bases: each finds its own, or all share one; in so many steps of Lanczos."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from dcomc.config import EXTRA_ITERATIONS
from dialects.dcom import SITES

Shape: TypeAlias = tuple[int, int | None]
"""A rank and a block: sites of a layer that share a basis have the same."""


@dataclass(frozen=True)
class Choice:
    """A way to decompose one site."""

    rank: int
    block: int | None
    outliers: float
    loss: float
    """The log of the ratio of perplexities that it is expected to cost."""
    operations: float
    """Operations of the products that are left, as a share of all products of the model."""
    most: int
    """Steps of Lanczos that there can be: the smaller side of what is decomposed."""
    steps: int | None = None
    """Steps of Lanczos; as many as the compiler chooses unless given."""
    reuse: bool = False
    """Project on the basis of the layer's first site, instead."""

    @property
    def shape(self) -> Shape:
        """The rank and the block."""
        return self.rank, self.block

    def to_toml(self) -> Iterator[str]:
        """The lines of the site in a file for `dcomc compile --config`."""
        if self.reuse:
            yield "reuse = true"
        else:
            yield f"rank = {self.rank}"
            if self.block is not None:
                yield f"block = {self.block}"
            if self.steps is not None:
                yield f"iterations = {self.steps}"
        yield f"outliers = {self.outliers!r}"


@dataclass(frozen=True)
class Bases:
    """How the sites of a layer come by them."""

    name: str
    shared: bool = False
    """The first site finds one, at its rank and block, and the others are projected on it."""
    vectors: int = 1
    """Steps for each vector that is kept, besides `EXTRA_ITERATIONS`; of one basis for all sites no more than there are
    where each finds its own, less what the projections take,"""
    saved: bool = False
    """or just as many as these."""
    factor: float = 1.0
    """What sites are expected to lose, over what they do where each finds its own in `EXTRA_ITERATIONS` more steps."""

    def of(self, layer: Mapping[str, Choice]) -> dict[str, Choice]:
        """The choices of a layer's sites with these bases: of one shape, where they share a basis."""
        sites = [site for site in SITES if site in layer]
        found: dict[str, Choice] = {}
        for site in sites:
            choice = replace(layer[site], loss=self.factor * layer[site].loss)
            if self.shared and site != sites[0]:
                found[site] = replace(choice, reuse=True)
            else:
                found[site] = choice if self.default else replace(choice, steps=self._steps(layer, site))
        return found

    @property
    def default(self) -> bool:
        """Whether they are what the compiler does unless told otherwise."""
        return self == OWN

    def _steps(self, layer: Mapping[str, Choice], site: str) -> int:
        """Steps of Lanczos for a site that finds a basis; a step has two products with a vector, a projection one for
        each vector of its basis."""
        choice = layer[site]
        steps = self.vectors * choice.rank + EXTRA_ITERATIONS
        if self.shared:
            own = sum(min(each.rank + EXTRA_ITERATIONS, each.most) for each in layer.values())
            projected = sum(each.rank for other, each in layer.items() if other != site)
            all_saved = own - (projected + 1) // 2
            steps = all_saved if self.saved else min(steps, all_saved)
        return max(choice.rank, min(steps, choice.most))


OWN = Bases("")
"""As calibrations are made, and as the compiler does it unless told otherwise."""
LONGER = Bases("two steps a vector", vectors=2)
SHARED = Bases("one basis a layer, two steps a vector", shared=True, vectors=2)
SAVED = Bases("one basis a layer, of all the steps saved", shared=True, saved=True)
