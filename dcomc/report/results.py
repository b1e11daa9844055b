"""What was measured of a program elsewhere, for its page: files of `dcomc sim`, `run`, `eval` and `estimate`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dcomc.comparison import CONTROLS, PROGRAM
from dcomc.diagnostics import DcomError, counted
from dcomc.json_files import json_object, read_bytes
from runtime.program import Program

Errors = dict[tuple[int, str], tuple[float | None, float | None]]
"""Error of the factors and the least at their rank, by layer and site."""

_HINT = "give a file of `dcomc sim --stats`, `run --json`, `eval --json` or `estimate --stats`"


@dataclass(frozen=True)
class Score:
    """A model's value of a metric."""

    name: str
    about: str
    value: float
    low: float | None
    """The lower end of the 95% interval of what the value is against the dense model's: its ratio, or its difference.
    """
    high: float | None
    change: float | None


@dataclass(frozen=True)
class Quality:
    """A metric of the dense model, the program, and its controls."""

    source: str
    metric: str
    about: str
    is_ratio: bool
    """Whether a change is a ratio, or a difference."""
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Latency:
    """The estimated time of the model on a host."""

    variant: str
    """`dense`, `gpu`: decomposed there, or `dcom`: decomposed by a D-com beside it."""
    host: str
    """Such as `4 x a100-80gb`."""
    batch: int
    """Prompts."""
    seconds: float
    fastest: float
    slowest: float
    source: str


@dataclass(frozen=True)
class Results:
    """What files hold of a program."""

    quality: tuple[Quality, ...]
    errors: Errors
    latency: tuple[Latency, ...]


def read_results(paths: Iterable[Path], program: Program, digest: str) -> Results:
    """The qualities, errors and latencies in result files.

    Args:
        program: that they are of.
        digest: SHA-256 of its file.

    Raises:
        DcomError: a file that cannot be read, is of another program, or is none of these.
    """
    quality: list[Quality] = []
    latency: list[Latency] = []
    errors: Errors = {}
    for path in paths:
        values = json_object(read_bytes(path, _HINT), path, _HINT)
        try:
            _check_program(values, program, digest, path)
            if "decompositions" in values:
                errors |= _errors(values)
            elif "dense_perplexity" in values:
                quality.append(_run(values, path.name))
            elif "models" in values:
                quality += _eval(values, path.name)
            elif "variants" in values:
                latency += _latency(values, path.name)
            else:
                raise KeyError("decompositions")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DcomError(f"{path} holds no results of a program", hint=_HINT) from error
    return Results(tuple(quality), errors, tuple(latency))


def _check_program(values: Mapping[str, Any], program: Program, digest: str, path: Path) -> None:
    """Refuse results that say they are of another program: by its digest, or else by machine and options."""
    said: Any = values.get("program")
    other = isinstance(said, dict) and cast(dict[str, Any], said).get("sha256", digest) != digest
    if "decompositions" in values or "variants" in values:
        options = json.loads(json.dumps(dict(program.options)))
        other = values.get("options", options) != options or values["machine"]["hash"] != program.machine.hash
    if other:
        raise DcomError(f"{path} is of another program", hint="measure this one")


def _errors(values: Mapping[str, Any]) -> Errors:
    return {(e["layer"], e["site"]): (e["relative_error"], e["optimal_error"]) for e in values["decompositions"]}


def _latency(values: Mapping[str, Any], source: str) -> Iterable[Latency]:
    host = f"{values['gpu']['tensor_parallel']} x {values['gpu']['name']}"
    for variant, times in cast("dict[str, dict[str, float]]", values["variants"]).items():
        seconds = (float(times[name]) for name in ("seconds", "fastest", "slowest"))
        yield Latency(variant, host, int(values["batch"]), *seconds, source=source)


def _run(values: Mapping[str, Any], source: str) -> Quality:
    dense = float(values["dense_perplexity"])
    scores = [Score("dense", "transformers' own model", dense, None, None, None)]
    measured = {PROGRAM: values, **values["controls"]}
    for name, each in measured.items():
        about = CONTROLS.get(name, "as compiled").format(exact="only what is kept exact")
        scores.append(Score(name, about, float(each["perplexity"]), None, None, float(each["ratio"])))
    return Quality(source, "perplexity", f"{values['tokens']:,} tokens of text", True, tuple(scores))


def _eval(values: Mapping[str, Any], source: str) -> Iterable[Quality]:
    models: dict[str, dict[str, Any]] = values["models"]
    for metric in models["dense"]:
        scores: list[Score] = []
        for name, metrics in models.items():
            each = metrics[metric]
            low, high = each.get("interval_95") or (None, None)
            about = CONTROLS.get(name, "").format(exact="only what is kept exact")
            scores.append(Score(name, about, float(each["value"]), low, high, each.get("change")))
        about = f"{values['task']}, {counted(values['documents'], 'document')}"
        yield Quality(source, metric, about, "perplexity" in metric, tuple(scores))
