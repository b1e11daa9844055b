"""The stages of a program's IR, layer by layer: from the model's Python lines to instructions.

What the accelerator runs is lowered anew from the program's own `dcom.decompose` operations, and is shown only where it
equals the program's kernels. The stages before are no part of a program; `dcomc compile --dump-ir-dir` leaves them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from dcomc.diagnostics import DcomError
from dcomc.disassembler import instruction_text
from dcomc.ir import make_context, print_module
from dcomc.pipeline import Decomposition, compile_pipeline, run_passes
from dcomc.report.ir_text import Line, ModuleText, Origin, Origins, Place, cut_module, parse_lines
from dialects import cluster, isa
from dialects.dcom import DecomposeOp
from runtime.machine import machine_file
from runtime.program import Kernel, Program

_CONTEXT = 1
"""Lines of Python before and after one that IR comes from."""
_GAP = "⋮"
_LEVELS = {
    "isa": re.compile(r"^ *isa\.kernel", re.MULTILINE),
    "cluster": re.compile(r"^ *cluster\.kernel", re.MULTILINE),
    "dcom": re.compile(r"\bdcom\.\w+ %"),
}
"""Where there is no such operation, the IR is at Level 0."""
_INSTRUCTION = re.compile(r"\s*isa\.(?!kernel |label )")


@dataclass(frozen=True)
class Stage:
    """A layer's IR after a pass, or what it was made from. The three lists have an entry a line."""

    name: str
    level: str
    """`Python`, `Level 0`, `dcom`, `cluster` or `isa`."""
    lines: tuple[int, ...]
    """Numbers of the page's lines."""
    origins: tuple[int, ...]
    """Numbers of its origins, -1 for none."""
    instructions: tuple[str, ...]
    """`kernel:number` of an instruction, empty for other lines; no entries where no line is an instruction."""


