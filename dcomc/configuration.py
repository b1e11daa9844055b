"""What a model's IR depends on in its configuration: noted by the tracer, held against a model that is to be run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    BoolAttr,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    f64,
    i64,
)
from xdsl.ir import Attribute

from dcomc.diagnostics import DcomError
from dcomc.model import Model, load_transformers

CONFIG = "dcom.config"
"""The module's attribute that holds the configuration."""

_TRAINING = ("attention_dropout", "embd_pdrop", "initializer_range", "pretraining_tp", "resid_pdrop", "use_cache")


def configuration(config: Mapping[str, object]) -> DictionaryAttr:
    """The configuration of a causal language model in transformers' own names, defaults filled in.

    What any model of transformers has, identifiers of tokens, and what matters in training alone are left out. Floats
    have six digits: GGUF files keep them as float32.

    Args:
        config: as config.json holds it.
    """
    transformers = load_transformers()
    whole: dict[str, Any] = transformers.AutoConfig.for_model(**config).to_dict()
    general: dict[str, Any] = transformers.PretrainedConfig().to_dict()
    left_out = {*general, *_TRAINING} - {"model_type"}
    kept = {key: value for key, value in whole.items() if key not in left_out and not key.endswith("_token_id")}
    return _dictionary(kept)


def check_configuration(module: ModuleOp, model: Model, say: Callable[[str], None]) -> None:
    """Hold the model against what the tracer noted in a module; modules without a note pass.

    Args:
        say: told where the model has another name and the same configuration.

    Raises:
        DcomError: the configurations differ; the message names each entry.
    """
    traced, name = module.attributes.get(CONFIG), module.attributes.get("dcom.model")
    called = f"'{name.data}'" if isinstance(name, StringAttr) else "another model"
    if isinstance(traced, DictionaryAttr):
        differences = list(_differences(traced, configuration(model.config()), ""))
        if differences:
            what = f"the program is of {called}, and '{model.name}' differs from it: {', '.join(differences)}"
            raise DcomError(what, hint="give the model that was traced")
    if isinstance(name, StringAttr) and name.data != model.name:
        say(f"note: the program was traced from {called}, and runs on the weights of '{model.name}'")


def _differences(traced: DictionaryAttr, given: DictionaryAttr, prefix: str) -> Iterator[str]:
    for key in sorted({*traced.data, *given.data}):
        one, other = traced.data.get(key), given.data.get(key)
        if isinstance(one, DictionaryAttr) and isinstance(other, DictionaryAttr):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key} is {_text(other)}, not {_text(one)}"


def _text(value: Attribute | None) -> str:
    match value:
        case None:
            return "none"
        case FloatAttr():
            return f"{value.value.data:g}"
        case IntegerAttr():
            return str(bool(value.value.data)).lower() if value.type != i64 else str(value.value.data)
        case StringAttr():
            return f"'{value.data}'"
        case _:
            return "another"


def _dictionary(values: Mapping[str, Any]) -> DictionaryAttr:
    """Without private entries and those that are null."""
    kept = {key: value for key, value in sorted(values.items()) if value is not None and not key.startswith("_")}
    return DictionaryAttr({key: _attribute(value) for key, value in kept.items()})


def _attribute(value: Any) -> Attribute:
    match value:
        case bool():
            return BoolAttr.from_bool(value)
        case int():
            return IntegerAttr(value, i64)
        case float():
            return FloatAttr(float(f"{value:.6g}"), f64)
        case Mapping():
            return _dictionary({str(key): each for key, each in cast(Mapping[Any, Any], value).items()})
        case Sequence() if not isinstance(value, str):
            return ArrayAttr([_attribute(each) for each in cast(Sequence[Any], value)])
        case _:
            return StringAttr(str(value))
