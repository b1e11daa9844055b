"""Lift a model into Level 0 IR: upstream MLIR, weights by name, one function for the decoder layers."""

import argparse
import sys
import time
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
    limit = model.config().get("max_position_embeddings")
    longest = limit if isinstance(limit, int) else None
    seq_len: int = min(_DEFAULT_SEQ_LEN, longest or _DEFAULT_SEQ_LEN) if args.seq_len is None else args.seq_len
    if seq_len < 1 or (longest is not None and seq_len > longest):
        most = f" to {longest}, the model's max_position_embeddings" if longest is not None else " upwards"
        raise DcomError(f"--seq-len {seq_len} is out of range", hint=f"it goes from 1{most}")
    if args.batch < 1:
        raise DcomError(f"--batch {args.batch} is out of range", hint="it goes from 1 upwards")
    if args.output == "-":
        sys.stdout.write(_trace(model, seq_len, args.batch, args.dtype))
    else:
        with atomic_write(Path(args.output)) as file:
            file.write(_trace(model, seq_len, args.batch, args.dtype).encode())
    return 0


def _trace(model: Model, seq_len: int, batch: int, dtype: str) -> str:
    start = time.perf_counter()
    from dcomc.tracer import trace

    module = trace(model, seq_len, batch, dtype)
    verify_module(module, model.name)
    text = print_module(module)
    shape = f"batch {batch}, {seq_len} tokens, {dtype}"
    print(f"traced {model.name}: {shape}, in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return text
