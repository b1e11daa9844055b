"""Lift a model into Level 0 IR: upstream MLIR, weights by name, one function for the decoder layers."""

import argparse
import sys
import time
from pathlib import Path

from dcomc.diagnostics import check_output, counted, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc trace`."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model to trace: Hugging Face folder, GGUF file, or preset (tiny, smollm2-135m, llama2-7b)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE.mlir", required=True, help="where to write the IR; - is standard output"
    )
    parser.add_argument(
        "--seq-len", type=int, metavar="N", help="tokens a prompt (default: 512, or the model's most if that is less)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="prompts (default: 1)")
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32", help="element type (default: f32)")


def run(args: argparse.Namespace) -> int:
    """Trace the model and write its IR."""
    # xDSL takes half a second to import, which `--help` need not wait for.
    import dcomc
    from dcomc.encode import describe_module
    from dcomc.ir import print_module

    output = None if args.output == "-" else Path(args.output)
    check_output(output)
    start = time.perf_counter()
    module = dcomc.trace(args.model, args.seq_len, args.batch, args.dtype, progress=True)
    text = print_module(module)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
    seconds = time.perf_counter() - start
    made = describe_module(module)
    shape = f"batch {made['batch']}, {counted(int(made['seq_len']), 'token')}, {args.dtype}"
    print(f"traced {made['model']}: {shape}, in {seconds:.1f} s", file=sys.stderr)
    return 0
