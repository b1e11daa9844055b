"""docs/reproduction.md: all claims with verdicts, plots as SVG and PNG, and everything as JSON with its hash."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dcomc import __version__
from dcomc.diagnostics import counted, write_text
from dcomc.reproduce import WHAT
from dcomc.reproduce.claims import Claim, Curve, Result
from dcomc.reproduce.plots import draw
from dcomc.tables import number

_FOLDER = "reproduction"
_FORMAT = 2
"""The version of the numbers; those of an earlier report in another one are not taken over."""
_OUTCOMES = ("reproduced", "by another choice", "not reproduced", "not comparable")
"""Verdicts, where what is not reproduced by our choice, but by another, is counted apart."""
_SHORT = ("the paper says", "paper:", "ours:", "range:", "verdict", "why")
_COLUMNS = ("claim", "paper:", "ours:", "range:", "ratio:", "verdict", "why")


def write_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write `reproduction.md` into a folder, and beside it `reproduction/` with plots and numbers; returns the files.

    A result that is not among these keeps what an earlier report said of it, by its numbers.

    Raises:
        DcomError: matplotlib is not installed, or a file cannot be written.
    """
    target = folder / _FOLDER
    target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for result in results:
        names = [f"{result.name}-{number}" for number in range(1, len(result.plots) + 1)]
        for name, plot in zip(names, result.plots, strict=True):
            for file in (target / f"{name}.svg", target / f"{name}.png"):
                draw(plot, file)
                written.append(file)
        file = target / f"{result.name}.json"
        write_text(file, json.dumps(_document(result, names), sort_keys=True) + "\n")
        written.append(file)
    found = (target / f"{name}.json" for name in WHAT)
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in found if file.exists()]
    documents = [document for document in documents if document.get("format") == _FORMAT]
    page = folder / "reproduction.md"
    write_text(page, "\n".join(_page(documents)) + "\n")
    return [page, *written]


def _document(result: Result, plots: Sequence[str]) -> dict[str, Any]:
    """All of a result, with the hash of what it depends on."""
    depends = {"configuration": result.configuration, "setting": result.setting, "version": __version__}
    return {
        "format": _FORMAT,
        "name": result.name,
        "setting": result.setting,
        "configuration": result.configuration,
        "hash": hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16],
        "claims": [claim.to_json() for claim in result.claims],
        "plots": [
            {"file": name, "title": plot.title, "curves": [_curve(curve) for curve in plot.curves]}
            for name, plot in zip(plots, result.plots, strict=True)
        ],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    """A curve as JSON takes it."""
    return {"name": curve.name, **{axis: list(getattr(curve, axis)) for axis in ("x", "y", "low", "high")}}


def _page(documents: Sequence[dict[str, Any]]) -> Iterable[str]:
    """The lines of the page."""
    yield "# The paper, reproduced"
    yield ""
    yield (
        "Made by `dcomc reproduce all`. Ours is computed with what the paper states and, where it states nothing, with "
        "one choice; the range is over the other plausible choices, and over constants that had to be assumed. *By "
        "another choice*: not reproduced by ours, but by one as plausible, which the paper may have made. *Not "
        "comparable*: what takes the weights of Llama-2-7B, which do not ship; [quality.md](quality.md) has the same "
        "of SmolLM2-135M. Nothing is fitted to a claim; constants come from `dcomc/configs`, with their sources or the "
        "word *assumed*."
    )
    yield ""
    yield from _chief(documents)
    yield from _table(_SHORT, [short_cells(claim) for claim in _every(documents) if claim["headline"]])
    yield ""
    yield from _summary(documents)
    missing = [name for name in WHAT if name not in {document["name"] for document in documents}]
    if missing:
        yield from ("", f"Not run for this report: {', '.join(missing)}.")
    for document in documents:
        yield from _section(document)


_CHIEF = (
    (
        "table2",
        r"runtime with D-com over the dense model's, layers \d",
        "with 4 to 10 layers decomposed, a batch of ARC-Easy's short prompts takes {} of the dense model's time, where "
        "the paper has {} (table 2)",
    ),
    (
        "figure12",
        "speed of computation expansion",
        "the speedup of computation expansion is {}, where the paper has {} (figure 12)",
    ),
)
"""Sections, claims in them by how they begin, and what to say of ours and the paper's: what the paper is about."""


def _chief(documents: Sequence[dict[str, Any]]) -> Iterable[str]:
    """The negative results that weigh most, as a paragraph; nothing where they are none, or were not run."""
    claims = {document["name"]: document["claims"] for document in documents}
    found: list[str] = []
    for name, begins, text in _CHIEF:
        missed = [
            claim
            for claim in claims.get(name, [])
            if claim["verdict"] == "not reproduced" and re.match(begins, claim["what"])
        ]
        if missed:
            found.append(text.format(*(_ends([claim[key] for claim in missed]) for key in ("ours", "paper"))))
    if found:
        yield from (f"What weighs most of what ours does not reproduce: {'; '.join(found)}.", "")


def _ends(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys((number(min(values)), number(max(values)))))


