"""Comments in a text that say which diagnostics it gives: `dcomc opt --verify-diagnostics`, as mlir-opt has it.

    // expected-error @+1 {{layer -1 is negative}}
    %y = dcom.decompose %x {layer = -1 : i64, …}

`error` may be `remark`. The diagnostic is that of the comment's own line, or of the line that a designator gives:
`@+1`, `@-2`, `@above` and `@below` (the nearest line without such a comment), or `@unknown` for one whose place is not
in the text, such as a line of the model. What stands in the braces is a part of its text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

_EXPECTED = re.compile(
    r"expected-(?P<kind>error|remark)\s*(?:@(?P<where>[+-]\d+|above|below|unknown))?\s*\{\{(?P<text>.*?)\}\}(?!\})"
)
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::\d+)?")


@dataclass(frozen=True)
class Diagnostic:
    """Something that was said of a text."""

    kind: str
    """`error` or `remark`."""
    text: str
    place: str | None
    """`file:line[:column]`; of a traced operation its module and Python line."""

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.text}" if self.place else f"{self.kind}: {self.text}"

    def line(self, name: str) -> int | None:
        """The line of the text `name` that it is about; None where it is about no line of that text."""
        place = _PLACE.fullmatch(self.place or "")
        same = place is not None and PurePath(place["file"]).name == PurePath(name).name
        return int(place["line"]) if place is not None and same else None


def unmet(text: str, name: str, diagnostics: Iterable[Diagnostic]) -> list[str]:
    """What is said of a text without being expected, and what is expected without being said; none where all is well.

    Args:
        text: with its comments.
        name: of the text, as diagnostics have it.
    """
    left = list(diagnostics)
    problems: list[str] = []
    lines = text.splitlines()
    for number, content in enumerate(lines, start=1):
        for wanted in _EXPECTED.finditer(content):
            line = _designated(wanted["where"], number, lines)
            found = (d for d in left if (d.kind, d.line(name)) == (wanted["kind"], line) and wanted["text"] in d.text)
            match = next(found, None)
            if match is None:
                problems.append(
                    f'{name}:{number}: error: expected {wanted["kind"]} "{wanted["text"]}" was not produced'
                )
            else:
                left.remove(match)
    return problems + [f"{d.place or name}: error: unexpected {d.kind}: {d.text}" for d in left]


def _designated(where: str | None, number: int, lines: Sequence[str]) -> int | None:
    """The line that a designator in line `number` gives, counted from 1."""
    match where:
        case None:
            return number
        case "unknown":
            return None
        case "above" | "below":
            step = 1 if where == "below" else -1
            number += step
            while 1 <= number <= len(lines) and _EXPECTED.search(lines[number - 1]):
                number += step
            return number
        case _:
            return number + int(where)
