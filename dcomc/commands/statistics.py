"""Collect the second moments of a model's activations over a text, for `dcomc compile --weight-method whitened`."""

import argparse
import sys
from pathlib import Path

from dcomc.commands.compile import parse_layers
from dcomc.diagnostics import DcomError, check_output, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc statistics`."""
    parser.add_argument("model", metavar="MODEL", help="a model with weights: folder, GGUF file, or preset")
    parser.add_argument("--text", required=True, metavar="FILE", help="text to run the dense model on")
    parser.add_argument("--layers", required=True, metavar="LIST", help="layers, such as 10,15 or 1-31")
    parser.add_argument(
        "--sites", default="qkv,o,gate_up,down", metavar="LIST", help="inputs of projections (default: %(default)s)"
    )
    parser.add_argument("--seq-len", type=int, default=512, metavar="N", help="tokens a prompt (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="use the first N tokens (default: all)")
    parser.add_argument(
        "--diagonal",
        action="store_true",
        help="the energies of channels alone: H numbers a site instead of H x H, and a coarser whitening",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE.safetensors", help="where to write")


def run(args: argparse.Namespace) -> int:
    """Collect and write."""
    from dcomc.commands.run import read_text
    from dcomc.evaluate import split_windows
    from dcomc.model import resolve_model
    from dcomc.progress import steps
    from dcomc.statistics import collect
    from passes._sites import check_sites

    output = Path(args.output)
    check_output(output)
    if args.seq_len < 2:
        raise DcomError(f"--seq-len {args.seq_len} is too few", hint="512 is the default")
    places = [
        (layer, site)
        for layer in parse_layers(args.layers, "--layers")
        for site in check_sites(part.strip() for part in args.sites.split(","))
    ]
    if args.max_tokens is not None and args.max_tokens < 2:
        raise DcomError(f"--max-tokens {args.max_tokens} is too few", hint="it goes from 2 upwards")
    text = read_text(args.text)
    model = resolve_model(args.model).with_weights()
    print(f"loading {model.name}", file=sys.stderr)
    windows = split_windows(model.tokenizer().encode(text)[: args.max_tokens], 1, args.seq_len)
    with steps(True) as step:

        def progress(number: int) -> None:
            step(f"window {number + 1} of {len(windows)}")

        statistics = collect(model, windows, places, diagonal=args.diagonal, progress=progress)
    statistics.write(output)
    held = sum(moment.nbytes for moment in statistics.moments.values())
    print(
        f"{args.output}: {counted(len(statistics.moments), 'site')} over {counted(statistics.tokens, 'token')}, "
        f"{held / 1e6:.3g} MB",
        file=sys.stderr,
    )
    return 0
