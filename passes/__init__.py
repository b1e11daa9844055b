"""The passes of dcomc, one file each, and the pipelines that name them: `name{option=value option=a,b},…`."""

import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import NamedTuple, cast, get_args, get_origin, get_type_hints

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError

from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.docstrings import field_docs

Value = int | float | str | bool


def _load(module: str, name: str) -> Callable[[], type[ModulePass]]:
    return lambda: cast(type[ModulePass], getattr(importlib.import_module(module), name))


PASSES: Mapping[str, Callable[[], type[ModulePass]]] = {
    "dcom-insert-outlier-split": _load("passes.dcom_insert_outlier_split", "DcomInsertOutlierSplitPass"),
    "dcom-decompose-activations": _load("passes.dcom_decompose_activations", "DcomDecomposeActivationsPass"),
    "dcom-decompose-weights": _load("passes.dcom_decompose_weights", "DcomDecomposeWeightsPass"),
    "dcom-preserve-decomposed": _load("passes.dcom_preserve_decomposed", "DcomPreserveDecomposedPass"),
    "dcom-legalize": _load("passes.dcom_legalize", "DcomLegalizePass"),
    "lower-dcom-to-cluster": _load("passes.lower_dcom_to_cluster", "LowerDcomToClusterPass"),
    "cluster-expand-reductions": _load("passes.cluster_expand_reductions", "ClusterExpandReductionsPass"),
    "cluster-map": _load("passes.cluster_map", "ClusterMapPass"),
    "cluster-schedule": _load("passes.cluster_schedule", "ClusterSchedulePass"),
    "lower-cluster-to-isa": _load("passes.lower_cluster_to_isa", "LowerClusterToIsaPass"),
    "canonicalize": _load("xdsl.transforms.canonicalize", "CanonicalizePass"),
    "cse": _load("xdsl.transforms.common_subexpression_elimination", "CommonSubexpressionElimination"),
    "dce": _load("xdsl.transforms.dead_code_elimination", "DeadCodeElimination"),
}
"""The passes by name; each is imported when it is asked for."""

UPSTREAM = {
    "canonicalize": "Apply every operation's canonicalisation patterns and folders.",
    "cse": "Eliminate common subexpressions.",
    "dce": "Eliminate dead code.",
}
"""The passes that come with xDSL, whose classes do not all say in a line what they do."""


def pass_summaries() -> dict[str, str]:
    """The first line of each pass's description."""
    return {
        name: UPSTREAM[name] if name in UPSTREAM else (inspect.getdoc(load()) or "").partition("\n")[0]
        for name, load in PASSES.items()
    }


def describe_pass(name: str) -> str:
    """The name, the description and the options of a pass; raises `DcomError` for an unknown one."""
    options = [
        f"\n  {option.name}: {option.takes}"
        + (f" ({option.default})" if option.default else "")
        + textwrap.indent(f"\n{option.meaning}", "      ").rstrip()
        for option in pass_options(name)
    ]
    return f"{name}\n\n{pass_text(name)}" + ("\n\nOptions:" + "".join(options) if options else "")


def pass_text(name: str) -> str:
    """What a pass does, with IR before and after; raises `DcomError` for an unknown one."""
    return UPSTREAM[name] if name in UPSTREAM else inspect.getdoc(_find(name)) or ""


class Option(NamedTuple):
    """An option of a pass, in words."""

    name: str
    takes: str
    default: str
    """`needed`, `default 10`, or nothing."""
    meaning: str


def pass_options(name: str) -> list[Option]:
    """The options of a pass in their order; raises `DcomError` for an unknown one."""
    class_ = _find(name)
    types, meanings = get_type_hints(class_), field_docs(class_)
    return [
        Option(
            field.name,
            _describe(types[field.name]),
            "needed" if field.name in class_.required_fields() else _default(field.default),
            meanings.get(field.name, ""),
        )
        for field in dataclasses.fields(class_)
    ]


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    return f"default {','.join(map(str, cast(tuple[object, ...], value))) if isinstance(value, tuple) else value}"


def _find(name: str) -> type[ModulePass]:
    if name not in PASSES:
        raise DcomError(f"unknown pass '{name}'", hint=did_you_mean(name, PASSES))
    return PASSES[name]()


def make_passes(pipeline: str) -> list[ModulePass]:
    """The passes of a pipeline such as `dcom-decompose-activations{layers=10,15 rank=10},dcom-legalize`.

    mlir-opt's `builtin.module(…)` may stand around it, and then it may be empty.

    Raises:
        DcomError: the text is no pipeline, or a pass or an option of it is unknown, missing or of another type.
    """
    anchored = re.fullmatch(r"builtin\.module\((.*)\)", pipeline.strip(), re.DOTALL)
    try:
        specs = list(parse_pipeline(anchored[1].strip() if anchored else pipeline.strip()))
    except ArgSpecParseError as error:
        raise DcomError(
            f"'{pipeline}' is not a pipeline: {str(error).strip().splitlines()[-1].strip(' ^')}",
            hint="write name{option=value option=a,b},name",
        ) from error
    if not specs and not anchored:
        raise DcomError("the pipeline is empty", hint="write name{option=value option=a,b},name")
    return [_make_pass(spec) for spec in specs]


def _make_pass(spec: ArgSpec) -> ModulePass:
    class_ = _find(spec.name)
    types = get_type_hints(class_)
    options = {field.name: types[field.name] for field in dataclasses.fields(class_)}
    given = spec.normalize_parameter_names().parameters
    for option in given:
        if option not in options:
            known = did_you_mean(option, options) if options else "it has none"
            raise DcomError(f"pass {spec.name} has no option '{option}'", hint=known)
    missing = sorted(class_.required_fields() - set(given))
    if missing:
        raise DcomError(f"pass {spec.name} needs the option {missing[0]}", hint=f"write {spec.name}{{{missing[0]}=…}}")
    values = {option: _convert(spec.name, option, given[option], options[option]) for option in given}
    return class_(**values)


def _convert(name: str, option: str, values: Sequence[Value], wanted: object) -> Value | tuple[Value, ...]:
    """The values of an option as one of the types that its field has."""
    for type_ in _alternatives(wanted):
        if get_origin(type_) is tuple:
            element = get_args(type_)[0]
            if values and all(type(value) is element for value in values):
                return tuple(values)
        elif len(values) == 1 and type(values[0]) is type_:
            return values[0]
    texts = ",".join(str(value) for value in values) or "nothing"
    raise DcomError(f"option {option} of pass {name} is {texts}", hint=f"expected {_describe(wanted)}")


def _alternatives(wanted: object) -> list[type]:
    """The types that the values of an option may have; None only says that it may be left out."""
    types = cast(tuple[type, ...], get_args(wanted) if isinstance(wanted, UnionType) else (wanted,))
    return [type_ for type_ in types if type_ is not NoneType]


def _describe(wanted: object) -> str:
    words = {int: "an integer", float: "a number with a decimal point", bool: "true or false", str: "a name or a text"}
    return " or ".join(
        f"{_describe(get_args(type_)[0])}, or several with commas between"
        if get_origin(type_) is tuple
        else words[type_]
        for type_ in _alternatives(wanted)
    )
