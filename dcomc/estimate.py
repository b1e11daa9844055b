"""What a program's model takes on GPUs: dense, decomposed on a GPU, and decomposed on a D-com beside them.

The prompts of a batch go through the model in parts, which depend on nothing of each other: while a D-com decomposes
one part's activations, the GPUs work on another's. The schedule is a list schedule of every kernel over the dependences
of the program; nothing overlaps that it does not start side by side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from xdsl.dialects.builtin import ModuleOp

from dcomc.dcom_times import DcomSeconds
from dcomc.gpu_lanczos import lanczos_seconds
from dcomc.gpu_model import Host, Kernel
from dcomc.host_kernels import Step, element_bytes, module_steps
from dcomc.list_schedule import Schedule, Task, schedule
from runtime.gpu import Gpu

Speed = Literal["middle", "fastest", "slowest"]
SPEEDS: Mapping[Speed, float] = {"middle": 0.5, "fastest": 1.0, "slowest": 0.0}
"""Where in each range of a GPU's description: `Host.optimism`."""
Variant = Literal["dense", "gpu", "dcom"]
VARIANTS: tuple[Variant, ...] = ("dense", "gpu", "dcom")
IN_WORDS: Mapping[str, str] = {"dense": "dense", "gpu": "decomposed on a GPU", "dcom": "decomposed with D-com"}

PARTS = (1, 2, 4, 8, 16)
"""Numbers of parts of a batch that are tried; the fastest is taken for each variant."""


@dataclass(frozen=True)
class Options:
    """How a model is run."""

    gpu: Gpu
    tensor_parallel: int = 1
    batch: int = 1
    graph: bool = False
    fused_attention: bool = True
    batched_lanczos: bool = False
    """On the GPU: all prompts of a part in each kernel, or one after another."""


@dataclass(frozen=True)
class Event:
    """A task in time."""

    resource: str
    name: str
    layer: int | None
    site: str
    part: int
    start: float
    end: float


_PICOSECOND = 12
"""Digits after the point."""


@dataclass(frozen=True)
class Run:
    """One variant of a model, scheduled."""

    variant: Variant
    parts: int
    seconds: float
    fastest: float
    """Seconds with every range of the GPU at its fast end."""
    slowest: float
    """Seconds with every range of the GPU at its slow end."""
    events: tuple[Event, ...]

    @property
    def by_speed(self) -> Mapping[Speed, float]:
        """Seconds, by where in each range of the GPU."""
        return {"middle": self.seconds, "fastest": self.fastest, "slowest": self.slowest}

    def busy(self, resource: str) -> float:
        """Seconds that a resource works."""
        return sum(event.end - event.start for event in self.events if event.resource == resource)

    @property
    def resources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(event.resource for event in self.events))

    def span(self, layer: int) -> float:
        """Seconds from a layer's first start to its last end, to the picosecond as `work`."""
        inside = [event for event in self.events if event.layer == layer]
        seconds = max(event.end for event in inside) - min(event.start for event in inside) if inside else 0.0
        return round(seconds, _PICOSECOND)

    def work(self, layer: int | None, site: str | None = None) -> Mapping[str, float]:
        """Seconds of work of a layer, or of a site of it, by resource: over all parts, whatever overlaps.

        To the picosecond, so that layers that do the same take the same, whenever they begin.
        """
        found: dict[str, float] = {}
        for event in self.events:
            if event.layer == layer and site in (None, event.site):
                found[event.resource] = found.get(event.resource, 0.0) + event.end - event.start
        return {resource: round(seconds, _PICOSECOND) for resource, seconds in found.items()}


def estimate(module: ModuleOp, program_batch: int, dcom: DcomSeconds, options: Options) -> tuple[Run, ...]:
    """The three variants of a compiled model, each with its best number of parts.

    Args:
        module: the host's part of a program.
        program_batch: prompts that it was traced for.
        dcom: of its decompositions.
        options: the GPUs, and the batch, which may be another than the program's.

    Raises:
        DcomError: the module is not of a traced model, or has no dense layer to compare with.
    """
    bytes_each = element_bytes(module)
    return tuple(
        run_steps(
            module_steps(module, fused_attention=options.fused_attention, dense=variant == "dense"),
            variant,
            program_batch,
            dcom,
            options,
            bytes_each,
        )
        for variant in VARIANTS
    )


def run_steps(
    steps: Sequence[Step],
    variant: Variant,
    program_batch: int,
    dcom: DcomSeconds,
    options: Options,
    bytes_each: int = 2,
) -> Run:
    """Schedule the kernels of a model, or of a part of one: see `estimate`."""
    middle = Host(options.gpu, options.tensor_parallel, options.graph, 0.5, bytes_each)

    def scheduled(parts: int, optimism: float) -> tuple[tuple[Task, ...], Schedule]:
        host = replace(middle, optimism=optimism)
        tasks = tuple(_tasks(steps, variant, parts, program_batch, dcom, host, options))
        return tasks, schedule(tasks)

    tried = {parts: scheduled(parts, 0.5) for parts in PARTS if options.batch % parts == 0}
    parts = min(tried, key=lambda count: tried[count][1].seconds)
    tasks, chosen = tried[parts]
    owners = [(step, part) for part in range(parts) for step in _expanded(steps, variant)]
    events = (
        Event(task.resource, step.kernel.name, step.layer, step.kernel.site, part, start, end)
        for task, (step, part), start, end in zip(tasks, owners, chosen.starts, chosen.ends, strict=True)
    )
    return Run(
        variant,
        parts,
        chosen.seconds,
        scheduled(parts, 1.0)[1].seconds,
        scheduled(parts, 0.0)[1].seconds,
        tuple(event for event in events if event.end > event.start),
    )


def _expanded(steps: Iterable[Step], variant: Variant) -> Iterable[Step]:
    """The steps, with a transfer to the D-com and back around each of its decompositions."""
    for step in steps:
        if variant == "dcom" and step.kernel.kind == "decompose":
            yield replace(step, kernel=replace(step.kernel, name="to D-com"))
            yield step
            yield replace(step, kernel=replace(step.kernel, name="from D-com"))
        else:
            yield step


def _tasks(
    steps: Sequence[Step],
    variant: Variant,
    parts: int,
    program_batch: int,
    dcom: DcomSeconds,
    host: Host,
    options: Options,
) -> Iterable[Task]:
    """The tasks of all parts, one part after another."""
    share = Fraction(options.batch // parts, program_batch)
    part: list[Task] = []
    last: list[int] = []
    """The task that ends each step."""
    for step in steps:
        kernel = step.kernel.of_prompts(share)
        needs = tuple(last[n] for n in kernel.needs)
        if kernel.decomposition is None:
            part.append(Task(_resource(kernel), host.seconds(kernel), needs))
        elif variant == "dcom":
            first = len(part)
            part += (
                Task("D-com link", kernel.input_bytes / host.dcom_bytes_per_second, needs),
                Task("D-com", dcom(kernel.decomposition, step.layer, kernel.site), (first,)),
                Task("D-com link", kernel.output_bytes / host.dcom_bytes_per_second, (first + 1,)),
            )
        else:
            part.append(
                Task("GPU", lanczos_seconds(host, kernel.decomposition, batched=options.batched_lanczos), needs)
            )
        last.append(len(part) - 1)
    for number in range(parts):
        offset = number * len(part)
        yield from (replace(task, needs=tuple(need + offset for need in task.needs)) for task in part)


def _resource(kernel: Kernel) -> str:
    return "GPU link" if kernel.kind in ("all_reduce", "all_gather") else "GPU"
