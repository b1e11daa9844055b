"""The page of a report: a template, its style and scripts, Vega, and the report's values, all in one file."""

import html
from importlib import resources
from string import Template

from dcomc.diagnostics import cannot_import
from dcomc.report.data import Report, page_json

_SCRIPTS = ("base.js", "charts.js", "overview.js", "measured.js", "pipeline.js", "timeline.js", "main.js")
_VEGA_LITE = "6.4"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def render_page(report: Report) -> str:
    """The page as HTML that asks nothing of a network.

    Raises:
        DcomError: the package that brings Vega is not installed.
    """
    files = resources.files("dcomc.report") / "template"

    def read(name: str) -> str:
        return (files / name).read_text(encoding="utf-8")

    return Template(read("page.html")).substitute(
        title=html.escape(f"{report.file} - dcomc report"),
        style=read("style.css"),
        vega=_vega(),
        script="\n".join(map(read, _SCRIPTS)),
        data=page_json(report.to_json()),
    )


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    try:
        import vl_convert
    except ImportError as error:
        raise cannot_import("vl-convert-python", "a report", "report") from error
    return vl_convert.javascript_bundle(_SNIPPET, _VEGA_LITE)
