"""docs/reproduction.md: all claims with verdicts, plots as SVG and PNG, and everything as JSON with its hash."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc import __version__
from dcomc.diagnostics import atomic_write, cannot_import, counted, write_text
from dcomc.reproduce import WHAT
from dcomc.reproduce.claims import Claim, Curve, Plot, Result
from dcomc.tables import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDER = "reproduction"
_FOLDED = 3
"""Claims for which there is nothing to compare with, and one reason: more of them stand folded."""
_VERDICTS = ("reproduced", "not comparable", "not reproduced")


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
    documents = [
        json.loads(file.read_text(encoding="utf-8")) for name in WHAT if (file := target / f"{name}.json").exists()
    ]
    page = folder / "reproduction.md"
    write_text(page, "\n".join(_page(documents)) + "\n")
    return [page, *written]


def _document(result: Result, plots: Sequence[str]) -> dict[str, Any]:
    """All of a result, with the hash of what it depends on."""
    depends = {"configuration": result.configuration, "setting": result.setting, "version": __version__}
    return {
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
        "Made by `dcomc reproduce all`. For each claim: the paper's value, ours, and ours across the range of what had "
        "to be assumed; then ours over the paper's, and whether it is within the stated share of it. Nothing is fitted "
        "to a claim; constants come from `dcomc/configs`."
    )
    yield ""
    yield from _chief(documents)
    yield from _summary(documents)
    yield ""
    yield (
        "Within the range: not reproduced by our choices, but by others that are as plausible; the paper may have made "
        "those. Each claim says which come nearest."
    )
    missing = [name for name in WHAT if name not in {document["name"] for document in documents}]
    if missing:
        yield from ("", f"Not run for this report: {', '.join(missing)}.")
    for document in documents:
        yield from ("", f"## {document['name']}", "", f"{_what(document)}. {document['setting']}", "")
        yield from (
            "| claim | paper | ours | range | ratio | verdict | why |",
            "| --- | ---: | ---: | ---: | ---: | --- | --- |",
        )
        left_out = Counter(claim["reason"] for claim in document["claims"] if claim["ours"] is None)
        folded = [reason for reason, count in left_out.items() if count > _FOLDED]
        for claim in document["claims"]:
            if claim["ours"] is not None or claim["reason"] not in folded:
                yield "| " + " | ".join(cells(claim)) + " |"
        for reason in folded:
            yield from _fold([claim for claim in document["claims"] if claim["reason"] == reason], reason)
        for plot in document["plots"]:
            yield from ("", f"![{plot['title']}]({_FOLDER}/{plot['file']}.svg)")
        yield from ("", f"[Numbers]({_FOLDER}/{document['name']}.json), configuration {document['hash']}.")


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
        "computation expansion gains a factor of {} in speed, where the paper has {} (figure 12)",
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
            found.append(text.format(*(_span([claim[key] for claim in missed]) for key in ("ours", "paper"))))
    if found:
        yield from (f"What weighs most of what is not reproduced: {'; '.join(found)}.", "")


def _span(values: Sequence[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _what(document: dict[str, Any]) -> str:
    """What a section is about, as a sentence begins."""
    what = WHAT[document["name"]]
    return what[0].upper() + what[1:]


def _summary(documents: Sequence[dict[str, Any]]) -> Iterable[str]:
    """A row a section with its verdicts, and one for all."""
    yield f"| | claims about | {' | '.join(_VERDICTS)} | of these within the range |"
    yield "| --- | --- |" + " ---: |" * (len(_VERDICTS) + 1)
    every = [claim for document in documents for claim in document["claims"]]
    rows = [(f"[{each['name']}](#{each['name']})", _what(each), each["claims"]) for each in documents]
    for name, what, claims in [*rows, ("all", "", every)]:
        counts = Counter(claim["verdict"] for claim in claims)
        numbers = [*(counts[verdict] for verdict in _VERDICTS), sum(map(_within, claims))]
        yield f"| {name} | {what} | {' | '.join(map(str, numbers))} |"


def _within(claim: dict[str, Any]) -> bool:
    """Whether a claim is not reproduced, and its range has the paper's value."""
    paper, low, high = (cast("float | None", claim[key]) for key in ("paper", "low", "high"))
    if claim["verdict"] != "not reproduced" or paper is None or low is None or high is None:
        return False
    return low <= paper <= high


def _fold(claims: Sequence[dict[str, Any]], reason: str) -> Iterable[str]:
    """Claims that nothing was compared with, all for one reason, as a table to unfold."""
    yield from ("", f"<details><summary>{counted(len(claims), 'claim')} {claims[0]['verdict']}</summary>")
    yield from ("", f"Because {reason}.", "", "| claim | paper |", "| --- | ---: |")
    for claim in claims:
        what, paper, *_ = cells(claim)
        yield f"| {what} | {paper} |"
    yield from ("", "</details>")


def cells(claim: dict[str, Any]) -> tuple[str, ...]:
    """A claim, as `Claim.to_json` gives it, for a row of a table."""

    def given(value: float | None) -> str:
        return "" if value is None else number(value)

    span = "" if claim["low"] is None else f"{given(claim['low'])} to {given(claim['high'])}"
    verdict = claim["verdict"]
    if claim["holds"] is None and claim["ours"] is not None:
        tolerance = claim["tolerance"]
        verdict += (
            f" (within {tolerance:.0%})" if tolerance >= 0.01 else " (exactly)" if verdict == "reproduced" else ""
        )
    return (
        claim["what"],
        given(claim["paper"]),
        given(claim["ours"]),
        span,
        given(claim["ratio"]),
        verdict,
        claim["reason"],
    )


def claim_rows(claims: Iterable[Claim]) -> list[tuple[str, ...]]:
    """Rows for the terminal, without the reasons."""
    return [cells(claim.to_json())[:-1] for claim in claims]


def draw(plot: Plot, file: Path) -> None:
    """Draw a plot as the file's ending says: .svg or .png.

    Raises:
        DcomError: matplotlib is not installed, or the file cannot be written.
    """
    buffer, kind = BytesIO(), file.suffix[1:]
    _figure(plot).savefig(buffer, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    data = buffer.getvalue()
    with atomic_write(file) as out:
        out.write(b" ".join(data.splitlines()) if kind == "svg" else data)


def check_plots() -> None:
    """Raise `DcomError` where matplotlib is not installed: what runs long before it draws asks first."""
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise cannot_import("matplotlib", "a plot", "figures") from error


def _figure(plot: Plot) -> "Figure":
    check_plots()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "dcomc"
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for place, curve in enumerate(plot.curves):
        if plot.bars:
            width = 0.8 / len(plot.curves)
            axes.bar([x + place * width for x in curve.x], curve.y, width, label=curve.name)
        else:
            axes.plot(curve.x, curve.y, marker="o", label=curve.name)
            if curve.low:
                axes.fill_between(curve.x, curve.low, curve.high, alpha=0.2)
    if plot.bars:
        centre = 0.4 * (1 - 1 / len(plot.curves))
        axes.set_xticks([number + centre for number in range(len(plot.bars))], plot.bars, rotation=20, ha="right")
    elif plot.logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    if any(curve.name for curve in plot.curves):
        axes.legend()
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    return figure
