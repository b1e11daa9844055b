"""Mutated program files: each must end in one clear error or in a run, within a time bound.

Four small programs (a whole grid, a small grid whose activations stream, one cluster, four streams of instructions with
a barrier) are compiled from the preset `tiny`. A mutant of one is read, disassembled and simulated on both engines,
which must agree. Bits are flipped and files cut as they are; sections are changed with all checksums made anew, to
reach the checks behind them. A mutant that asks for more work than the bound, such as a million prompts, counts as
`long` and is not run: `dcomc sim` would announce it.
Anything else than a run or a `DcomError` of one line is a failure, whose number makes it again.

Run: python benchmarks/fuzz.py [--count N] [--first N] [--seconds S] [--jobs N]
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import numpy as np
from measure import Goal, finish

import dcomc
from dcomc import elf
from dcomc.container import CONTENT, NOTE, TEXT, parse_container, program_bytes, seal
from dcomc.diagnostics import DcomError
from dcomc.disassembler import disassemble
from dcomc.progress import WorkProgress
from dcomc.simulate import work_of
from dcomc.tables import print_table
from runtime.encoding import WORD_BYTES, Word
from runtime.engines import plan
from runtime.program import Kernel

ENGINES: tuple[Literal["reference"], Literal["fast"]] = ("reference", "fast")
CHUNK = 50
"""Mutants of one task of a worker process."""
GRIDS = {
    "whole.toml": {},
    "streamed.toml": {"rows": 2, "cols": 2, "buffer_bytes": 8192},
    "one.toml": {"rows": 1, "cols": 1},
    "streams.toml": {"rows": 2, "cols": 4},
}
"""Machine files by the values in which they differ from the default machine."""
STREAMS = {"streams.toml": "2x2"}
"""Of those that have several."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    number: int
    mutation: str
    kind: str
    """`refused`, `run`, `long` or `failed`."""
    what: str
    """The error's first words, without numbers; of a failure all of it."""
    seconds: float


def programs(folder: Path) -> list[bytes]:
    """The files that mutants are made from."""
    default = (Path(dcomc.__file__).parent / "configs" / "machines" / "dcom-16x16.toml").read_text(encoding="utf-8")
    module = dcomc.trace("tiny", seq_len=24)
    found: list[bytes] = []
    for name, values in GRIDS.items():
        lines = default.splitlines()
        for index, line in enumerate(lines):
            key = line.partition(" = ")[0]
            if key in values:
                lines[index] = f"{key} = {values[key]}"
        path = folder / name
        path.write_text("\n".join(lines), encoding="utf-8")
        streams = STREAMS.get(name, "1x1")
        program = dcomc.compile(module, [1, 2], sites=("qkv", "down"), rank=3, machine=path, streams=streams)
        if name in STREAMS:
            program = replace(program, kernels=tuple(map(with_barrier, program.kernels)))
        launch = program.launches[0]
        layout = program.kernel(launch.kernel).layout
        stored = np.random.default_rng(0).standard_normal((launch.prompts * layout.rows, layout.cols))
        found.append(program_bytes(replace(program, activations={launch.key: stored.astype(np.float16)})))
    return found


def with_barrier(kernel: Kernel) -> Kernel:
    """The kernel with a barrier before its end."""
    *before, halt = kernel.words
    locations = (*kernel.locations, kernel.locations[-1])
    return replace(kernel, words=(*before, Word.of("barrier"), halt), locations=locations)


# Mutations