@dataclass(frozen=True)
class View:
    """The stages of layers that differ in nothing but their number."""

    layers: tuple[int, ...]
    shown: int
    """The layer whose IR it is."""
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Pipeline:
    """All views, with the lines, origins and places that they share."""

    views: tuple[View, ...]
    lines: tuple[str, ...]
    origins: tuple[Origin, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class _Stage:
    """A stage of the whole program, by the symbols of functions or kernels."""

    name: str
    operations: Mapping[str, Sequence[Line]]
    layers: Mapping[int, Sequence[str]]
    """What each layer shows: its function, or the kernels that it launches."""


def make_pipeline(program: Program, module: ModuleOp, dumps: Path | None) -> Pipeline:
    """The stages of every decomposed layer.

    Args:
        module: the program's host part; it is changed.
        dumps: a folder that `dcomc compile --dump-ir-dir` wrote.

    Raises:
        DcomError: the folder is none, or is of another program.
    """
    host = cut_module(program.host)
    before = [_functions("compiled", host)] if dumps is None else list(_read_dumps(dumps, host))
    after = list(_lower_kernels(program, module))
    origins, table = Origins(), dict[str, int]()
    views: list[View] = []
    for layers in group_layers(host):
        stages = [_show(stage, layers[0], origins, table) for stage in (*before, *after)]
        views.append(View(layers, layers[0], (*_python(stages, origins, table), *stages)))
    return Pipeline(tuple(views), tuple(table), tuple(origins.origins), tuple(origins.places))


def _show(stage: _Stage, layer: int, origins: Origins, table: dict[str, int]) -> Stage:
    """What a layer shows of a stage."""
    lines: list[Line] = []
    instructions: list[str] = []
    for name in stage.layers.get(layer, ()):
        count = 0
        for line in stage.operations[name]:
            is_instruction = _INSTRUCTION.match(line.text) is not None
            lines.append(line)
            instructions.append(f"{name}:{count}" if is_instruction else "")
            count += is_instruction
    text = "\n".join(line.text for line in lines)
    level = next((level for level, sign in _LEVELS.items() if sign.search(text)), "Level 0")
    return Stage(
        stage.name,
        level,
        tuple(table.setdefault(line.text, len(table)) for line in lines),
        tuple(origins.number(line.location) for line in lines),
        tuple(instructions) if any(instructions) else (),
    )


def group_layers(host: ModuleText) -> list[tuple[int, ...]]:
    """The layers with operations of the dcom dialect, those together that differ in their number alone."""
    groups: dict[str, list[int]] = {}
    for layer, function in host.layers.items():
        text = host.operations[function]
        if re.search(r"\bdcom\.\w+ %", text):
            alike = re.sub(rf"((?:decoder_layer_|layers\.|layer = |layer)){layer}\b", r"\g<1>*", text)
            groups.setdefault(alike, []).append(layer)
    return sorted(tuple(layers) for layers in groups.values())


def _functions(name: str, module: ModuleText) -> _Stage:
    """A stage in which layers show their function."""
    functions = {function: parse_lines(module.operations[function]) for function in set(module.layers.values())}
    return _Stage(name, functions, {layer: (function,) for layer, function in module.layers.items()})


def _read_dumps(folder: Path, host: ModuleText) -> Iterator[_Stage]:
    """The stages in a folder of dumps, up to where kernels are made; the last is to be the program's host part."""
    hint = "give the folder that `dcomc compile --dump-ir-dir` wrote for this program"
    files = sorted(folder.glob("[0-9][0-9]-*.mlir"))
    if not files:
        raise DcomError(f"{folder} holds no stage such as 00-input.mlir", hint=hint)
    module = host
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DcomError(f"cannot read {file}: {error}", hint=hint) from error
        module = cut_module(text)
        if " cluster.kernel " in text or " isa.kernel " in text:
            break
        if module.layers.keys() != host.layers.keys():
            raise DcomError(f"{file} has other layers than the program", hint=hint)
        yield _functions(file.stem, module)
    for layer, function in host.layers.items():
        left = module.operations.get(module.layers.get(layer, ""), "")
        if _without_kernels(left) != _without_kernels(host.operations[function]):
            raise DcomError(f"the stages in {folder} end in another layer {layer} than the program's", hint=hint)


def _without_kernels(text: str) -> str:
    return re.sub(r", kernel = @[\w.$-]+", "", text)


def _lower_kernels(program: Program, module: ModuleOp) -> Iterator[_Stage]:
    """The stages of the kernels, made from the module's decompositions; the instructions alone where that does not
    give the program's kernels.
    """
    for op in module.walk():
        if isinstance(op, DecomposeOp):
            op.kernel = None
    launched: dict[int, dict[str, None]] = {}
    for launch in program.launches:
        launched.setdefault(launch.layer, {})[launch.kernel] = None
    layers = {layer: tuple(kernels) for layer, kernels in launched.items()}
    stages: list[_Stage] = []
    with machine_file(program.machine) as machine:
        for pass_ in compile_pipeline(_options(program), machine, "isa"):
            run_passes(make_context(), module, [pass_])
            kernels = [op for op in module.body.block.ops if isinstance(op, cluster.KernelOp | isa.KernelOp)]
            operations = {op.sym_name.data: parse_lines(print_module(op)) for op in kernels}
            stages.append(_Stage(pass_.name, operations, layers))
    made = tuple(isa.assemble_kernel(op) for op in module.body.block.ops if isinstance(op, isa.KernelOp))
    if made == program.kernels:
        yield from stages
    elif program.kernels:
        yield _Stage("instructions", {kernel.name: _disassembled(kernel) for kernel in program.kernels}, layers)


def _disassembled(kernel: Kernel) -> list[Line]:
    """The instructions of a kernel as the `isa` dialect writes them, with what the program knows of their origins."""
    lines = [Line(f"isa.kernel @{kernel.name} {{", "")]
    for index, word in enumerate(kernel.words):
        if index in kernel.labels:
            lines.append(Line(f"  isa.label @{kernel.labels[index]}", ""))
        lines.append(Line(f"  isa.{instruction_text(word, kernel.labels)}", f'"{kernel.locations[index]}"("")'))
    return [*lines, Line("}", "")]


def _options(program: Program) -> Decomposition:
    """The options that the passes below the dcom dialect were given: all that name no layer and no file."""
    known = {field.name for field in fields(Decomposition)} - {"layers", "sites", "weights", "config", "outliers"}
    given: dict[str, Any] = {name: value for name, value in program.options.items() if name in known}
    if "reuse" in given:
        given["reuse"] = tuple(given["reuse"])
    return replace(Decomposition(layers=()), **given)


def _python(stages: Sequence[Stage], origins: Origins, table: dict[str, int]) -> list[Stage]:
    """The lines of Python that stages come from, with what is around them, from the packages installed here."""
    cited: dict[str, dict[int, set[int]]] = {}
    """Places by file and line."""
    numbered = list(origins.places.items())
    shown = {
        place for stage in stages for origin in stage.origins if origin >= 0 for place in origins.at(origin).places
    }
    for place, number in numbered:
        if number in shown:
            cited.setdefault(place.file, {}).setdefault(place.line, set()).add(number)
    lines: list[str] = []
    found: list[int] = []
    for file, places in sorted(cited.items()):
        text = _read_source(file)
        lines.append(f"# {file}" if text else f"# {file} (not installed here)")
        found.append(-1)
        for number, line in _excerpt(text, places):
            lines.append(line)
            found.append(origins.add(Origin("", tuple(sorted(places.get(number, ()))))))
    numbers = tuple(table.setdefault(line, len(table)) for line in lines)
    return [Stage("Python", "Python", numbers, tuple(found), ())] if lines else []


def _excerpt(text: Sequence[str], places: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Numbered lines: those of `places`, those around them, and the classes and functions that they are in."""
    wanted: set[int] = set()
    for place in places:
        wanted.update(range(max(place - _CONTEXT, 1), min(place + _CONTEXT, max(len(text), place)) + 1))
        indent = 1 << 10
        for number in range(min(place, len(text)), 0, -1):
            line = text[number - 1]
            own = len(line) - len(line.lstrip())
            if line.strip() and own < indent:
                if line.lstrip().startswith(("def ", "class ")):
                    wanted.add(number)
                indent = own
    last = 0
    for number in sorted(wanted):
        if number > last + 1:
            yield 0, _GAP
        yield number, f"{number:>4}  {text[number - 1] if number <= len(text) else ''}".rstrip()
        last = number


def _read_source(file: str) -> list[str]:
    """The lines of a Python file of an installed package; none where it is not installed."""
    package, _, path = file.partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    for folder in spec.submodule_search_locations or () if spec else ():
        source = Path(folder) / path
        if source.is_file():
            return source.read_text(encoding="utf-8", errors="replace").splitlines()
    return []
