"""Set two programs, or two files of results, side by side: what differs, and by how much."""

import argparse
import json
import re
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc.diagnostics import check_output, counted, write_text

if TYPE_CHECKING:
    from dcomc.differences import Difference

_EXACT = 2.0**53
"""Below it a float that is whole has all its digits; above, every float is whole."""
_ABSENT = "-"
_WIDTH = 20
"""Of a column of values."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc compare`."""
    help = (
        "a program, or a JSON file of `dcomc sim --stats`, `run --json`, `eval --json`, `profile --json` or "
        "`estimate --stats`"
    )
    parser.add_argument("first", type=Path, metavar="A", help=help)
    parser.add_argument("second", type=Path, metavar="B", help="another such file")
    parser.add_argument("--all", action="store_true", help="also show what is equal, and what one of them alone has")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the values as JSON")


def run(args: argparse.Namespace) -> int:
    """Print what differs."""
    from dcomc.differences import compare_files, in_words, summary
    from dcomc.tables import print_table

    check_output(args.json, args.first, args.second)
    found = compare_files(args.first, args.second)
    if args.json is not None:
        document = [{**asdict(each), "ratio": each.ratio} for each in found if args.all or not each.equal]
        write_text(args.json, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    both = [each for each in found if each.only_in is None]
    shown = found if args.all else [each for each in both if not each.equal]
    print(f"A: {args.first}\nB: {args.second}")
    if shown:
        rows = [(in_words(each.name), each.where, *_texts(each), _ratio(each.ratio)) for each in shown]
        print_table(("", "sites and layers", "A", "B", "B / A"), rows)
        print()
    verb = "is" if len(both) == 1 else "are"
    print(f"{sum(each.equal for each in both)} of {counted(len(both), 'value')} of both {verb} equal")
    for file in ("A", "B"):
        alone = [each for each in found if each.only_in == file]
        if alone and not args.all:
            print(f"{counted(len(alone), 'value')} of {file} alone: {summary(alone)}")
    return 0


def _texts(each: "Difference") -> tuple[str, str]:
    """Both values in the width of a column; texts and lists that are alike in that from where they differ."""
    first, second = _text(each.name, each.first), _text(each.name, each.second)
    if each.only_in is not None:  # the other has no such value, not even none
        return (first, _ABSENT) if each.only_in == "A" else (_ABSENT, second)
    if each.equal or first != second or isinstance(each.first, float) or isinstance(each.second, float):
        return first, second
    whole = [_whole(value) for value in (each.first, each.second)]
    if max(map(len, whole)) <= _WIDTH:
        return whole[0], whole[1]
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(*whole, strict=False))
    at = max(sum(1 for _ in alike) - 4, 0)
    first, second = (f"{'…' if at else ''}{text[at : at + 18]}{'…' if text[at + 18 :] else ''}" for text in whole)
    return first, second


def _text(name: str, value: Any) -> str:
    """A value in the width of a column; seconds and memory in a unit that suits them, busy shares in percent."""
    from dcomc.tables import duration, memory_size, number

    if isinstance(value, int) and name.startswith("memory."):
        return memory_size(value)
    if isinstance(value, float) and value and (".busy." in name or name.endswith(("seconds", "fastest", "slowest"))):
        return duration(value)
    if isinstance(value, float) and name.endswith("_busy"):
        return f"{number(100 * value)}%"
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    text = f"{value:.6g}" if isinstance(value, float) and not whole else _whole(int(value) if whole else value)
    if re.fullmatch("[0-9a-f]{32,}", text):
        return text[:9] + "…"
    return text if len(text) <= _WIDTH else text[:9] + "…" + text[-9:]


def _whole(value: Any) -> str:
    """A value as `dcomc inspect` has it; whole numbers have commas, and lists of lists stay JSON."""
    from dcomc.tables import value_text

    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    nested = isinstance(value, list) and any(isinstance(each, list | dict) for each in cast(list[Any], value))
    return json.dumps(value, ensure_ascii=False) if nested else value_text(cast(object, value))


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.4g}"
