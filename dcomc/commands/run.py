"""Run the whole model on text with its layers decomposed, and compare it with the dense model on the same tokens."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc.commands._engine import add_engine_arguments
from dcomc.diagnostics import DcomError, atomic_write, counted, write_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from dcomc.evaluate import Array, Evaluation, Forward, Scores, Window
    from dialects.dcom import DecomposeOp
    from runtime.engines import Plan
    from runtime.executor import Executor
    from runtime.executor_arrays import Arrays
    from runtime.executor_dcom import Decompose
    from runtime.lanczos import Factored
    from runtime.program import Program

PROGRAM = "program"
CONTROLS = {
    "float32": "the same decompositions in float32 on the host",
    "skip_layers": "the decomposed layers left out",
    "rank_0": "only the outlier channels, nothing decomposed",
}
SHORT = 256
"""Tokens of a prompt below which the program and its controls hardly differ: a low rank is nearly the full one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc run`."""
    parser.add_argument("program", metavar="PROG.bin", help="a program made by `dcomc compile`")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="the model that was traced: folder, GGUF file, or preset"
    )
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", metavar="FILE", help="text to run on, cut into windows of the program's tokens")
    text.add_argument("--prompt", metavar="TEXT", help="text to run on, given here")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="run on the first N tokens (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--save-activations",
        metavar="FILE.npz",
        help="write the input of each decomposition in the first window, as layer10.qkv [batch*tokens, channels]",
    )
    parser.add_argument(
        "--decompose-with",
        choices=("sim", "float32"),
        default="sim",
        help="simulated instructions, or float32 Lanczos on the host, which is faster (default: sim)",
    )
    add_engine_arguments(parser)
    parser.add_argument(
        "--backend",
        choices=("numpy", "torch"),
        default="torch",
        help="the library that runs all but the simulated decompositions (default: torch)",
    )
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="where torch computes, such as cuda:0 (default: cpu)"
    )
    parser.add_argument(
        "--no-controls", action="store_true", help=f"do not run the controls: {'; '.join(CONTROLS.values())}"
    )


def run(args: argparse.Namespace) -> int:
    """Run the program and the dense model, and report."""
    from dcomc.container import read_program
    from dcomc.evaluate import Evaluation, dense_forward, split_windows, torch_weights
    from dcomc.ir import parse_module
    from dcomc.model import resolve_model
    from dcomc.progress import EvaluationProgress
    from runtime.engines import PATIENCE_SECONDS
    from runtime.executor_arrays import make_arrays

    if args.max_tokens is not None and args.max_tokens < 2:
        raise DcomError(f"--max-tokens {args.max_tokens} is too few", hint="it goes from 2 upwards")
    for output in (args.json, args.save_activations):
        _check_output(output)
    text = _read_text(args.text, args.prompt)
    program = read_program(args.program)
    if not program.host.strip():
        raise DcomError(f"{args.program} holds no model, only kernels", hint="compile a traced model, or use dcomc sim")
    module = parse_module(program.host, f"{args.program}:.dcom.host")
    described = describe(module)
    if args.save_activations and not described.layers:
        raise DcomError("no layer is decomposed, so no activation can be saved", hint="leave out --save-activations")
    model = resolve_model(args.model).with_weights()
    arrays = make_arrays(args.backend, args.device)
    print(f"loading {model.name}", file=sys.stderr)
    windows = split_windows(model.tokenizer().encode(text)[: args.max_tokens], described.batch, described.seq_len)
    dense = model.torch_model("f32")
    weights = torch_weights(dense)
    check_weights(module, weights)

    chosen = _plan(program, args, len(windows))
    recorder = Recorder(_decompose_with(program, chosen, arrays))
    progress = EvaluationProgress(described.calls)
    layers = () if args.no_controls else described.layers
    models = build_models(module, weights, arrays, recorder.decompose, layers, progress.layer)
    if args.decompose_with == "float32":
        models.pop("float32", None)  # the program itself
    print(_headline(model.name, windows, described, args.decompose_with), file=sys.stderr)
    longest = max(max(window.valid) for window in windows)
    if layers and longest < SHORT:
        what = f"note: the controls say little for prompts of {longest} tokens, most of which a low rank holds"
        print(f"{what}; give {SHORT} or more", file=sys.stderr)
    if chosen and chosen.seconds > PATIENCE_SECONDS:
        print(f"simulation: {chosen}", file=sys.stderr)
    evaluation = Evaluation(dense_forward(dense, args.device, progress.layer), models)
    progress.follow(evaluation, windows)
    controls = {name: evaluation.scores.get(name, evaluation.scores[PROGRAM]) for name in CONTROLS if layers}
    if args.save_activations:
        _save_activations(Path(args.save_activations), recorder.inputs)
    if args.json:
        document = {
            "model": model.name,
            "program": _program_document(args.program, program, described),
            "decompose_with": args.decompose_with,
            "engine": chosen.engine if chosen else None,
            "backend": {"library": args.backend, "device": args.device},
            "windows": len(windows),
            **result_document(evaluation, controls),
        }
        write_text(Path(args.json), json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _print_table(model.name, evaluation, controls)
    return 0


@dataclass(frozen=True)
class Described:
    """What the IR of a program says about itself."""

    batch: int
    seq_len: int
    layers: tuple[int, ...]
    """Layers with a decomposition."""
    sites: tuple[str, ...]
    ranks: tuple[int, ...]
    iterations: tuple[int, ...]
    """Lanczos steps."""
    calls: int
    """Decoder layers that one run of the model calls."""


def describe(module: "ModuleOp") -> Described:
    """Read the shape and the decompositions off the IR of a program.

    Raises:
        DcomError: the module does not say its batch and tokens.
    """
    from xdsl.dialects.builtin import IntegerAttr

    from dialects.dcom import DecomposeOp
    from runtime.executor import LAYER

    shape = [module.attributes.get(f"dcom.{name}") for name in ("batch", "seq_len")]
    if not all(isinstance(attribute, IntegerAttr) for attribute in shape):
        raise DcomError("the program does not say its batch and tokens", hint="compile IR made by `dcomc trace`")
    batch, seq_len = (cast("IntegerAttr[Any]", attribute).value.data for attribute in shape)
    operations = list(module.walk())
    decompositions = [op for op in operations if isinstance(op, DecomposeOp)]
    return Described(
        batch,
        seq_len,
        tuple(sorted({op.layer.value.data for op in decompositions})),
        tuple(dict.fromkeys(op.site.data for op in decompositions)),
        tuple(sorted({op.factors.type.rank.data for op in decompositions})),
        tuple(sorted({op.iterations.value.data for op in decompositions})),
        sum(LAYER in op.attributes for op in operations),
    )


def check_weights(module: "ModuleOp", weights: Mapping[str, "Array"]) -> None:
    """Raise `DcomError` when the model lacks a weight of the program, or has it in another shape."""
    from xdsl.dialects.builtin import DenseResourceAttr
    from xdsl.dialects.ml_program import GlobalOp

    for op in module.ops:
        if not isinstance(op, GlobalOp) or not isinstance(op.value, DenseResourceAttr):
            continue
        name, wanted = op.sym_name.data, list(op.value.type.get_shape())
        if name not in weights:
            what = f"the model has no weight '{name}', which the program uses"
            raise DcomError(what, hint="give the model that was traced")
        if list(weights[name].shape) != wanted:
            what = f"weight '{name}' has shape {list(weights[name].shape)}, but the program wants {wanted}"
            raise DcomError(what, hint="give the model that was traced")


class Recorder:
    """Wraps a decomposition and keeps the first input of each layer and site."""

    def __init__(self, inner: "Decompose") -> None:
        self._inner = inner
        self.inputs: dict[str, Array] = {}
        """[B*S, H] float32 or float16, by `layer10.qkv`."""

    def decompose(self, op: "DecomposeOp", x: "Array") -> "Factored":
        """What the wrapped decomposition does."""
        self.inputs.setdefault(f"layer{op.layer.value.data}.{op.site.data}", x)
        return self._inner(op, x)


def build_models(
    module: "ModuleOp",
    weights: Mapping[str, "Array"],
    arrays: "Arrays",
    decompose: "Decompose",
    control_layers: tuple[int, ...],
    progress: Callable[[int], None] | None = None,
) -> "dict[str, Forward]":
    """The program and, where `control_layers` says which layers are decomposed, its controls, by name."""
    from runtime.executor import Executor
    from runtime.executor_dcom import zero_decompose

    make = partial(Executor, module, weights, arrays=arrays, progress=progress)
    executors = {PROGRAM: make(decompose=decompose)}
    if control_layers:
        executors["float32"] = make()
        executors["skip_layers"] = make(skip_layers=control_layers)
        executors["rank_0"] = make(decompose=zero_decompose)
    return {name: _forward(executor) for name, executor in executors.items()}


def _forward(executor: "Executor") -> "Forward":
    def forward(window: "Window") -> "Array":
        executor.valid_rows = window.valid if window.padded else None
        results = executor.run("main", window.tokens)
        return cast("Array", results[0])

    return forward


def _plan(program: "Program", args: argparse.Namespace, windows: int) -> "Plan | None":
    """How the decompositions of all windows are simulated; None where they are not."""
    from dcomc.simulate import work_of
    from runtime.engines import plan

    if args.decompose_with == "float32":
        return None
    work = work_of(program, windows)
    return plan(args.engine, work, program.machine, threads=args.threads, memory_limit=args.memory_limit)


def _decompose_with(program: "Program", chosen: "Plan | None", arrays: "Arrays") -> "Decompose":
    if chosen is None:
        from runtime.executor_dcom import host_decompose

        return partial(host_decompose, by=arrays.lanczos)
    from runtime.accelerator import Accelerator

    accelerator = Accelerator(program, chosen.engine, chosen.threads)

    def decompose(op: "DecomposeOp", x: "Array") -> "Factored":
        factors, _ = accelerator.decompose(accelerator.launch(op.layer.value.data, op.site.data), x)
        return factors

    return decompose


def _check_output(file: str | None) -> None:
    """Fail before the work, not after it, where a file could not be written."""
    if file is not None and not Path(file).parent.is_dir():
        raise DcomError(f"cannot write {file}: no such folder", hint="give a file in a folder that exists")


def _read_text(file: str | None, prompt: str | None) -> str:
    if file is None:
        text, what = prompt or "", "the prompt"
    else:
        try:
            text, what = Path(file).read_text(encoding="utf-8"), file
        except OSError as error:
            raise DcomError(f"cannot read {file}: {error.strerror}", hint="give a text file") from error
        except UnicodeDecodeError as error:
            raise DcomError(f"{file} is not UTF-8 text", hint="give a text file") from error
    if not text.strip():
        raise DcomError(f"{what} is empty", hint="give a text of at least 2 tokens")
    return text


def _headline(name: str, windows: "list[Window]", described: Described, how: str) -> str:
    tokens = sum(sum(window.valid) for window in windows)
    text = f"{name}: {counted(tokens, 'token')} in {counted(len(windows), 'window')}"
    text += f" of {described.batch} x {described.seq_len}; "
    if not described.layers:
        return text + "no layer is decomposed"
    layers, ranks = (", ".join(map(str, values)) for values in (described.layers, described.ranks))
    by = "simulated instructions" if how == "sim" else "float32 on the host"
    return text + f"layers {layers}, sites {', '.join(described.sites)}, rank {ranks} decomposed by {by}"


def _save_activations(path: Path, inputs: "Mapping[str, Array]") -> None:
    import numpy as np

    if not inputs:
        raise DcomError(
            "no layer is decomposed, so there are no activations to save", hint="leave out --save-activations"
        )
    with atomic_write(path) as file:
        np.savez(file, **cast(dict[str, Any], dict(inputs)))


def _program_document(path: str, program: "Program", described: Described) -> dict[str, Any]:
    options = dict(program.options)
    if options.get("iterations") is None and len(described.iterations) == 1:
        (options["iterations"],) = described.iterations  # the compiler's default, which depends on the shape
    return {
        "file": Path(path).name,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "machine": {"name": program.machine.name, "hash": program.machine.hash},
        "batch": described.batch,
        "seq_len": described.seq_len,
        "layers": list(described.layers),
        "sites": list(described.sites),
        "ranks": list(described.ranks),
        "iterations": list(described.iterations),
        "options": options,
    }


def result_document(evaluation: "Evaluation", controls: "Mapping[str, Scores]") -> dict[str, Any]:
    """The measurements as JSON values."""

    def measured(scores: "Scores") -> dict[str, Any]:
        return {
            "perplexity": scores.perplexity,
            "ratio": scores.perplexity / evaluation.dense.perplexity,
            "top1_agreement": scores.top1_agreement,
            "max_logit_difference": scores.max_logit_difference,
        }

    return {
        "tokens": evaluation.dense.tokens,
        "dense_perplexity": evaluation.dense.perplexity,
        **measured(evaluation.scores[PROGRAM]),
        "controls": {name: measured(scores) for name, scores in controls.items()},
    }


def _print_table(name: str, evaluation: "Evaluation", controls: "Mapping[str, Scores]") -> None:
    from rich.console import Console
    from rich.table import Table

    dense = evaluation.dense
    table = Table(title=f"{name}, {dense.tokens:,} tokens", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("perplexity", "ratio", "same top-1", "max |Δ logit|"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("dense, transformers", f"{dense.perplexity:.3f}", "1.000", "", "")
    for label, scores in ((PROGRAM, evaluation.scores[PROGRAM]), *controls.items()):
        table.add_row(
            label if label == PROGRAM else f"{label} (control)",
            f"{scores.perplexity:.3f}",
            f"{scores.perplexity / dense.perplexity:.3f}",
            f"{scores.top1_agreement:.1%}",
            f"{scores.max_logit_difference:.2e}",
        )
    Console().print(table)
    for label in controls:
        print(f"{label}: {CONTROLS[label]}")
