"""IR as the page shows it: lines without locations, and beside each the origin that its location names.

What follows an operation through the levels is its origin. Operations of kernels have a step of the algorithm beside
the places of the model that they serve; layers share kernels, so numbers of layers are `*` in places.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"| loc\(|[()]')
_PLACE = re.compile(r'"([^"]*)"\("([^"]*)":(\d+):\d+\)')
_STEP = re.compile(r'"([^"]*)"\((?:fused\[|"[^"]*"\()')
_SYMBOL = re.compile(r'@([\w.$-]+|"[^"]+")')
_LAYER_CALL = re.compile(r"func\.call @([\w.$-]+)\(.*?\{.*?dcom\.layer = (\d+) : i64")


@dataclass(frozen=True)
class Place:
    """A line of the model's Python code, on behalf of a module of the model."""

    module: str
    """`model.layers.*.self_attn.q_proj`"""
    file: str
    line: int


@dataclass(frozen=True)
class Origin:
    """Where a line of IR comes from."""

    step: str
    """The step of the algorithm, such as `z = A^T u`; empty outside kernels."""
    places: tuple[int, ...]
    """Numbers of places."""


@dataclass
class Origins:
    """All origins and places of a page, each once."""

    places: dict[Place, int] = field(default_factory=dict[Place, int])
    origins: dict[Origin, int] = field(default_factory=dict[Origin, int])

    def number(self, location: str) -> int:
        """The number of the origin that a location, as MLIR writes it, names; -1 where it names none."""
        step = _STEP.match(location)
        found = dict.fromkeys(
            self.place(Place(re.sub(r"\b\d+\b", "*", module), file, int(line)))
            for module, file, line in _PLACE.findall(location)
        )
        return self.add(Origin(step[1] if step else "", tuple(found)))

    def place(self, place: Place) -> int:
        """The number of a place."""
        return self.places.setdefault(place, len(self.places))

    def at(self, number: int) -> Origin:
        """The origin of that number."""
        return list(self.origins)[number]

    def add(self, origin: Origin) -> int:
        """The number of an origin; -1 for one without step and place."""
        return self.origins.setdefault(origin, len(self.origins)) if origin.step or origin.places else -1


@dataclass(frozen=True)
class Line:
    """A line of IR."""

    text: str
    location: str
    """As MLIR writes it; empty where the line has none."""


def parse_lines(text: str) -> list[Line]:
    """The lines of printed IR, without their locations. A line that opens a region has the location of its end."""
    lines: list[Line] = []
    opened: list[int] = []
    for written in text.splitlines():
        bare, location = _split(written)
        if bare.lstrip().startswith("}") and opened:
            start = opened.pop()
            lines[start] = Line(lines[start].text, location)
        if bare.endswith("{"):
            opened.append(len(lines))
        lines.append(Line(bare, location))
    return lines


def _split(line: str) -> tuple[str, str]:
    """A line without its locations, and the last of them where it ends the line, or is that of a block's argument."""
    kept: list[str] = []
    last, depth, start, position = "", 0, 0, 0
    for token in _TOKEN.finditer(line):
        if not depth and token[0] == " loc(":
            kept.append(line[position : token.start()])
            start, depth = token.end(), 1
        elif depth and token[0] in ("(", " loc("):
            depth += 1
        elif depth and token[0] == ")":
            depth -= 1
            if not depth:
                last, position = line[start : token.start()], token.end()
    kept.append(line[position:])
    return "".join(kept), last if position == len(line) or line.lstrip().startswith("^") else ""


@dataclass(frozen=True)
class ModuleText:
    """The text of a module, cut into the operations at its top."""

    operations: dict[str, str]
    """By the symbol that they define."""
    layers: dict[int, str]
    """The function that each layer calls, where the module has layers."""


def cut_module(text: str) -> ModuleText:
    """Cut the text of a module as dcomc prints it: operations of its body start at an indentation of two."""
    operations: dict[str, str] = {}
    layers: dict[int, str] = {}
    for lines in _top_operations(text):
        symbol = _SYMBOL.search(lines[0])
        if symbol:
            operations[symbol[1].strip('"')] = "\n".join(lines) + "\n"
        if symbol and symbol[1] == "main":
            layers |= {int(call[2]): call[1] for call in map(_LAYER_CALL.search, lines) if call}
    return ModuleText(operations, layers)


def _top_operations(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in text.splitlines()[1:]:
        lines.append(line)
        top = line.startswith("  ") and not line.startswith("   ")
        if top and not line.endswith("{"):
            yield lines
            lines = []
