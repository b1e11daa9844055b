"""The reference page of the passes, as their docstrings and fields have them."""

from collections.abc import Iterator

from dcomc.reference.markdown import WRITTEN, prose, table
from passes import PASSES, UPSTREAM, pass_options, pass_summaries, pass_text


def pass_page() -> str:
    """The page in Markdown."""
    return "\n\n".join(_sections()) + "\n"


def _sections() -> Iterator[str]:
    yield "# Passes"
    yield WRITTEN.format(source="the passes' docstrings and fields in `passes/`")
    yield (
        "`dcomc opt -p 'name{option=value option=a,b},name'` runs passes in turn, and `dcomc compile --print-pipeline` "
        "prints those of a compilation. An option that takes several values has commas between them."
    )
    yield table(["pass", "does"], [[f"[`{name}`](#{name})", prose(text)] for name, text in pass_summaries().items()])
    for name in PASSES:
        yield f"## {name}"
        yield prose(pass_text(name)) + (" It comes with xDSL." if name in UPSTREAM else "")
        rows = [
            [f"`{option.name}`", option.takes, option.default, prose(option.meaning)] for option in pass_options(name)
        ]
        if rows:
            yield table(["option", "takes", "", "meaning"], rows)
