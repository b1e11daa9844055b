"""Reading, printing and locating IR: the one place that knows which dialects there are."""

import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import cast

from xdsl.context import Context
from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
from xdsl.dialects import get_all_dialects
from xdsl.dialects.builtin import (
    ArrayAttr,
    Builtin,
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    LocationAttr,
    ModuleOp,
    NameLoc,
    NoneAttr,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute, Dialect, Operation
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from dcomc.diagnostics import DcomError, readable
from dcomc.text_parser import MLIR_NAMES, TextParser
from dcomc.verification import MALFORMED, early_use, invalid_operation, verifier_message, verify


class _ResourceNames(OpAsmDialectInterface):
    """Resources keep the names that the text gives them; xDSL's own renames those of every module but the first."""

    def declare_resource(self, key: str) -> str:
        return key if self.lookup(key) is not None else super().declare_resource(key)


def _cluster() -> Dialect:
    from dialects.cluster import Cluster

    return Cluster


def _dcom() -> Dialect:
    from dialects.dcom import Dcom

    return Dcom


def _isa() -> Dialect:
    from dialects.isa import Isa

    return Isa


OWN_DIALECTS: Mapping[str, Callable[[], Dialect]] = {"cluster": _cluster, "dcom": _dcom, "isa": _isa}
"""The dialects that are ours, each imported when it is asked for."""


LEVEL_0 = ("arith", "builtin", "func", "linalg", "math", "ml_program", "scf", "tensor")
"""The upstream dialects of a traced model, and of what `dcom-legalize` makes of it."""


def make_context(*, allow_unregistered: bool = False) -> Context:
    """A context with the upstream dialects of Level 0 and the dialects of dcomc, each loaded when first met.

    Args:
        allow_unregistered: take operations, types and attributes of other dialects as they are, in generic syntax.
    """

    def builtin() -> Dialect:
        return Dialect("builtin", [*Builtin.operations], [*Builtin.attributes], [_ResourceNames()])

    context = Context(allow_unregistered=allow_unregistered)
    factories = {**get_all_dialects(), "builtin": builtin, **OWN_DIALECTS}
    for name in (*LEVEL_0, *OWN_DIALECTS):
        context.register_dialect(name, factories[name])
    return context


def parse_module(text: str, name: str, context: Context | None = None) -> ModuleOp:
    """Parse and verify a module.

    Args:
        text: MLIR text.
        name: what to call the text in errors, commonly its file.

    Raises:
        DcomError: the text does not parse or does not verify; the place is that of the first error.
    """
    parser = TextParser(context or make_context(), text, name)
    module = parser.parse()
    verify_module(module, name, parser.place)
    return module


def verify_module(module: ModuleOp, name: str, place: Callable[[Operation], str] | None = None) -> None:
    """Verify `module`.

    Args:
        name: what to call the module in an error where nothing tells the place of the operation.
        place: tells the place of an operation in a text; without it the operation's location does.

    Raises:
        DcomError: with the message of the first rule that does not hold, and where.
    """
    op = error = None
    try:
        verify(module)
        op = early_use(module)
        message = f"{op.name} uses a value that is not made before it" if op else ""
    except (VerifyException, *MALFORMED) as caught:
        error = caught
        op, message = invalid_operation(module) or (None, verifier_message(error))
    if not message:
        return
    origin = None if op is None else place_of(op.location)
    if op is None or place is None:
        raise DcomError(message, place=origin or name) from error
    hint = f"it comes from {origin}" if isinstance(op.location, NameLoc) else None
    raise DcomError(message, hint=hint, place=place(op)) from error


def read_text(path: str, hint: str) -> tuple[str, str]:
    """What to call a text in errors, and the text of a file in UTF-8, after its byte order mark; `-` is standard input.

    Raises:
        DcomError: no such file, or not UTF-8; with `hint` as what to do about it.
    """
    name = "<stdin>" if path == "-" else readable(path)
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return name, data.decode("utf-8-sig")
    except OSError as error:
        raise DcomError(f"cannot read {name}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise DcomError(f"{name} is not MLIR text", hint=hint) from error


def read_module(path: str, context: Context | None = None) -> ModuleOp:
    """Parse and verify the module in a file; `-` is standard input.

    Raises:
        DcomError: no such file, not text, or not a valid module.
    """
    name, text = read_text(path, "give a file made by `dcomc trace`")
    return parse_module(text, name, context)


class _Printer(Printer):
    """Prints the generic syntax as other tools read it.

    Properties of our operations are attributes, since operations defined by IRDL have no others.
    """

    def print_op_with_default_format(self, op: Operation) -> None:
        outer, properties = self.print_properties_as_attributes, op.properties
        names = MLIR_NAMES.get(op.name, {})
        self.print_properties_as_attributes = (
            op.dialect_name() in OWN_DIALECTS and not properties.keys() & op.attributes.keys()
        )
        try:
            op.properties = {names.get(name, name): value for name, value in properties.items()}
            super().print_op_with_default_format(op)
        finally:
            op.properties = properties
            self.print_properties_as_attributes = outer


def print_module(module: Operation, *, locations: bool = True, generic: bool = False) -> str:
    """The text of a module, ending in a newline, with locations unless told otherwise.

    Args:
        generic: every operation in the generic syntax, which needs no knowledge of its dialect.
    """
    stream = StringIO()
    _Printer(stream, print_generic_format=generic, print_debuginfo=locations).print_op(module)
    stream.write("\n")
    return stream.getvalue()


def source_location(module_path: str, file: str, line: int) -> LocationAttr:
    """The location of something that comes from line `line` of `file` in the model's module `module_path`."""
    return NameLoc(StringAttr(module_path), FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(1)))


def describe_location(location: LocationAttr) -> str:
    """A location for people: `model.layers.10.mlp (modeling_llama.py:182)`, or `?` where it is unknown."""
    match location:
        case NameLoc():
            inner = location.location
            rest = describe_location(inner) if isinstance(inner, LocationAttr) else "?"
            return location.desc.data if rest == "?" else f"{location.desc.data} ({rest})"
        case FileLineColLoc():
            return f"{location.filename.data}:{location.line.data}"
        case CallSiteLoc() if isinstance(location.callee, LocationAttr):
            return describe_location(location.callee)
        case FusedLoc():
            return _describe_parts(fused_parts(location))
        case _:
            return "?"


def place_of(location: LocationAttr) -> str | None:
    """The place of an error at a location; None where it is unknown."""
    described = describe_location(location)
    return None if described == "?" else described


@contextmanager
def errors_at(location: LocationAttr) -> Generator[None]:
    """Give `location` as their place to errors in this context that have none."""
    try:
        yield
    except DcomError as error:
        error.place = error.place or place_of(location)
        raise


def _describe_parts(parts: Sequence[LocationAttr]) -> str:
    """Several locations as one: `model.layers.10.self_attn.{q_proj, k_proj} (modeling_llama.py:243, 244)`."""
    named: dict[str, list[tuple[str, int]]] = {}
    others: list[str] = []
    for part in parts:
        place = part.location if isinstance(part, NameLoc) else None
        if isinstance(part, NameLoc) and isinstance(place, FileLineColLoc):
            named.setdefault(place.filename.data, []).append((part.desc.data, place.line.data))
        else:
            others.append(describe_location(part))
    texts: list[str] = []
    for file, places in named.items():
        paths = [path.split(".") for path in dict.fromkeys(path for path, _ in places)]
        shared = 0
        while all(len(path) > shared + 1 for path in paths) and len({path[shared] for path in paths}) == 1:
            shared += 1
        ends = [".".join(path[shared:]) for path in paths]
        name = ".".join([*paths[0][:shared], ends[0] if len(ends) == 1 else "{" + ", ".join(ends) + "}"])
        lines = ", ".join(str(line) for line in dict.fromkeys(line for _, line in places))
        texts.append(f"{name} ({file}:{lines})")
    return "; ".join(dict.fromkeys(text for text in (*texts, *others) if text != "?")) or "?"


def common_location(locations: Iterable[LocationAttr]) -> LocationAttr:
    """One location for what several layers share: their places, each once, with `*` for the number of the layer."""
    places: dict[LocationAttr, None] = {}
    for location in locations:
        for part in fused_parts(location):
            if isinstance(part, NameLoc):
                part = NameLoc(StringAttr(re.sub(r"\b\d+\b", "*", part.desc.data)), part.location)
            places[part] = None
    return next(iter(places)) if len(places) == 1 else FusedLoc(tuple(places), NoneAttr())


def fused_parts(location: LocationAttr) -> list[LocationAttr]:
    """The locations that a fused location holds; of another, itself."""
    if not isinstance(location, FusedLoc):
        return [location]
    parts = cast(ArrayAttr[Attribute], location.locations)
    return [part for part in parts if isinstance(part, LocationAttr)]


def locate(operations: Sequence[Operation], location: LocationAttr) -> Sequence[Operation]:
    """Give `location` to each of `operations` (and all inside them) that has none; returns them."""
    for root in operations:
        for op in root.walk():
            if isinstance(op.location, UnknownLoc):
                op.location = location
            for region in op.regions:
                for block in region.blocks:
                    for argument in block.args:
                        if isinstance(argument.location, UnknownLoc):
                            argument.location = location
    return operations
