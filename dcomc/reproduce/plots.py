"""Plots as SVG and PNG: an SVG has the colours of its reader's scheme, light or dark; a PNG is light."""

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomc.diagnostics import atomic_write, cannot_import
from dcomc.reproduce.claims import Curve, Plot
from dcomc.tables import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PAPER = "#1f2329", "#fffffe"
"""Colours of text and lines, and of what is below them; drawn with nothing else, so that a style can replace them."""
_SCHEMES = (
    f"<style>svg{{--ink:{_INK};--paper:{_PAPER}}}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e6e9ef;--paper:#11151c}}</style>"
)
COLOURS = ("#3b7dd8", "#d9691f", "#1a9a72", "#a960cc", "#c94f5f", "#85882a", "#2b8ca3", "#98703f")
"""Colours of curves: each 3:1 or more against either paper."""
_LONG = 30
"""Characters of a curve's name for which there are two columns of names, and not three."""
_LABELLED = 3
"""The number of groups of bars up to which their values stand on them."""


def draw(plot: Plot, file: Path) -> None:
    """Draw a plot as the file's ending says: .svg or .png.

    Raises:
        DcomError: matplotlib is not installed, or the file cannot be written.
    """
    check_plots()
    import matplotlib as mpl

    buffer, kind = BytesIO(), file.suffix[1:]
    with mpl.rc_context(_style()):
        _figure(plot).savefig(buffer, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    data = buffer.getvalue()
    with atomic_write(file) as out:
        out.write(_in_either_scheme(data) if kind == "svg" else data)


def check_plots() -> None:
    """Raise `DcomError` where matplotlib is not installed: what runs long before it draws asks first."""
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise cannot_import("matplotlib", "a plot", "figures") from error


def _in_either_scheme(svg: bytes) -> bytes:
    """The drawing with ink and paper of the reader's colour scheme, in one line."""
    text = " ".join(svg.decode().splitlines())
    text = text.replace(_INK, f"var(--ink,{_INK})").replace(_PAPER, f"var(--paper,{_PAPER})")
    return text.replace("<defs>", f"{_SCHEMES}<defs>", 1).encode()


def _style() -> dict[Any, Any]:
    """Ink and paper of all parts of a figure; with the salt an SVG is the same bytes each time."""
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor", "legend.edgecolor")
    spines = ("axes.spines.top", "axes.spines.right")
    colours = dict.fromkeys(inks, _INK) | dict.fromkeys(papers, _PAPER)
    return {"svg.hashsalt": "dcomc", **colours, **dict.fromkeys(spines, False)}


def _figure(plot: Plot) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    if plot.bars:
        _bars(axes, plot.bars, plot.curves)
    else:
        _lines(axes, plot)
    if any(curve.name for curve in plot.curves):
        figure.legend(
            loc="outside lower center", ncols=2 if max(len(curve.name) for curve in plot.curves) > _LONG else 3
        )
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    return figure


def _bars(axes: "Axes", names: Sequence[str], curves: Sequence[Curve]) -> None:
    """A bar a curve above each name, with its range and, where there are few, its value."""
    width = 0.8 / len(curves)
    for place, (curve, colour) in enumerate(zip(curves, cycle(COLOURS))):
        made = axes.bar(
            [x + place * width for x in curve.x],
            curve.y,
            width,
            yerr=_ranges(curve) if curve.low else None,
            label=curve.name,
            color=colour,
            ecolor=_INK,
            capsize=3,
        )
        if len(names) <= _LABELLED:
            axes.bar_label(made, [number(y) for y in curve.y], padding=3)
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(names))], names)
    if len(names) > _LABELLED:
        for label in axes.get_xticklabels():
            label.set(rotation=20, ha="right")
    axes.margins(y=0.1)


def _ranges(curve: Curve) -> list[list[float]]:
    """From each value down to the low end of its range, and up to the high one."""
    return [[abs(end - y) for end, y in zip(ends, curve.y, strict=True)] for ends in (curve.low, curve.high)]


def _lines(axes: "Axes", plot: Plot) -> None:
    """Curves, with the bands of their ranges, and the numbers at which they were taken on the axis."""
    from matplotlib.ticker import NullLocator

    for curve, colour in zip(plot.curves, cycle(COLOURS)):
        axes.plot(curve.x, curve.y, marker="o", label=curve.name, color=colour)
        if curve.low:
            axes.fill_between(curve.x, curve.low, curve.high, alpha=0.2, color=colour)
    if plot.logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        taken = sorted({x for curve in plot.curves for x in curve.x})
        axes.set_xticks(taken, [number(x) for x in taken])
        axes.xaxis.set_minor_locator(NullLocator())
