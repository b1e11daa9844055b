"""Estimate the latency and memory of a program on GPUs: dense, decomposed on a GPU, and with a D-com beside them."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dcomc.diagnostics import DcomError, check_output, counted, say_written, write_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from dcomc.estimate import Run
    from dcomc.host_memory import Memory
    from dcomc.program import Program
    from runtime.gpu import Gpu


_TENSOR_PARALLEL = (1, 2, 4, 8)
_FILES = {"config": "FILE.toml", "outliers": "FILE.toml", "weight-statistics": "FILE.safetensors"}
"""Files that a program only names, by the option of `dcomc compile` that gave them."""
_MOST_PROMPTS = 1_000_000
"""More are no batch that anyone runs, and their rounds take the simulator minutes to hours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc estimate`."""
    parser.add_argument("program", metavar="PROG.bin", help="a program, made by `dcomc compile`")
    parser.add_argument(
        "--gpu", default="a100-80gb", metavar="NAME|FILE.toml", help="a100-80gb (default), h100, or a description"
    )
    parser.add_argument(
        "--tp", type=int, choices=_TENSOR_PARALLEL, default=1, help="GPUs that share the model (default: 1)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="B",
        help="prompts (default: the program's); kernels for another number of them are lowered and timed anew",
    )
    parser.add_argument(
        "--seq-len", type=int, metavar="S", help="tokens a prompt; another than the program's traces anew"
    )
    parser.add_argument("--model", metavar="MODEL", help="what was traced, for --seq-len; a preset needs no saying")
    for option, metavar in _FILES.items():
        parser.add_argument(f"--{option}", metavar=metavar, help="what it was compiled with, for --seq-len")
    parser.add_argument("--graph", action="store_true", help="launch kernels as nodes of a graph, not one by one")
    parser.add_argument(
        "--attention",
        choices=("fused", "unfused"),
        default="fused",
        help="by one kernel or several (default: %(default)s)",
    )
    parser.add_argument(
        "--batched-lanczos", action="store_true", help="on the GPU, decompose all prompts in each kernel, not in turn"
    )
    parser.add_argument("--stats", "--json", type=Path, metavar="FILE.json", help="write all numbers as JSON")
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE.json",
        help="write the schedules as a trace for Perfetto or chrome://tracing",
    )


def run(args: argparse.Namespace) -> int:
    """Estimate and print."""
    import dcomc
    from dcomc.configuration import check_configuration
    from dcomc.dcom_times import program_seconds
    from dcomc.estimate import Options, estimate
    from dcomc.host_kernels import decomposed_layers, module_steps, weight_bytes
    from dcomc.host_memory import memory
    from dcomc.ir import parse_module
    from dcomc.model import resolve_model
    from dcomc.places import layers_text
    from dcomc.timeline import print_timeline, trace_events
    from passes._sites import module_size
    from runtime.gpu import load_gpu
    from runtime.sequencer import MachineFault

    for output in (args.stats, args.timeline):
        check_output(output, args.program, args.gpu, args.model, *_given_files(args).values())
    for option, count in (("--batch", args.batch), ("--seq-len", args.seq_len)):
        if count is not None and count < 1:
            raise DcomError(f"{option} {count} is too small", hint="give 1 or more")
    if args.batch is not None and args.batch > _MOST_PROMPTS:
        raise DcomError(f"--batch {args.batch} is too large", hint=f"give {_MOST_PROMPTS:,} or fewer")
    gpu = load_gpu(args.gpu)
    program = dcomc.load(args.program)
    if not program.host.strip():
        raise DcomError("the program holds no model, only kernels", hint="compile a traced model")
    module = parse_module(program.host, args.program)
    if args.model is not None:
        check_configuration(module, resolve_model(args.model), lambda _: None)
    if args.seq_len not in (None, module_size(module, "seq_len")):
        program = _at_length(program, module, args)
        module = parse_module(program.host, args.program)
    elif files := [option for option, file in _given_files(args).items() if file is not None]:
        what = f"--{files[0]} is of use for another --seq-len alone"
        raise DcomError(what, hint=f"`dcomc compile --{files[0]}` makes a program with other options")
    traced = module_size(module, "batch")
    options = Options(
        gpu,
        args.tp,
        traced if args.batch is None else args.batch,
        args.graph,
        args.attention == "fused",
        args.batched_lanczos,
    )
    try:
        runs = estimate(module, traced, program_seconds(program), options)
    except MachineFault as fault:
        raise DcomError(fault.what, hint="give fewer prompts by --batch", place=fault.place) from fault
    variants = {
        name: (module_steps(module, dense=dense), weight_bytes(module, dense=dense))
        for name, dense in (("dense", True), ("dcom", False))
    }
    memories = {
        gpus: {name: memory(*variant, options.batch / traced, gpus) for name, variant in variants.items()}
        for gpus in _TENSOR_PARALLEL
    }
    layers = decomposed_layers(module)
    print(f"host: {args.tp} x {gpu.name} ({gpu.hash}), kernels launched {'by a graph' if args.graph else 'eagerly'}")
    print(f"D-com: {program.machine.name} ({program.machine.hash})")
    prompts = f"{counted(options.batch, 'prompt')} of {counted(module_size(module, 'seq_len'), 'token')}"
    print(f"model: {prompts}, {_width(module, gpu)}; decomposed: {layers_text(layers) if layers else 'nothing'}")
    _print_runs(runs)
    if layers:
        _print_layers(runs, layers)
    _print_memory(memories[args.tp], gpu.memory_bytes, layers)
    if layers:
        print_timeline(runs[-1], layers[0])
    _warn_of_memory(memories, args.tp, gpu.memory_bytes)
    if args.timeline is not None:
        write_text(args.timeline, json.dumps({"traceEvents": [e for run in runs for e in trace_events(run)]}) + "\n")
        say_written(args.timeline)
    if args.stats is not None:
        write_text(args.stats, json.dumps(_to_json(runs, memories[args.tp], options, program), indent=1) + "\n")
    return 0


def _at_length(program: "Program", module: "ModuleOp", args: argparse.Namespace) -> "Program":
    """The same model compiled the same way for prompts of `args.seq_len` tokens; no weight is read for it.

    Args:
        args: with the model that was traced, where it is no preset, and the files that it was compiled with.

    Raises:
        DcomError: there is no such model, it has another configuration than the one that was traced, or it cannot be
            compiled so for that length.
    """
    from dataclasses import fields

    import dcomc
    from dcomc.configuration import check_configuration
    from dcomc.encode import make_program
    from dcomc.host_kernels import element_bytes
    from dcomc.model import resolve_model
    from dcomc.pipeline import Decomposition, WeightDecomposition
    from runtime.machine import machine_file

    traced, given = program.options.get("model", {}), program.options
    what = f"the program is for {traced.get('seq_len')} tokens a prompt, and cannot be made anew"
    hint = f"trace and compile the model with --seq-len {args.seq_len}"
    weights: dict[str, Any] = given.get("weights") or {}
    outliers = given.get("outliers")
    named: dict[str, str | None] = {
        "config": given.get("config"),
        "outliers": outliers if isinstance(outliers, str) else None,
        "weight-statistics": weights.get("statistics"),
    }
    files = _given_files(args)
    for option, name in named.items():
        if name is None and files[option] is not None:
            raise DcomError(f"the program was compiled without a file by --{option}", hint="leave it out")
        if name is not None and files[option] is None:
            why = f"what --{option} gave is in a file that it does not hold"
            raise DcomError(f"{what}: {why}", hint=f"give that file, {name}, by --{option}, or {hint}")
    try:
        source = resolve_model(args.model or traced.get("model", ""))
    except DcomError as error:
        raise DcomError(f"{what}: {error.what}", hint=f"give --model, or {hint}") from error
    check_configuration(module, source, lambda _: None)
    try:
        dtype = "f16" if element_bytes(module) == 2 else "f32"
        anew = dcomc.trace(source, args.seq_len, traced.get("batch", 1), dtype)
        values = {field.name: _hashable(given[field.name]) for field in fields(Decomposition) if field.name in given}
        if weights:
            of_weights = {key: _hashable(x) for key, x in weights.items()}
            of_weights["statistics"] = files["weight-statistics"]
            values["weights"] = WeightDecomposition(**of_weights)
        values |= {"config": files["config"], "outliers": files["outliers"] or outliers}
        options = Decomposition(**values)
        with machine_file(program.machine) as machine:
            lowered = dcomc.lower(anew, options, machine)
        if dict(_choices(lowered)) != dict(_choices(module)):
            same = f"give the files that it was compiled with, or {hint}"
            raise DcomError("other decompositions would come of it", hint=same)
        return make_program(lowered, program.machine, options)
    except DcomError as error:
        raise DcomError(f"{what}: {error.what}", hint=error.hint, place=error.place) from error


def _given_files(args: argparse.Namespace) -> dict[str, str | None]:
    """The files of `_FILES`, by option."""
    return {option: getattr(args, option.replace("-", "_")) for option in _FILES}


def _choices(module: "ModuleOp") -> "Iterator[tuple[tuple[str, int, str], tuple[object, ...]]]":
    """What files choose for each layer and site, whatever the length of prompts."""
    from dialects.dcom import DecomposeOp, OutlierSplitOp

    for op in module.walk():
        if isinstance(op, DecomposeOp):
            yield (op.name, op.layer.value.data, op.site.data), (op.factors.type.rank,)
        elif isinstance(op, OutlierSplitOp):
            yield (op.name, op.layer.value.data, op.site.data), (op.capacity, op.threshold)


def _hashable(value: Any) -> Any:
    """An option as it was given: JSON has lists for tuples."""
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


def _width(module: "ModuleOp", gpu: "Gpu") -> str:
    """The element type of the weights, by its width, and what the GPU makes of a wide one."""
    from dcomc.host_kernels import element_bytes

    bits, slower = 8 * element_bytes(module), gpu.flops_per_second.half / gpu.flops_per_second.single
    rate = f", multiplied at 1/{slower:.0f} of the peak rate of 16 bits" if bits > 16 and slower > 1 else ""
    return f"weights of {bits} bits{rate}"


def _print_runs(runs: "tuple[Run, ...]") -> None:
    from dcomc.estimate import IN_WORDS
    from dcomc.tables import duration, number, print_table

    dense = runs[0].seconds
    print_table(
        ("variant", "time", "fastest", "slowest", "over dense", "parts", "GPU busy", "links", "D-com"),
        [
            (
                IN_WORDS[run.variant],
                duration(run.seconds),
                duration(run.fastest),
                duration(run.slowest),
                number(run.seconds / dense),
                str(run.parts),
                f"{run.busy('GPU') / run.seconds:.0%}",
                f"{(run.busy('GPU link') + run.busy('D-com link')) / run.seconds:.0%}",
                f"{run.busy('D-com') / run.seconds:.0%}",
            )
            for run in runs
        ],
        caption="time: with the middle of every range of the GPU; fastest and slowest: with its ends; parts: of the "
        "batch, that go through the model one behind the other",
    )


def _print_layers(runs: "tuple[Run, ...]", layers: tuple[int, ...]) -> None:
    from dcomc.places import spans
    from dcomc.tables import duration, print_table
    from dialects.dcom import SITES

    alike: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for layer in layers:
        rows: list[tuple[str, ...]] = []
        for site in (None, *SITES):
            dense, gpu, dcom = (run.work(layer, site) for run in runs)
            host = dcom.get("GPU", 0.0) + dcom.get("GPU link", 0.0)
            times = (sum(dense.values()), sum(gpu.values()), host, dcom.get("D-com", 0.0), dcom.get("D-com link", 0.0))
            rows.append((site or "all", *map(duration, times)))
        rows.append(("span", *(duration(run.span(layer)) for run in runs), "", ""))
        alike.setdefault(tuple(rows), []).append(layer)
    print_table(
        ("layers", "site", "dense", "on a GPU", "with D-com: GPU", "D-com", "its link"),
        [("" if number else spans(of), *row) for rows, of in alike.items() for number, row in enumerate(rows)],
        caption="work of each layer and site, whatever overlaps; span: from the layer's first start to its last end",
    )


def _print_memory(memories: "dict[str, Memory]", capacity: int, layers: tuple[int, ...]) -> None:
    from dcomc.estimate import IN_WORDS
    from dcomc.tables import memory_size, number, print_table

    rows: list[tuple[str, ...]] = []
    for name, found in memories.items():
        of_layers = dict(found.layers)
        one = of_layers[layers[0]] if layers else max(of_layers.values())
        row = (found.weights, found.kv_cache, one, found.outside, found.total)
        rows.append((IN_WORDS[name], *map(memory_size, row), f"{number(100 * found.total / capacity)}%"))
    which = f"layer {layers[0]}" if layers else "a layer"
    print_table(
        ("memory of a GPU", "weights", "KV cache", f"activations: {which}", "logits etc.", "total", "share"),
        rows,
        caption="the whole batch together; activations at their most; total: with the most of all; share: of the GPU's "
        "memory",
    )


def _warn_of_memory(memories: "Mapping[int, Mapping[str, Memory]]", gpus: int, capacity: int) -> None:
    """Say on stderr where the model has no room, by the number of GPUs, and how many have room for it."""
    from dcomc.estimate import IN_WORDS
    from dcomc.tables import memory_size

    def beyond(count: int) -> list[str]:
        needed = {IN_WORDS[name]: found.total for name, found in memories[count].items()}
        return [f"{name} {memory_size(size)}" for name, size in needed.items() if size > capacity]

    if lacking := beyond(gpus):
        enough = next((count for count in memories if count > gpus and not beyond(count)), None)
        print(
            f"warning: the whole batch needs more than the {memory_size(capacity)} of a GPU's memory "
            f"({', '.join(lacking)}), which the times do not count; "
            + (f"--tp {enough} has room" if enough else "give fewer prompts by --batch, or shorter ones by --seq-len"),
            file=sys.stderr,
        )


def _to_json(
    runs: "tuple[Run, ...]", memories: "dict[str, Memory]", options: Any, program: "Program"
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "gpu": {"name": options.gpu.name, "hash": options.gpu.hash, "tensor_parallel": options.tensor_parallel},
        "machine": {"name": program.machine.name, "hash": program.machine.hash},
        "batch": options.batch,
        "options": dict(program.options),
        "variants": {
            run.variant: {
                "seconds": run.seconds,
                "fastest": run.fastest,
                "slowest": run.slowest,
                "parts": run.parts,
                "busy": {resource: run.busy(resource) for resource in run.resources},
            }
            for run in runs
        },
        "memory": {name: asdict(found) for name, found in memories.items()},
    }
