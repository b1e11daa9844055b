"""Options that choose an engine."""

import argparse

ENGINES = ("auto", "reference", "fast")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """`--engine`, `--threads` and `--memory-limit`."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="reference: NumPy; fast: compiled on first use, the same bits; auto: fast for large work (default: auto)",
    )
    parser.add_argument("--threads", type=count, metavar="N", help="prompts at a time (default: as many as processors)")
    parser.add_argument(
        "--memory-limit", type=_bytes, metavar="SIZE", help="such as 4GB: use fewer threads, or refuse, beyond it"
    )


def count(text: str) -> int:
    """A number of threads or processes."""
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 to 1024")
    return int(text)


def _bytes(text: str) -> int:
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    number = text.rstrip("BbGgIiKkMm ")
    try:
        size = int(float(number) * units[text[len(number) :].strip().upper()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no size of memory, such as 4GB or 512MiB")
    return size
