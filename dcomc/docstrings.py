"""What docstrings say: of fields, which Python itself forgets, and in one sentence."""

import ast
import inspect
import re
import textwrap

OWN = ("dcomc", "dialects", "passes", "runtime")


def field_docs(class_: type) -> dict[str, str]:
    """What the strings below the fields of a class say, by field; those of its base classes that are ours included."""
    docs: dict[str, str] = {}
    for base in reversed(class_.__mro__):
        if base.__module__.partition(".")[0] not in OWN:
            continue
        definition = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = inspect.cleandoc(text)
                case _:
                    pass
    return docs


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line; an abbreviation before a number (Eq. 6) does not end it."""
    return re.split(r"(?<=\.)\s+(?=[A-Z`])|\n\n", text.strip(), maxsplit=1)[0].replace("\n", " ")
