"""All that the page of a program shows, as plain values; the page's script draws nothing else."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation

from dcomc import __version__
from dcomc.container import SectionSummary, read_container
from dcomc.costs import SiteCost, count_costs
from dcomc.diagnostics import DcomError
from dcomc.encode import describe_module
from dcomc.ir import describe_location, parse_module
from dcomc.program import Program
from dcomc.report.cycles import KernelCycles, Roofline, make_roofline, time_kernels
from dcomc.report.expansion import Expansion, sweep_kernels
from dcomc.report.results import Latency, Quality, read_results
from dcomc.report.stages import Pipeline, make_pipeline
from dcomc.simulate import LaunchResult
from dialects.dcom import DecomposeOp, OutlierSplitOp, ProjectOp, TokenSplitOp
from passes._sites import Layers
from runtime.instructions import Unit
from runtime.machine import machine_file

SiteKey = tuple[int, str]


@dataclass(frozen=True)
class DecompositionSummary:
    """A decomposition of the model, in the order of the model."""

    layer: int
    site: str
    matrices: int
    """Prompts, or blocks of prompts."""
    rows: int
    cols: int
    rank: int
    iterations: int
    kernel: str
    location: str
    exact: str
    """What is kept exact beside the factors."""
    cycles: int
    seconds: float
    array_share: float
    bank_share: float
    dense_flops: int
    """Operations of the site's products without decomposition."""
    flops: int
    """Operations of what the host computes instead."""
    decomposition_flops: int
    error: float | None
    """||X - U core V|| / ||X||, where a simulation with data was given."""
    optimal_error: float | None


@dataclass(frozen=True)
class Reason:
    """Why a product stands as it does after a reconstruction, in layers that have it alike."""

    layers: tuple[int, ...]
    product: str
    """The module of the model that it comes from, with `*` for the layer."""
    chosen: str
    """The cost of the order that was chosen, and that of the dense product."""
    stopped: str
    """What reads the result and does not take factors."""


@dataclass(frozen=True)
class SiteState:
    """A site of a layer: `decomposed`, `projected` on the basis of another site, or `dense`."""

    layer: int
    site: str
    state: str


@dataclass(frozen=True)
class Report:
    """A page."""

    version: str
    """The version of dcomc."""
    file: str
    sha256: str
    bytes: int
    format: int
    sections: tuple[SectionSummary, ...]
    machine: Mapping[str, Any]
    machine_hash: str
    options: Mapping[str, Any]
    model: Mapping[str, Any]
    sites: tuple[SiteState, ...]
    decompositions: tuple[DecompositionSummary, ...]
    reasons: tuple[Reason, ...]
    kernels: tuple[KernelCycles, ...]
    roofline: Roofline
    expansion: tuple[Expansion, ...]
    """Where the sweep was asked for."""
    quality: tuple[Quality, ...]
    latency: tuple[Latency, ...]
    dumps: str | None
    """The folder that stages came from."""
    pipeline: Pipeline

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def gather(path: Path, dumps: Path | None = None, results: Iterable[Path] = (), *, expansion: bool = False) -> Report:
    """Read a program, time it without data, and take its IR through the stages again.

    Args:
        dumps: the folder of `dcomc compile --dump-ir-dir`, for the stages that the program does not hold.
        expansion: sweep the paper's expansion factor for each kernel, some seconds each.
        results: JSON files of `dcomc sim --stats`, `run --json`, `eval --json` and `estimate --stats`.

    Raises:
        DcomError: a file that cannot be read, is of another program, or is none of these.
    """
    container = read_container(path)
    program, digest = container.program, hashlib.sha256(path.read_bytes()).hexdigest()
    if not program.host:
        raise DcomError(f"{path} holds no model", hint="give a program made by `dcomc compile`")
    module = parse_module(program.host, f"{path}: the host's part")
    measured = read_results(results, program, digest)
    launched = program.simulate(timing_only=True).launches
    costs = count_costs(module)
    swept: tuple[Expansion, ...] = ()
    if expansion:
        with machine_file(program.machine) as machine:
            swept = tuple(sweep_kernels(program, module, machine))
    return Report(
        version=__version__,
        file=path.name,
        sha256=digest,
        bytes=container.bytes,
        format=container.version,
        sections=container.sections,
        machine=asdict(program.machine),
        machine_hash=program.machine.hash,
        options=program.options,
        model=describe_module(module),
        sites=tuple(_site_states(module, costs)),
        decompositions=tuple(_decompositions(program, module, launched, costs, measured.errors)),
        reasons=_reasons(module),
        kernels=time_kernels(program),
        roofline=make_roofline(program.machine, launched, costs),
        expansion=swept,
        quality=measured.quality,
        latency=measured.latency,
        dumps=None if dumps is None else dumps.name,
        pipeline=make_pipeline(program, module, dumps),
    )


