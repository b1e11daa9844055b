"""Figure 12: decomposition against the expansion factor, which needs computation expansion in the compiler."""

from dcomc.reproduce.claims import Claim, Result, paper_claims
from dcomc.reproduce.workbench import Workbench
from passes import PASSES

EXPANSION = "cluster-expand-reductions"


def reproduce(bench: Workbench) -> Result:
    """The two claims, with what is missing to compare with them."""
    paper = paper_claims()["claims"]
    why = (
        f"the pass {EXPANSION} is there, but no sweep over its factor runs it yet"
        if EXPANSION in PASSES
        else f"the compiler has no pass {EXPANSION} (it has {', '.join(n for n in PASSES if n.startswith('cluster'))})"
    )
    claims = [
        Claim("best expansion factor", paper["optimal_expansion_factor"], None, why=why),
        Claim("speed of computation expansion", paper["expansion_speedup"], None, why=why),
    ]
    workload = paper_claims()["workloads"]["figure12"]
    return Result("figure12", claims, "Nothing was run.", (), {**bench.configuration, "workload": workload})
