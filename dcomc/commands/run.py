"""Run the whole model on text with its layers decomposed, and compare it with the dense model on the same tokens."""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc.commands._engine import add_engine_arguments
from dcomc.diagnostics import DcomError, atomic_write, check_output, counted, readable, write_text

if TYPE_CHECKING:
    from dcomc.comparison import Comparison, Described
    from dcomc.evaluate import Array
    from dcomc.program import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc run`."""
    parser.add_argument("program", metavar="PROG.bin", help="a program made by `dcomc compile`")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="the model that was traced: folder, GGUF file, or preset"
    )
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", metavar="FILE", help="text to run on, cut into windows of the program's tokens")
    text.add_argument("--prompt", metavar="TEXT", help="text to run on, given here")
    text.add_argument("--tokens", metavar="FILE", help="token ids to run on: numbers, a JSON list of them, or .npy")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="run on the first N tokens (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--save-activations",
        type=Path,
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
        "--no-controls",
        action="store_true",
        help="do not run the controls: the same decompositions in float32 on the host, those layers left out, and only "
        "the outlier channels",
    )


def run(args: argparse.Namespace) -> int:
    """Run the program and the dense model, and report."""
    import dcomc
    from dcomc.token_files import read_tokens

    for output in (args.json, args.save_activations):
        check_output(output, args.program, args.text, args.tokens)
    text = read_text(args.text, args.prompt) if args.tokens is None else read_tokens(args.tokens)
    program = dcomc.load(args.program)
    if args.save_activations and not program.launches:
        raise DcomError("no layer is decomposed, so no activation can be saved", hint="leave out --save-activations")
    comparison = program.run(
        args.model,
        text,
        max_tokens=args.max_tokens,
        decompose_with=args.decompose_with,
        controls=not args.no_controls,
        engine=args.engine,
        threads=args.threads,
        memory_limit=args.memory_limit,
        backend=args.backend,
        device=args.device,
        progress=True,
    )
    if args.save_activations:
        _save_activations(args.save_activations, comparison.inputs)
    if args.json:
        document = {
            **comparison.to_json(),
            "program": _program_document(args.program, program, comparison.described),
            "decompose_with": args.decompose_with,
            "backend": {"library": args.backend, "device": args.device},
        }
        write_text(args.json, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _print_table(comparison)
    return 0


def read_text(file: str | None, prompt: str | None = None) -> str:
    """The text of a file, or else of a prompt; raises `DcomError` where there is none."""
    if file is None:
        text, what = prompt or "", "the prompt"
        if text != text.encode(errors="replace").decode():
            raise DcomError("the prompt is not UTF-8 text", hint="give it in a file")
    else:
        try:
            text, what = Path(file).read_text(encoding="utf-8-sig"), file
        except OSError as error:
            raise DcomError(f"cannot read {file}: {error.strerror}", hint="give a text file") from error
        except UnicodeDecodeError as error:
            raise DcomError(f"{file} is not UTF-8 text", hint="give a text file") from error
    if not text.strip():
        raise DcomError(f"{what} is empty", hint="give a text of at least 2 tokens")
    return text


def _save_activations(path: Path, inputs: "Mapping[str, Array]") -> None:
    import numpy as np

    with atomic_write(path) as file:
        np.savez(file, **cast(dict[str, Any], dict(inputs)))


def _program_document(path: str, program: "Program", described: "Described") -> dict[str, Any]:
    options = dict(program.options)
    if options.get("iterations") is None and len(described.iterations) == 1:
        (options["iterations"],) = described.iterations  # the compiler's default, which depends on the shape
    return {
        "file": readable(Path(path).name),
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "machine": {"name": program.machine.name, "hash": program.machine.hash},
        "batch": described.batch,
        "seq_len": described.seq_len,
        "layers": list(described.layers),
        "dtype": described.dtype,
        "sites": list(described.sites),
        "projected": list(described.projected),
        "ranks": list(described.ranks),
        "iterations": list(described.iterations),
        "options": options,
    }


def _print_table(comparison: "Comparison") -> None:
    from dcomc.tables import print_table

    dense, dtype = comparison.dense, comparison.described.dtype
    rows = [("dense, transformers" + (", f32" if dtype != "f32" else ""), f"{dense.perplexity:.3f}", "1.000", "", "")]
    controls = [(f"{name} (control)", scores) for name, scores in comparison.controls.items()]
    for label, scores in (("program" + (f", {dtype}" if dtype != "f32" else ""), comparison.program), *controls):
        rows.append(
            (
                label,
                f"{scores.perplexity:.3f}",
                f"{scores.perplexity / dense.perplexity:.3f}",
                f"{scores.top1_agreement:.1%}",
                f"{scores.max_logit_difference:.2e}",
            )
        )
    columns = ("", "perplexity", "ratio", "same top-1", "max |Δ logit|")
    print_table(columns, rows, title=f"{comparison.model}, {counted(dense.tokens, 'token')}")
    for name in comparison.controls:
        print(f"{name}: {comparison.described.control(name)}")