def _section(document: dict[str, Any]) -> Iterable[str]:
    """A table of claims, where those of a group are a row; what the group is made of stands folded below."""
    yield from ("", f"## {document['name']}", "", f"{_what(document)}. {document['setting']}", "")
    groups = _groups(document["claims"])
    yield from _table(_COLUMNS, [cells(each[0]) if len(each) == 1 else group_cells(each) for each in groups])
    folded = [each for each in groups if len(each) > 1]
    if folded:
        yield from ("", f"<details><summary>{counted(sum(map(len, folded)), 'claim')}, one by one</summary>")
        yield from ("", *_table(_COLUMNS, [cells(claim, shared=True) for each in folded for claim in each]))
        yield from ("", "</details>")
    for plot in document["plots"]:
        yield from ("", f"![{plot['title']}]({_FOLDER}/{plot['file']}.svg)")
    yield from ("", f"[Numbers]({_FOLDER}/{document['name']}.json), configuration {document['hash']}.")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Columns of numbers, which end on a colon, to the right."""
    yield f"| {' | '.join(name.rstrip(':') for name in columns)} |"
    yield f"| {' | '.join('---:' if name.endswith(':') else '---' for name in columns)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _every(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [claim for document in documents for claim in document["claims"]]


def _groups(claims: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Those of a group together, in the order of their first; others alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for claim in claims:
        groups.setdefault(claim["group"] or claim["what"], []).append(claim)
    return list(groups.values())


def _what(document: dict[str, Any]) -> str:
    """What a section is about, as a sentence begins."""
    what = WHAT[document["name"]]
    return what[0].upper() + what[1:]


def _summary(documents: Sequence[dict[str, Any]]) -> Iterable[str]:
    """A row a section with its verdicts, and one for all."""
    rows = [(f"[{each['name']}](#{each['name']})", _what(each), each["claims"]) for each in documents]
    yield from _table(
        ("", "claims about", *(f"{outcome}:" for outcome in _OUTCOMES)),
        (
            (name, what, *(str(Counter(map(outcome_of, claims))[outcome]) for outcome in _OUTCOMES))
            for name, what, claims in [*rows, ("all", "", _every(documents))]
        ),
    )


def outcome_of(claim: dict[str, Any]) -> str:
    """The verdict on a claim, as `Claim.to_json` gives it, or that another choice than ours reproduces it."""
    return "by another choice" if claim["by_another"] else claim["verdict"]


def cells(claim: dict[str, Any], *, shared: bool = False) -> tuple[str, ...]:
    """A claim, as `Claim.to_json` gives it, for a row of a table.

    Args:
        shared: the reason of its group stands elsewhere, and here only which other choice comes nearest, or why there
            is nothing to compare.
    """
    verdict = outcome_of(claim)
    if claim["holds"] is None and claim["ours"] is not None:
        tolerance = claim["tolerance"]
        verdict += (
            f" (within {tolerance:.0%})" if tolerance >= 0.01 else " (exactly)" if verdict == "reproduced" else ""
        )
    return (
        claim["what"],
        _given(claim["paper"]),
        _given(claim["ours"]),
        _span(claim),
        _given(claim["ratio"]),
        verdict,
        claim["nearest" if shared and verdict != "not comparable" else "reason"],
    )


def short_cells(claim: dict[str, Any]) -> tuple[str, ...]:
    """The same for the table at the top of the page."""
    outcome = outcome_of(claim)
    verdict = f"**{outcome}**" if outcome == "reproduced" else outcome
    return claim["what"], _given(claim["paper"]), _given(claim["ours"]), _span(claim), verdict, claim["why"]


def group_cells(claims: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """A row for the claims of a group: the least and the largest of each number, and how many have which verdict."""

    def between(key: str) -> str:
        values = [claim[key] for claim in claims if claim[key] is not None]
        return _ends(values) if values else ""

    lows, highs = ([claim[end] for claim in claims if claim[end] is not None] for end in ("low", "high"))
    outcomes = Counter(map(outcome_of, claims))
    found = [f"{outcomes[outcome]} {outcome}" for outcome in _OUTCOMES if outcomes[outcome]]
    reasons = Counter(claim["why"] for claim in claims if claim["why"])
    return (
        f"{claims[0]['group']} ({len(claims)})",
        between("paper"),
        between("ours"),
        f"{_given(min(lows))} to {_given(max(highs))}" if lows else "",
        between("ratio"),
        ", ".join(found) if len(found) > 1 else f"all {next(iter(outcomes))}",
        reasons.most_common(1)[0][0] if reasons else "",
    )


def _given(value: float | None) -> str:
    return "" if value is None else number(value)


def _span(claim: dict[str, Any]) -> str:
    return "" if claim["low"] is None else f"{_given(claim['low'])} to {_given(claim['high'])}"


def claim_rows(claims: Iterable[Claim]) -> list[tuple[str, ...]]:
    """Rows for the terminal, without the reasons."""
    return [cells(claim.to_json())[:-1] for claim in claims]


def reasons(claims: Iterable[Claim]) -> dict[str, str]:
    """Each reason, and which claim or group of claims it is of: the first that has it."""
    found: dict[str, str] = {}
    for claim in claims:
        why, about = (claim.why, claim.group) if claim.group else (claim.reason, claim.what)
        if why:
            found.setdefault(why, about)
    return found