def _decompositions(
    program: Program,
    module: ModuleOp,
    launched: Sequence[LaunchResult],
    costs: Sequence[SiteCost],
    errors: Mapping[SiteKey, tuple[float | None, float | None]],
) -> Iterable[DecompositionSummary]:
    work = {(cost.layer, cost.site): cost for cost in costs}
    exact = _kept_exact(module)
    for result in launched:
        launch = result.launch
        key = launch.layer, launch.site
        cost, (error, optimal) = work[key], errors.get(key, (None, None))
        yield DecompositionSummary(
            layer=launch.layer,
            site=launch.site,
            matrices=launch.prompts,
            rows=result.rows,
            cols=result.cols,
            rank=launch.rank,
            iterations=result.iterations,
            kernel=launch.kernel,
            location=launch.location,
            exact=", ".join(exact.get(key, ())),
            cycles=result.cycles,
            seconds=result.cycles / program.machine.clock.hz,
            array_share=result.share(Unit.ARRAY),
            bank_share=result.share(Unit.BANK),
            dense_flops=cost.dense.flops,
            flops=cost.work.flops,
            decomposition_flops=cost.decomposition.flops,
            error=error,
            optimal_error=optimal,
        )


def _kept_exact(module: ModuleOp) -> dict[SiteKey, list[str]]:
    found: dict[SiteKey, list[str]] = {}
    for op in module.walk():
        if isinstance(op, OutlierSplitOp | TokenSplitOp):
            kind = "channels" if isinstance(op, OutlierSplitOp) else "tokens"
            found.setdefault((op.layer.value.data, op.site.data), []).append(f"{op.capacity.value.data:,} {kind}")
    return found


def _site_states(module: ModuleOp, costs: Sequence[SiteCost]) -> Iterable[SiteState]:
    kinds: dict[type[Operation], str] = {DecomposeOp: "decomposed", ProjectOp: "projected"}
    states = {
        (op.layer.value.data, op.site.data): kinds[type(op)]
        for op in module.walk()
        if isinstance(op, DecomposeOp | ProjectOp)
    }
    for cost in costs:
        yield SiteState(cost.layer, cost.site, states.get((cost.layer, cost.site), "dense"))


def _reasons(module: ModuleOp) -> tuple[Reason, ...]:
    """What passes noted on reconstructions, each reason once for all layers that share it."""
    layers = Layers.of(module)
    found: dict[tuple[str, str, str], dict[int, None]] = {}
    for layer, calls in sorted(layers.calls.items()):
        functions = [layers.functions.get(call.callee.root_reference.data) for call in calls]
        for op in (op for function in functions if function for op in function.walk()):
            notes = [op.attributes.get(f"dcom.{name}") for name in ("chosen", "stopped")]
            if any(isinstance(note, StringAttr) for note in notes):
                texts = [describe_location(op.location), *(n.data if isinstance(n, StringAttr) else "" for n in notes)]
                product, chosen, stopped = (text.replace(f"layers.{layer}", "layers.*") for text in texts)
                found.setdefault((product, chosen, stopped), {})[layer] = None
    return tuple(Reason(tuple(of), *texts) for texts, of in found.items())


def page_json(values: Mapping[str, Any]) -> str:
    """JSON that stands inside a script element of a page: no `<` begins a tag there."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
