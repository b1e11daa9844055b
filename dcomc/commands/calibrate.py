"""Measure a model on text: outlier thresholds, energies and the cost of each site, in a table that compile reads."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dcomc.diagnostics import check_output

if TYPE_CHECKING:
    from dcomc.calibration.table import Table

_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc calibrate`."""
    parser.add_argument("model", metavar="MODEL", help="a model with weights: folder, GGUF file, or preset")
    parser.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar="FILE",
        help="text files, .jsonl files of objects with a text, data sets as `datasets` saves them, or folders of them",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.toml", help="where to write the table"
    )
    parser.add_argument("--seq-len", type=int, default=512, metavar="N", help="tokens a prompt (default: %(default)s)")
    parser.add_argument(
        "--max-tokens", type=int, default=16384, metavar="N", help="tokens of the text at most (default: %(default)s)"
    )
    parser.add_argument(
        "--outliers",
        type=float,
        default=3.0,
        metavar="PERCENT",
        help="channels that should be outliers, on average over prompts (default: %(default)g)",
    )
    parser.add_argument(
        "--capacity",
        type=float,
        default=5.0,
        metavar="PERCENT",
        help="channels that may be outliers in one prompt (default: %(default)g)",
    )
    parser.add_argument(
        "--min-tokens",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="tokens that exceed the threshold in an outlier channel (default: %(default)g)",
    )
    parser.add_argument(
        "--rank",
        type=int,
        default=10,
        metavar="N",
        help="of the decompositions whose cost is measured (default: %(default)s)",
    )
    parser.add_argument("--block", type=int, metavar="TOKENS", help="tokens that share a basis (default: a prompt's)")
    parser.add_argument(
        "--sensitivity-tokens",
        type=int,
        default=1024,
        metavar="N",
        help="tokens for the cost of each site, whole prompts; 0: leave it out (default: %(default)s)",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew where FILE.toml.state has an interrupted calibration"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="where torch computes, such as cuda:0 (default: cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Calibrate and write the table; show the cheapest and the dearest sites."""
    check_output(args.output, *args.text)
    from dcomc.calibration.calibrate import Options, calibrate

    options = Options(
        seq_len=args.seq_len,
        max_tokens=args.max_tokens,
        share=args.outliers,
        capacity=args.capacity,
        min_tokens=args.min_tokens,
        rank=args.rank,
        block=args.block,
        sensitivity_tokens=args.sensitivity_tokens,
    )
    table = calibrate(
        args.model, args.text, args.output, options, restart=args.restart, device=args.device, progress=True
    )
    _print(table)
    return 0


def _print(table: "Table") -> None:
    from dcomc.tables import print_table

    rated = [
        (record.perplexity_ratio, layer, site, record)
        for (layer, site), record in table.records.items()
        if record.perplexity_ratio is not None
    ]
    if not rated:
        print(f"{table.model}: thresholds of {len(table.records)} sites")
        return
    rated.sort(key=lambda entry: entry[:2])
    at = table.details["ranks"].index(table.details["rank"])
    rows = [
        (str(layer), site, f"{ratio:.4f}", f"{record.energy[at]:.1%}", f"{record.share:.2f}%")
        for ratio, layer, site, record in rated
    ]
    if len(rows) > 2 * _SHOWN:
        rows[_SHOWN:-_SHOWN] = [("…", "", "", "", "")]
    print_table(
        ("layer", "site", "perplexity ratio", "energy held", "outliers"),
        rows,
        title=f"{table.model}: one site decomposed at rank {table.details['rank']}",
    )
