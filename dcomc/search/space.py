"""Which layers and sites to decompose, at which ranks and blocks, within a budget: from calibrations to a config file.

A calibration tells what each site costs at one rank and block, as the log of a ratio of perplexities, and the energy
that every rank leaves out. A rank is taken to cost in proportion to that energy, other bases (`dcomc.search.bases`)
in proportion to what they cost where they were tried, and sites to add up. That is rough: what comes of it is a list
of candidates, which are run on text, and the best of those that were is the result.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from typing import Any

from dcomc.calibration.state import Place
from dcomc.costs import SiteCost
from dcomc.diagnostics import DcomError
from dcomc.search.bases import OWN, Bases, Choice, Shape
from dcomc.toml_files import read_toml
from dialects.dcom import SITES

LEAST = 1e-4
"""The log of a ratio of perplexities below which sites are as good as each other: noise."""
_STEPS = 60


@dataclass(frozen=True)
class Calibration:
    """What a table of `dcomc calibrate` says of each site."""

    path: str
    model: str
    seq_len: int
    rank: int
    """At which the ratios were measured."""
    block: int | None
    outliers: float
    """The percentage of channels that were kept exact."""
    ratios: Mapping[Place, float]
    """Perplexities with that one site decomposed, over the dense one."""
    energies: Mapping[Place, Mapping[int, float]]
    """The share of the energy that a rank holds."""

    @staticmethod
    def read(path: str | Path) -> "Calibration":
        """Read a table.

        Raises:
            DcomError: it is none, or was made without sensitivities.
        """
        table: Any = read_toml(path, "give a table made by `dcomc calibrate`")
        ratios: dict[Place, float] = {}
        energies: dict[Place, dict[int, float]] = {}
        try:
            made = table["calibration"]
            for layer, sites in table["statistics"].items():
                for site, values in sites.items():
                    ratios[int(layer), site] = float(values["perplexity_ratio"])
                    energies[int(layer), site] = dict(zip(made["ranks"], values["energy"], strict=True))
            return Calibration(
                str(path),
                str(table["model"]),
                int(made["seq_len"]),
                int(made["rank"]),
                made.get("block"),
                float(made["wanted_percent"]),
                ratios,
                energies,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{path} is no calibration with sensitivities"
            hint = "make one with `dcomc calibrate`, without --sensitivity-tokens 0"
            raise DcomError(what, hint=hint) from error


@dataclass(frozen=True)
class Candidate:
    """A way to decompose a model: sites that it does not have are dense."""

    name: str
    choices: Mapping[Place, Choice]
    dense: float
    """Operations of the products of all other sites, as a share of all products of the model."""

    @property
    def layers(self) -> tuple[int, ...]:
        """With anything decomposed."""
        return tuple(sorted({layer for layer, _ in self.choices}))

    @property
    def loss(self) -> float:
        """Expected: the log of the ratio of perplexities."""
        return sum(choice.loss for choice in self.choices.values())

    @property
    def operations(self) -> float:
        """Operations of all products that are left, as a share of the dense ones."""
        return self.dense + sum(choice.operations for choice in self.choices.values())

    def to_toml(self, comment: Iterable[str] = ()) -> str:
        """A file for `dcomc compile --config`, in which every site of the layers stands."""
        lines = [f"# {line}" for line in comment]
        for layer in self.layers:
            for site in SITES:
                lines += ["", f"[layers.{layer}.sites.{site}]"]
                choice = self.choices.get((layer, site))
                if choice is None:
                    lines.append("decompose = false")
                    continue
                lines += choice.to_toml()
        return "\n".join(lines).lstrip("\n") + "\n"


class Space:
    """All choices of all sites."""

    def __init__(self, calibrations: Sequence[Calibration], costs: Sequence[SiteCost], tokens: int) -> None:
        """Prepare.

        Args:
            calibrations: of one model, at different ranks, blocks or shares of outliers.
            costs: of the dense module's sites.
            tokens: of a prompt.

        Raises:
            DcomError: calibrations of other models or layers than the module's.
        """
        self._shares: dict[Place, float] = {}
        whole = sum(cost.dense.flops for cost in costs)
        known = {cost.layer for cost in costs}
        for calibration in calibrations:
            if more := {layer for layer, _ in calibration.ratios} - known:
                what = f"the calibration has layer {min(more)}, and the model has layers {min(known)} to {max(known)}"
                raise DcomError(what, hint="give one of this model", place=calibration.path)
        self.choices: dict[Place, list[Choice]] = {}
        for cost in costs:
            place = cost.layer, cost.site
            self._shares[place] = cost.dense.flops / whole
            for calibration in calibrations:
                if place not in calibration.ratios:
                    what = f"the calibration has no site {cost.site} of layer {cost.layer}"
                    raise DcomError(what, hint="give one of this model", place=calibration.path)
                found = _choices(calibration, place, cost.products[0].depth, self._shares[place], tokens)
                self.choices.setdefault(place, []).extend(found)
        self._calibrations = calibrations

    @property
    def layers(self) -> list[int]:
        """The layers of the model."""
        return sorted({layer for layer, _ in self.choices})

    def alone(self, calibration: Calibration, sites: Sequence[str]) -> dict[int, float]:
        """What each layer is expected to cost by a calibration, all as it was made."""
        ways = self._as_made(calibration)
        return {layer: sum(ways[layer, site].loss for site in sites) for layer in self.layers}

    def uniform(
        self, calibration: Calibration, layers: Iterable[int], sites: Sequence[str], bases: Bases = OWN
    ) -> Candidate:
        """Layers decomposed as a calibration was made, but for their bases."""
        ways = self._as_made(calibration)
        name = f"rank {calibration.rank}, blocks of {calibration.block or 'whole prompts'}"
        return self._candidate(name, {layer: {site: ways[layer, site] for site in sites} for layer in layers}, bases)

    def _as_made(self, calibration: Calibration) -> dict[Place, Choice]:
        like = calibration.rank, calibration.block, calibration.outliers
        return {
            place: next(choice for choice in choices if (choice.rank, choice.block, choice.outliers) == like)
            for place, choices in self.choices.items()
        }

    def allocate(
        self,
        operations: float,
        sites: Sequence[str],
        count: int | None = None,
        among: Collection[int] | None = None,
        bases: Bases = OWN,
    ) -> Candidate:
        """The least expected loss with no more than a share of the operations, by a price for each of them.

        Args:
            operations: the share of all products of the model that may be left.
            sites: that may be decomposed.
            count: of layers, with all these sites decomposed; any layers and sites unless given.
            among: the layers that may be decomposed; all unless given.
            bases: of their sites.

        Raises:
            DcomError: the cheapest choices leave more than that.
        """

        def priced(price: float) -> Candidate:
            return self._priced(price, sites, count, self.layers if among is None else among, bases)

        low, high = 0.0, 1.0
        while priced(high).operations > operations:
            high *= 10
            if high > 1e9:
                least = priced(high).operations
                what = f"{operations:.1%} of the operations cannot be reached"
                raise DcomError(what, hint=f"the lowest ranks leave {least:.1%}")
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if priced(middle).operations > operations:
                low = middle
            else:
                high = middle
        return priced(high)

    def _priced(
        self, price: float, sites: Sequence[str], count: int | None, among: Iterable[int], bases: Bases
    ) -> Candidate:
        """The best where each operation costs `price`."""
        found: dict[int, dict[str, Choice]] = {}
        gains: dict[int, float] = {}
        for layer in among:
            for shape in self._shapes(layer, sites) if bases.shared else [None]:
                chosen: dict[str, Choice] = {}
                gain = 0.0
                for site in sites:
                    share = self._shares[layer, site]
                    choices = [each for each in self.choices[layer, site] if shape in (None, each.shape)]
                    charges = [bases.factor * each.loss + price * (each.operations - share) for each in choices]
                    least = min(charges, default=0.0)
                    if charges and (least < 0 or count is not None):
                        chosen[site] = choices[charges.index(least)]
                        gain -= least
                complete = count is None or len(chosen) == len(sites)
                if complete and gain > gains.get(layer, -inf):
                    found[layer], gains[layer] = chosen, gain
        ranked = sorted(found, key=gains.__getitem__, reverse=True)[:count]
        return self._candidate("ranks and blocks by sensitivity", {layer: found[layer] for layer in ranked}, bases)

    def _shapes(self, layer: int, sites: Sequence[str]) -> list[Shape]:
        """The shapes that any of the sites can have."""
        return list(dict.fromkeys(choice.shape for site in sites for choice in self.choices[layer, site]))

    def _candidate(self, name: str, layers: Mapping[int, Mapping[str, Choice]], bases: Bases = OWN) -> Candidate:
        choices = {(layer, site): choice for layer, by in layers.items() for site, choice in bases.of(by).items()}
        dense = sum(share for place, share in self._shares.items() if place not in choices)
        return Candidate(", ".join(filter(None, (name, bases.name))), choices, dense)


def _choices(calibration: Calibration, place: Place, channels: int, share: float, tokens: int) -> list[Choice]:
    """Every rank of a calibration that saves operations."""
    loss, energies = max(log(calibration.ratios[place]), LEAST), calibration.energies[place]
    rows = min(calibration.block or tokens, tokens)
    missing = max(1 - energies[calibration.rank], LEAST)
    found: list[Choice] = []
    for rank, held in energies.items():
        left = rank / rows + rank / channels + calibration.outliers / 100
        if rank <= min(rows, channels) and (left < 1 or rank == calibration.rank):
            expected = loss * max(1 - held, LEAST) / missing
            operations, most = share * left, min(rows, channels)
            found.append(Choice(rank, calibration.block, calibration.outliers, expected, operations, most))
    return found
