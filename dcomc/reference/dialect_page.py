"""The reference page of a dialect: its types and operations as their definitions, docstrings and tests have them."""

import inspect
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path

from xdsl.interfaces import HasCanonicalizationPatternsInterface, HasFolderInterface
from xdsl.ir import Dialect, Operation, ParametrizedAttribute
from xdsl.irdl import IRDLOperation, OptionalDef, VariadicDef
from xdsl.irdl.operations import AttrOrPropDef, OperandOrResultDef
from xdsl.printer import Printer

from dcomc.docstrings import field_docs, first_sentence
from dcomc.ir import parse_module
from dcomc.reference.constraints import describe
from dcomc.reference.markdown import WRITTEN, prose, table


def dialect_page(dialect: Dialect, docstring: str | None, root: Path) -> str:
    """The page of `dialect` in Markdown.

    Args:
        docstring: of the dialect's module, whose first sentence names the dialect.
        root: of the checkout, whose test/dialects/<name>/ops.mlir gives an example of each operation.
    """
    return "\n\n".join(_sections(dialect, docstring or "", _examples(dialect, root))) + "\n"


def _examples(dialect: Dialect, root: Path) -> dict[str, str]:
    """The first of each operation in the dialect's round-trip test, those with regions left out."""
    path = root / "test" / "dialects" / dialect.name / "ops.mlir"
    examples: dict[str, str] = {}
    for op in parse_module(path.read_text(encoding="utf-8"), str(path)).walk():
        if not op.regions:
            stream = StringIO()
            Printer(stream).print_op(op)
            examples.setdefault(op.name, stream.getvalue())
    return examples


def _sections(dialect: Dialect, docstring: str, examples: dict[str, str]) -> Iterator[str]:
    types = [attribute for attribute in dialect.attributes if issubclass(attribute, ParametrizedAttribute)]
    operations = sorted(
        (operation for operation in dialect.operations if issubclass(operation, IRDLOperation)), key=lambda op: op.name
    )
    yield f"# The `{dialect.name}` dialect"
    yield WRITTEN.format(source=f"the definitions in `dialects/{dialect.name}*.py`")
    yield prose(docstring)
    yield "## Types"
    for type_ in types:
        yield from _type(type_)
    yield "## Operations"
    yield table(
        ["operation", "does"],
        [
            [f"[`{operation.name}`](#{_anchor(operation.name)})", prose(first_sentence(_doc(operation)))]
            for operation in operations
        ],
    )
    common = set[str].intersection(*map(_traits, operations))
    if common:
        yield f"Traits of all: {_code(common)}"
    for operation in operations:
        yield from _operation(operation, examples.get(operation.name), _traits(operation) - common)


def _type(type_: type[ParametrizedAttribute]) -> Iterator[str]:
    docs = field_docs(type_)
    yield f"### `!{type_.name}`"
    yield prose(_doc(type_))
    yield table(
        ["parameter", "holds", "meaning"],
        [
            [f"`{name}`", describe(parameter.constr), prose(docs.get(name, ""))]
            for name, parameter in type_.get_irdl_definition().parameters
        ],
    )


def _traits(operation: type[Operation]) -> set[str]:
    """The names of an operation's traits, without those by which xDSL itself finds folders and patterns."""
    names = {type(trait).__name__ for trait in operation.traits}
    return {name for name in names if not name.startswith("_")}


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _operation(operation: type[IRDLOperation], example: str | None, traits: set[str]) -> Iterator[str]:
    """The section of an operation.

    Args:
        traits: that not all operations of the dialect have.
    """
    definition = operation.get_irdl_definition()
    docs = field_docs(operation)
    yield f"### `{operation.name}`"
    yield prose(_doc(operation))
    if definition.assembly_format is not None:
        syntax = f"operation ::= `{operation.name}` {definition.assembly_format}"
        yield "\n".join(["```mlir", syntax, *([example] if example else []), "```"])
    rows = [
        [f"`{name}`", kind, f"{describe(part.constr)}{_how_many(part)}", prose(docs.get(name, ""))]
        for kind, parts in (
            ("operand", definition.operands),
            ("attribute", [*definition.properties.items(), *definition.attributes.items()]),
            ("result", definition.results),
        )
        for name, part in parts
    ]
    if rows:
        yield table(["name", "", "type", "meaning"], rows)
    rewrites = " ".join(map(prose, _rewrites(operation)))
    if rewrites:
        yield f"Canonical form: {rewrites}"
    if traits:
        yield f"Traits: {_code(traits)}"


def _how_many(part: OperandOrResultDef | AttrOrPropDef) -> str:
    return ", optional" if isinstance(part, OptionalDef) else ", any number" if isinstance(part, VariadicDef) else ""


def _rewrites(operation: type[Operation]) -> Iterator[str]:
    """What folding and the canonicalisation patterns of an operation say that they do."""
    if issubclass(operation, HasFolderInterface):
        yield _doc(operation.fold)
    if issubclass(operation, HasCanonicalizationPatternsInterface):
        for pattern in operation.get_canonicalization_patterns():
            yield _doc(type(pattern))


def _doc(what: object) -> str:
    return inspect.getdoc(what) or ""


def _anchor(heading: str) -> str:
    """A heading's anchor as Markdown viewers make it: dots are left out."""
    return heading.replace(".", "")


def isa_page() -> str:
    """The page of the `isa` dialect, whose operations are the instructions of docs/isa.md."""
    from dialects import isa

    sections = [
        "# The `isa` dialect",
        WRITTEN.format(source="`dialects/isa.py`"),
        prose(isa.__doc__ or ""),
        "The [instruction set](../isa.md) says what each instruction does; its operation is `isa.` and the mnemonic.",
    ]
    for operation in (isa.KernelOp, isa.LabelOp):
        sections += [f"## `{operation.name}`", prose(_doc(operation))]
    return "\n\n".join(sections) + "\n"
