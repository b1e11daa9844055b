"""Figure 3: what Lanczos bidiagonalisation takes on one GPU, by operation."""

from dcomc.gpu_lanczos import Part, lanczos_parts
from dcomc.gpu_model import Host, LanczosWork
from dcomc.reproduce.claims import Claim, Curve, Plot, Result
from dcomc.reproduce.workbench import Workbench

_WORK = LanczosWork(1, 4096, 4096, iterations=15, rank=10, passes=2)


def reproduce(bench: Workbench) -> Result:
    """The share of each operation, for kernels launched one by one, and by a graph."""
    eager = {at: lanczos_parts(Host(bench.gpu, optimism=at), _WORK) for at in (0.0, 0.5, 1.0)}
    graph = lanczos_parts(Host(bench.gpu, graph=True), _WORK)
    shares = [_reorthogonalisation(eager[at]) for at in (0.0, 0.5, 1.0)]
    one_pass = lanczos_parts(Host(bench.gpu), LanczosWork(1, 4096, 4096, 10, 10, 1))
    claims = [
        Claim(
            "U and V reorthogonalisation take the majority of the runtime (section 2.3): their share",
            None,
            shares[1],
            low=min(shares),
            high=max(shares),
            holds=shares[1] > 0.5,
            why=f"with a CUDA graph {_reorthogonalisation(graph):.0%}; with one pass and 10 iterations, launched "
            f"eagerly, {_reorthogonalisation(one_pass):.0%}",
        )
    ]
    bars = [part.name for part in graph]
    curves = [
        Curve(name, range(len(bars)), [1e3 * part.seconds for part in parts])
        for name, parts in (("eager", eager[0.5]), ("graph", graph))
    ]
    plot = Plot("Lanczos bidiagonalisation on one GPU", "operation", "ms for a prompt", curves, bars, logarithmic=False)
    setting = (
        f"One prompt of 4096 x 4096 on one {bench.gpu.name} in binary32, {_WORK.iterations} iterations, modified "
        f"Gram-Schmidt in {_WORK.passes} passes: {sum(part.launches for part in graph)} kernels; by the model."
    )
    return Result("figure3", claims, setting, [plot], bench.configuration)


def _reorthogonalisation(parts: tuple[Part, ...]) -> float:
    """Its share of all."""
    of_it = sum(part.seconds for part in parts if "reorthogonalisation" in part.name)
    return of_it / sum(part.seconds for part in parts)
