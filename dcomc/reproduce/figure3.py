"""Figure 3: what Lanczos bidiagonalisation takes on one GPU, by operation."""

from dataclasses import asdict

from dcomc.estimate import SPEEDS
from dcomc.gpu_lanczos import Part, lanczos_parts
from dcomc.gpu_model import Host, LanczosWork
from dcomc.reproduce.choices import named, speed_name
from dcomc.reproduce.claims import Claim, Curve, Plot, Result
from dcomc.reproduce.layer_runs import ITERATIONS, RANK
from dcomc.reproduce.workbench import Workbench

_GRAPH = "a CUDA graph"
WORK = LanczosWork(1, 4096, 4096, ITERATIONS, RANK, passes=2)


def reproduce(bench: Workbench) -> Result:
    """The share of each operation, for kernels launched one by one, and by a graph."""
    made = {
        named(_GRAPH * graph, speed_name(speed)): lanczos_parts(Host(bench.gpu, 1, graph, optimism), WORK)
        for graph in (False, True)
        for speed, optimism in SPEEDS.items()
    }
    shares = {name: _reorthogonalisation(parts) for name, parts in made.items()}
    by_graph = [share for name, share in shares.items() if name.startswith(_GRAPH)]
    one_by_one = [share for name, share in shares.items() if not name.startswith(_GRAPH)]
    claims = [
        Claim(
            "U and V reorthogonalisation take the majority of the runtime (section 2.3): their share",
            None,
            shares[""],
            choices={name: share for name, share in shares.items() if name},
            holds=shares[""] > 0.5,
            why=f"{min(one_by_one):.2g} to {max(one_by_one):.2g} with kernels launched one by one, as ours are; "
            f"{min(by_graph):.2g} to {max(by_graph):.2g} where {_GRAPH} launches them",
        )
    ]
    bars = [part.name for part in made[""]]
    curves = [
        Curve(name, range(len(bars)), [1e3 * part.seconds for part in made[key]])
        for name, key in (("eager", ""), ("graph", _GRAPH))
    ]
    plot = Plot("Lanczos bidiagonalisation on one GPU", "operation", "ms for a prompt", curves, bars, logarithmic=False)
    setting = (
        f"One prompt of 4096 x 4096 on one {bench.gpu.name} in binary32, {WORK.iterations} iterations, modified "
        f'Gram-Schmidt in {WORK.passes} passes (the paper orthogonalises "multiple times"): '
        f"{sum(part.launches for part in made[''])} kernels; by the model."
    )
    return Result("figure3", claims, setting, [plot], bench.configuration(workload=asdict(WORK)))


def _reorthogonalisation(parts: tuple[Part, ...]) -> float:
    """Its share of all."""
    of_it = sum(part.seconds for part in parts if "reorthogonalisation" in part.name)
    return of_it / sum(part.seconds for part in parts)