def flip_bits(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def splice(chance: random.Random, data: bytes) -> bytes:
    """Move, double or drop a stretch of bytes."""
    start = chance.randrange(len(data))
    end = min(start + chance.choice((1, 8, 64, 1024)), len(data))
    to = chance.randrange(len(data))
    return chance.choice(
        (data[:start] + data[end:], data[:end] + data[start:], data[:to] + data[start:end] + data[to:])
    )


def headers(chance: random.Random, data: bytes) -> bytes:
    """Change a number of the ELF header or of the section headers, which stand at the end."""
    place = chance.choice((chance.randrange(64), len(data) - 1 - chance.randrange(64 * (len(CONTENT) + 3))))
    value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return data[:place] + bytes([value]) + data[place + 1 :]


def words(chance: random.Random, data: bytes) -> bytes:
    """Change instructions: bits of a word, a word for another, an order, or a number."""
    contents, note = unsealed(data)
    code = bytearray(contents[TEXT])
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(code) // WORD_BYTES) * WORD_BYTES
        other = chance.randrange(len(code) // WORD_BYTES) * WORD_BYTES
        match chance.randrange(4):
            case 0:
                code[at + chance.randrange(WORD_BYTES)] ^= 1 << chance.randrange(8)
            case 1:
                code[at : at + WORD_BYTES] = code[other : other + WORD_BYTES]
            case 2:
                mine, theirs = code[at : at + WORD_BYTES], code[other : other + WORD_BYTES]
                code[at : at + WORD_BYTES], code[other : other + WORD_BYTES] = theirs, mine
            case _:
                code[at + 1 + chance.randrange(WORD_BYTES - 1)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return seal({**contents, TEXT: bytes(code)}, note)


def numbers(chance: random.Random, data: bytes) -> bytes:
    """Change a value anywhere in the JSON of a section or of the note."""
    contents, note = unsealed(data)
    section = chance.choice([name for name in contents if name.startswith(".dcom.") and name != ".dcom.host"] + [NOTE])
    document = note if section == NOTE else json.loads(contents[section])
    places = list(leaves(document))
    if not places:
        return data
    holder, key = chance.choice(places)
    old = holder[key]
    change = chance.randrange(3)
    if change == 0 and isinstance(old, int):
        holder[key] = old + chance.choice((-1, 1, 8, -8, 64))
    elif change == 1 and isinstance(old, int | str):
        holder[key] = old * 2
    else:
        holder[key] = chance.choice(VALUES)
    if section == NOTE:
        return seal(contents, document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return seal({**contents, section: text}, note)


def sections(chance: random.Random, data: bytes) -> bytes:
    """Change bytes of a section, its length, or put one section's content into another."""
    contents, note = unsealed(data)
    name, other = chance.choice(list(contents)), chance.choice(list(contents))
    held = contents[name]
    match chance.randrange(4):
        case 0:
            held = held[: chance.randrange(len(held) + 1)]
        case 1:
            held = held + bytes(chance.choice((1, 16, 4096)))
        case 2 if held:
            held = flip_bits(chance, held)
        case _:
            held = contents[other]
    return seal({**contents, name: held}, note)


MUTATIONS = (flip_bits, cut, splice, headers, words, words, numbers, numbers, sections)


VALUES: tuple[Any, ...] = (0, 1, -1, 7, 2**31, 2**63, -(2**63), 2**70, 1.5, None, True, "", "x", [], {})


def leaves(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a JSON document as its holder and key."""
    keys: Iterable[Any] = range(len(cast(list[Any], document))) if isinstance(document, list) else tuple(document)
    for key in keys:
        yield document, key
        if isinstance(document[key], dict | list):
            yield from leaves(document[key])


def unsealed(data: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The sections of a program's file and what its note says beside the checksums."""
    held = {section.name: section.data for section in elf.read_elf(data)}
    description = elf.read_note(held.pop(NOTE), "dcom", 0xDC01)
    note = json.loads(description[36:])
    note.pop("sections")
    return held, note


# What becomes of a mutant


class _TooLongError(Exception):
    pass


def _stop(_: int, __: FrameType | None) -> None:
    raise _TooLongError


def judge(number: int, data: list[bytes], seconds: float) -> Outcome:
    """Make a mutant and run it."""
    chance = random.Random(number)
    mutation = chance.choice(MUTATIONS)
    mutant = mutation(chance, chance.choice(data))
    begin = time.perf_counter()
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        kind, what = _outcome(mutant, seconds)
    except _TooLongError:
        kind, what = "failed", f"no end within {seconds:g} s"
    except BaseException as error:  # what must not happen, whatever it is, is what this looks for
        kind, what = "failed", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return Outcome(number, mutation.__name__, kind, what, time.perf_counter() - begin)


def _outcome(mutant: bytes, seconds: float) -> tuple[str, str]:
    try:
        program = parse_container(mutant, "prog.bin").program
        disassemble(program)
        if plan("reference", work_of(program), program.machine).seconds > seconds / 2:
            return "long", ""
        one, other = (program.simulate(engine=engine, threads=1).launches for engine in ENGINES)
        if repr(one) != repr(other):
            return "failed", "the engines differ"
    except DcomError as error:
        line = str(error)
        if "\n" in line or "error: " not in line:
            return "failed", f"not one line: {line!r}"
        return "refused", "".join("#" if letter.isdigit() else letter for letter in error.what)[:60]
    return "run", ""


@cache
def _held(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(folder).glob("*.bin"))]


def _warm(folder: str) -> None:
    """Load what a process compiles once, outside of all bounds."""
    for data in _held(folder):
        parse_container(data, "prog.bin").program.simulate(engine="fast", threads=1)


def _task(folder: str, begin: int, end: int, seconds: float) -> list[Outcome]:
    return [judge(number, _held(folder), seconds) for number in range(begin, end)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="mutants (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="bound for each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for index, data in enumerate(programs(Path(folder))):
            (Path(folder) / f"{index}.bin").write_bytes(data)
        pool = stack.enter_context(ProcessPoolExecutor(arguments.jobs, initializer=_warm, initargs=(folder,)))
        last = arguments.first + arguments.count
        tasks = {
            begin: pool.submit(_task, folder, begin, min(begin + CHUNK, last), arguments.seconds)
            for begin in range(arguments.first, last, CHUNK)
        }
        progress = stack.enter_context(WorkProgress(arguments.count, "running", "mutants"))
        for begin, task in tasks.items():
            try:
                judged = task.result()
            except BrokenProcessPool:
                print(f"a process died on one of the mutants from {begin} on", file=sys.stderr)
                return 1
            outcomes += judged
            progress.advance(len(judged))
    return report(outcomes)


def report(outcomes: list[Outcome]) -> int:
    """Print what became of the mutants; 1 where one failed."""
    kinds = ("refused", "run", "long", "failed")
    tallies = {mutation.__name__: Counter[str]() for mutation in MUTATIONS}
    for outcome in outcomes:
        tallies[outcome.mutation][outcome.kind] += 1
    print_table(
        ("mutation", *kinds), [(name, *(str(tally[kind]) for kind in kinds)) for name, tally in tallies.items()]
    )
    reasons = Counter(outcome.what for outcome in outcomes if outcome.kind == "refused")
    print(f"{len(reasons)} kinds of refusal; the most frequent:")
    for what, count in reasons.most_common(10):
        print(f"{count:7} {what}")
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    for outcome in failed:
        print(f"FAILED {outcome.number} ({outcome.mutation}): {outcome.what}")
    total = Counter(outcome.kind for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    results = {kind: total[kind] for kind in kinds} | {"slowest_seconds": round(slowest.seconds, 2)}
    finish("fuzz", results, [Goal("mutants that fail", len(failed), 0)])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
