"""Parsing text so that whatever is wrong with it, now or in a later pass, can be named by its line."""

import re
from bisect import bisect_right
from pathlib import PurePath
from typing import NoReturn

from xdsl.context import Context
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, LocationAttr, ModuleOp, StringAttr, UnknownLoc
from xdsl.ir import Operation
from xdsl.parser import Parser, ParserState
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer

from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.verification import MALFORMED, verifier_message

_LOCATION_ALIAS = re.compile(r"^#loc\d* = loc\(", re.MULTILINE)
_UNREGISTERED = re.compile(r"(?:Operation (?P<op>\S+)|'(?P<type>\S+)') is not registered")


MLIR_NAMES = {"ml_program.global_load_const": {"global_attr": "global"}}
"""What MLIR calls properties for which xDSL has another name; only the generic syntax shows them."""


class _Lexer(MLIRLexer):
    """xDSL's lexer, with literals that end in time linear in their length, where nothing closes them, too."""

    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+"')


class TextParser(Parser):
    """xDSL's parser, which also knows where in the text each operation stands.

    An operation without `loc(…)` gets its line and column as location, under the name of the file without its folder,
    so that what is compiled from it does not depend on where it lay.
    """

    def __init__(self, context: Context, text: str, name: str) -> None:
        self._name = name
        self._text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        try:
            super().__init__(context, "", name)
            self._parser_state = ParserState(_Lexer(Input(text, name)))
        except ParseError as error:  # the first token is none
            raise DcomError(error.msg, place=self._place(error.span.start)) from error
        self._starts: dict[Operation, int] = {}
        self._located = False
        self._aliases: dict[int, int] = {}

    def parse(self) -> ModuleOp:
        """Parse the module, without verifying it; raises `DcomError` at the first place where something is wrong."""
        try:
            self._read_location_aliases()
            return self.parse_module()
        except ParseError as error:
            first = re.sub("//.*", "", self._text).lstrip()[:2]
            if not first or first[0] == "[" or (first[0] == "{" and first != "{-"):  # {-# is of MLIR's resources
                what = "is JSON, not MLIR" if first else "is empty"
                place = self._place(error.span.start)
                raise DcomError(f"the text {what}", hint="give IR as `dcomc trace` writes it", place=place) from error
            self._fail(error)
        except VerifyException as error:  # of a type in an alias, outside any operation
            last = len(self._text[: self.pos].rstrip()) - 1
            raise DcomError(verifier_message(error), place=self._place(max(last, 0))) from error
        except MALFORMED as error:
            raise DcomError(f"the text is malformed: {verifier_message(error)}", place=self._place(self.pos)) from error
        except RecursionError:
            raise DcomError("the text is nested too deeply", place=self._place(self.pos)) from None

    def _read_location_aliases(self) -> None:
        """Read what MLIR's tools define at the end of a text, and xDSL's parser needs before it is used."""
        for match in _LOCATION_ALIAS.finditer(self._text):
            self._resume_from(match.start())
            super()._parse_alias_def()
            self._aliases[match.start()] = self._current_token.span.start
        self._resume_from(0)

    def _parse_alias_def(self) -> None:
        end = self._aliases.get(self._current_token.span.start)
        if end is None:
            super()._parse_alias_def()
        else:
            self._resume_from(end)

    def place(self, op: Operation) -> str:
        """`file:line:column` of an operation, or of the one around it that the text shows."""
        shown: Operation | None = op
        while shown is not None and shown not in self._starts:
            shown = shown.parent_op()
        return self._name if shown is None else self._place(self._starts[shown])

    def parse_operation(self) -> Operation:
        start = self.pos
        try:
            op = super().parse_operation()
        except VerifyException as error:
            self.raise_error(verifier_message(error), start)
        except MALFORMED as error:
            self.raise_error(f"the operation is malformed: {verifier_message(error)}", start)
        self._starts[op] = start
        for name, mlir_name in MLIR_NAMES.get(op.name, {}).items():
            if mlir_name in op.properties:
                op.properties[name] = op.properties.pop(mlir_name)
        if not self._located:
            op.location = self._location(start)
        for region in op.regions:  # some operations make a body that the text does not show
            for block in region.blocks:
                for argument in block.args:
                    if isinstance(argument.location, UnknownLoc):
                        argument.location = op.location
                for inner in block.ops:
                    if isinstance(inner.location, UnknownLoc) and inner not in self._starts:
                        inner.location = op.location
        return op

    def parse_optional_location(self) -> LocationAttr | None:
        location = super().parse_optional_location()
        self._located = location is not None  # an operation's own location is the last that it parses
        return location

    def _location(self, position: int) -> FileLineColLoc:
        line, column = self._line_and_column(position)
        return FileLineColLoc(StringAttr(PurePath(self._name).name), IntAttr(line), IntAttr(column))

    def _line_and_column(self, position: int) -> tuple[int, int]:
        line = bisect_right(self._lines, position)
        return line, position - self._lines[line - 1] + 1

    def _place(self, position: int) -> str:
        return ":".join(map(str, (self._name, *self._line_and_column(position))))

    def _fail(self, error: ParseError) -> NoReturn:
        """Raise the error of the parser at the place that it is about."""
        position, hint = error.span.start, None
        unregistered = _UNREGISTERED.fullmatch(error.msg)
        if unregistered is not None:  # xDSL has read the token after the name by then
            name = unregistered["op"] or unregistered["type"]
            position = self._text.rfind(name, 0, position)
            hint = self._registered(name, is_op=unregistered["op"] is not None)
        elif self.forward_ssa_references and "used but not defined" in error.msg:  # told at the end of the text
            users = [
                self._starts[use.operation]
                for values in self.forward_ssa_references.values()
                for value in values.values()
                for use in value.uses
                if use.operation in self._starts
            ]
            position = min(users, default=position)
        raise DcomError(error.msg, hint=hint, place=self._place(position)) from error

    def _registered(self, name: str, *, is_op: bool) -> str:
        """A hint that names what is like the operation, type or attribute `name`."""
        dialects = {dialect.name: dialect for dialect in self.ctx.loaded_dialects}
        dialect, _, _ = name.partition(".")
        if dialect in dialects:
            known = dialects[dialect].operations if is_op else dialects[dialect].attributes
            return did_you_mean(name, (definition.name for definition in known))
        return did_you_mean(dialect, self.ctx.registered_dialect_names)
