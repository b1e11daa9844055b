"""Lift a model into Level 0 IR: upstream MLIR, weights by name, one function for the decoder layers."""

import argparse
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from dcomc.diagnostics import DcomError, atomic_write
from dcomc.ir import print_module, verify_module
from dcomc.model import Model, resolve_model

_DEFAULT_SEQ_LEN = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc trace`."""
    parser.add_argument(
        "model", metavar="MODEL", help="Hugging Face folder, GGUF file, or preset (tiny, smollm2-135m, llama2-7b)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE.mlir", required=True, help="where to write the IR; - is standard output"
    )
    parser.add_argument(
        "--seq-len",
        type=int,
        metavar="N",
        help=f"tokens a prompt (default: {_DEFAULT_SEQ_LEN}, or the model's most if that is less)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="prompts (default: 1)")
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32", help="element type (default: f32)")


def run(args: argparse.Namespace) -> int:
    """Trace the model and write its IR."""
    model = resolve_model(args.model)
    if args.batch < 1:
        raise DcomError(f"--batch {args.batch} is out of range", hint="it goes from 1 upwards")
    if args.output == "-":
        with _steps() as step:
            text = _trace(model, args, step)
        sys.stdout.write(text)
    else:
        with atomic_write(Path(args.output)) as file, _steps() as step:
            file.write(_trace(model, args, step).encode())
    return 0


@contextmanager
def _steps() -> Generator[Callable[[str], None]]:
    """A line on stderr that says what goes on, where stderr is a terminal; call what it yields with each new step."""
    from rich.console import Console

    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status("") as status:
            yield status.update
    else:
        yield lambda step: None


def _trace(model: Model, args: argparse.Namespace, step: Callable[[str], None]) -> str:
    start = time.perf_counter()
    step(f"reading the configuration of {model.name}")
    seq_len = _seq_len(model, args.seq_len)
    step("importing torch and transformers")
    from dcomc.tracer import trace

    module = trace(model, seq_len, args.batch, args.dtype, step)
    step("verifying and printing the module")
    verify_module(module, model.name)
    text = print_module(module)
    shape = f"batch {args.batch}, {seq_len} tokens, {args.dtype}"
    print(f"traced {model.name}: {shape}, in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return text


def _seq_len(model: Model, given: int | None) -> int:
    """The tokens of a prompt: as given, or else the default as far as the model goes."""
    limit = model.config().get("max_position_embeddings")
    longest = limit if isinstance(limit, int) else None
    seq_len = min(_DEFAULT_SEQ_LEN, longest or _DEFAULT_SEQ_LEN) if given is None else given
    if seq_len < 1 or (longest is not None and seq_len > longest):
        most = f" to {longest}, the model's max_position_embeddings" if longest is not None else " upwards"
        raise DcomError(f"--seq-len {seq_len} is out of range", hint=f"it goes from 1{most}")
    return seq_len
