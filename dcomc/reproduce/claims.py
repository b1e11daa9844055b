"""Claims of the paper, and verdicts on them."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from dcomc.toml_files import read_toml

Verdict = Literal["reproduced", "not reproduced", "not comparable"]

CONSTANTS = "the GPU at its "
"""What the name of a choice ends on that differs from another in nothing but constants with ranges."""
_PAPER = Path(__file__).parents[1] / "configs" / "paper"


@dataclass(frozen=True)
class Claim:
    """One number of the paper, and ours."""

    what: str
    paper: float | None
    """None where the paper says so in words alone."""
    ours: float | None
    """None where there is nothing to compare with."""
    tolerance: float = 0.0
    """The largest difference from the paper's number, as a share of it, that still counts as the same."""
    low: float | None = None
    high: float | None = None
    """Ours, across the plausible range of what had to be assumed, where that is continuous."""
    choices: Mapping[str, float] = field(default_factory=dict[str, float])
    """Ours, by the name of each other plausible choice: its parts, with a comma between."""
    holds: bool | None = None
    """Whether a claim in words holds here."""
    why: str = ""
    """Why ours is what it is."""
    group: str = ""
    """What it is a row of, where a table's column or an equation makes many alike: the report shows them together."""
    headline: bool = False
    """Whether it is a number of the paper's text, for which a reader looks first."""

    @property
    def ratio(self) -> float | None:
        """Ours over the paper's."""
        return self.ours / self.paper if self.ours is not None and self.paper else None

    @property
    def verdict(self) -> Verdict:
        """By the tolerance, or by whether the words hold."""
        if self.holds is not None:
            return "reproduced" if self.holds else "not reproduced"
        if self.paper is None or self.ours is None:
            return "not comparable"
        within = abs(self.ours - self.paper) <= self.tolerance * abs(self.paper)
        return "reproduced" if within else "not reproduced"

    @property
    def span(self) -> tuple[float, float] | None:
        """The least and the largest of ours over all that had to be assumed."""
        known = [value for value in (self.low, self.high, *self.choices.values()) if value is not None]
        known += [self.ours] if known and self.ours is not None else []
        return (min(known), max(known)) if known else None

    @property
    def by_another(self) -> bool:
        """Whether it is not reproduced by ours, but by another plausible choice, or a constant within its range."""
        paper, margin = self.paper, self.tolerance * abs(self.paper or 0.0)
        if self.verdict != "not reproduced" or paper is None:
            return False
        return any(low - margin <= paper <= high + margin for low, high in self._ranges())

    def _ranges(self) -> Iterator[tuple[float, float]]:
        """What each choice gives, from one end of its constants to the other."""
        if self.low is not None and self.high is not None:
            yield self.low, self.high
        by_choice: dict[str, list[float]] = {}
        for name, value in {"": self.ours, **self.choices}.items():
            if value is not None:
                choice = ", ".join(part for part in name.split(", ") if not part.startswith(CONSTANTS))
                by_choice.setdefault(choice, []).append(value)
        yield from ((min(values), max(values)) for values in by_choice.values())

    @property
    def nearest(self) -> str:
        """Of what is not reproduced, which other choice comes nearest, and whether any gives the paper's value."""
        if self.verdict != "not reproduced" or self.paper is None or self.span is None:
            return ""
        paper, parts = self.paper, list[str]()
        if self.choices:
            near = min(self.choices, key=lambda name: abs(self.choices[name] - paper))
            parts.append(f"nearest of the other choices: {near} ({self.choices[near]:.3g})")
        if not self.by_another:
            parts.append("no choice gives the paper's value")
        elif not self.choices:
            parts.append("other constants within their ranges give the paper's value")
        return "; ".join(parts)

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, and which choice comes nearest where ours is not the paper's value."""
        return "; ".join(filter(None, (self.why, self.nearest)))

    def to_json(self) -> dict[str, Any]:
        """All fields, the ends of the range, the ratio, the verdict and its reason."""
        low, high = self.span or (None, None)
        names = ("ratio", "verdict", "by_another", "nearest", "reason")
        return asdict(self) | {"low": low, "high": high} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Curve:
    """A line of a plot, with the band of its range where it has one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Plot:
    """Curves over numbers, or bars over names."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    bars: Sequence[str] = ()
    """Names of the groups of bars, for which x counts; lines where there are none."""
    logarithmic: bool = True


@dataclass(frozen=True)
class Result:
    """What came of a figure, a table, or the equations."""

    name: str
    claims: Sequence[Claim]
    setting: str = ""
    """What was run, and what was assumed, in a sentence or two."""
    plots: Sequence[Plot] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any])


def paper_claims() -> Mapping[str, Any]:
    """The numbers of the paper's text, by section."""
    return read_toml(_PAPER / "claims.toml", "install dcomc again")


def paper_table(name: str) -> list[dict[str, str]]:
    """The rows of `table2` or `table3`."""
    text = (_PAPER / f"{name}.csv").read_text(encoding="utf-8")
    return cast("list[dict[str, str]]", list(csv.DictReader(io.StringIO(text))))
