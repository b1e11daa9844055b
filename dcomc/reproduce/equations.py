"""Eq. 8 and 10 against counts from the IR of a compiled layer; 9, 11 and 12 against sizes of products and factors."""

import dcomc
from dcomc.cost_report import (
    activation_compression,
    compute_reduction,
    compute_reduction_both,
    largest_weight_rank,
    weight_compression,
)
from dcomc.costs import count_costs
from dcomc.pipeline import Decomposition
from dcomc.reproduce.claims import Claim, Result
from dcomc.reproduce.workbench import Workbench, traced

_LENGTH = 4096
_RANKS = (1, 10, 20)
WORKLOAD = {"tokens": _LENGTH, "ranks": _RANKS}


def reproduce(bench: Workbench) -> Result:
    """Each ratio of the paper beside that of operations or elements counted in the layer's IR, for each site."""
    claims: list[Claim] = []
    for rank in _RANKS:
        options = Decomposition((0,), rank=rank, outliers=0.0)
        module = dcomc.lower(traced(_LENGTH, 1).clone(), options, bench.machine_name, level="dcom")
        for cost in count_costs(module):
            product = cost.products[0]
            where = f"{cost.site}, rank {rank}"
            claims += [
                Claim(
                    f"Eq. 8, fewer operations of the products ({where})",
                    compute_reduction(_LENGTH, rank),
                    cost.dense.flops / cost.preserved.flops,
                    1e-9,
                    group="Eq. 8, fewer operations of the products",
                ),
                Claim(
                    f"Eq. 10, smaller input ({where})",
                    activation_compression(_LENGTH, product.depth, rank, rank),
                    cost.dense_memory / cost.memory,
                    0.01,
                    why="the core is held in binary32, which the equation does not say",
                    group="Eq. 10, smaller input",
                ),
            ]
    claims += [_weights(name, shape) for name, shape in (("q", (4096, 4096)), ("gate", (4096, 11008)))]
    claims.append(_both())
    claims.append(_break_even(4096, 11008))
    setting = f"One layer of Llama-2-7B, {_LENGTH} tokens, without exact channels; counts of `dcomc.costs`."
    return Result("equations", claims, setting, (), bench.configuration(workload=WORKLOAD))


def _weights(name: str, shape: tuple[int, int], rank: int = 10) -> Claim:
    """Eq. 12, against the elements of the factors, as arrays."""
    import numpy as np

    depth, width = shape
    factors = [np.empty(size, np.int8) for size in ((depth, rank), (rank, rank), (rank, width))]
    ours = depth * width / sum(factor.size for factor in factors)
    group = "Eq. 12, smaller weight"
    return Claim(f"{group} ({name}, rank {rank})", weight_compression(*shape, rank, rank), ours, 1e-9, group=group)


def _both(rank: int = 10) -> Claim:
    """Eq. 9, against the multiplications of Eq. 7 in its order: core V, by U_W, by core_W."""
    depth = width = 4096
    chain = ((rank, depth, rank), (rank, rank, rank), (rank, rank, rank))  # V U_W, core_W, and the input's core
    ours = _LENGTH * depth * width / sum(m * k * n for m, k, n in chain)
    return Claim(
        f"Eq. 9, fewer operations with both in factors (4096 x 4096, rank {rank})",
        compute_reduction_both(_LENGTH, depth, width, rank, rank, rank, rank),
        ours,
        1e-9,
        why="counted from the products of Eq. 7",
    )


def _break_even(depth: int, width: int) -> Claim:
    """Eq. 11, against the last whole rank at which the factors hold fewer elements than the weight."""
    ours = max(p for p in range(1, min(depth, width)) if weight_compression(depth, width, p, p) > 1)
    bound = largest_weight_rank(depth, width)
    return Claim(f"Eq. 11, largest rank that pays ({depth} x {width})", int(bound), ours, 1e-9)
