"""`dcomc compile --report-cost`: the costs of each layer and site, and the paper's ratios (its section 4.1)."""

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from dcomc.costs import Product, SiteCost, Work, count_costs
from dcomc.diagnostics import write_text
from dcomc.tables import print_table


def compute_reduction(rows: int, rank: int) -> float:
    """Eq. 8: multiplications of X W over those of V W, X [rows, D] of that rank. The products stay decomposed."""
    return rows / rank


def compute_reduction_both(rows: int, depth: int, width: int, r1: int, r2: int, p1: int, p2: int) -> float:
    """Eq. 9: the same over those of core V U_W core_W (Eq. 7), X of ranks r1 and r2, W of ranks p1 and p2."""
    return rows * depth * width / (r2 * depth * p1 + r2 * p1 * p2 + r1 * r2 * p2)


def activation_compression(rows: int, depth: int, r1: int, r2: int) -> float:
    """Eq. 10: elements of X over those of its factors. (The paper calls the ranks p1 and p2 there.)"""
    return rows * depth / (rows * r1 + r1 * r2 + r2 * depth)


def largest_weight_rank(depth: int, width: int) -> float:
    """Eq. 11: the factors of W hold fewer elements than W where p1 = p2 is below this."""
    return (sqrt((depth + width) ** 2 + 4 * depth * width) - (depth + width)) / 2


def weight_compression(depth: int, width: int, p1: int, p2: int) -> float:
    """Eq. 12: elements of W over those of its factors."""
    return depth * width / (depth * p1 + p1 * p2 + p2 * width)


def report_costs(module: ModuleOp, file: Path | None) -> None:
    """Print the tables to stderr, and write all numbers as JSON where a file is given.

    Raises:
        DcomError: the module is not of a traced model, or the file cannot be written.
    """
    costs = count_costs(module)
    if file is not None:
        write_text(file, json.dumps(costs_to_json(costs), indent=1) + "\n")
    decomposed = [cost for cost in costs if cost.factors is not None]
    print_table(
        ("layer", "site", "block", "rank", "flops", "now", "ratio", "Eq. 8", "find", "bytes", "now", "memory", "now",
         "ratio", "Eq. 10"),
        [_row(cost) for cost in decomposed],
        stderr=True,
        caption=_total("decomposed sites", decomposed) + "\n" + _total("all projections of layers", costs) + "\n"
        "now: as compiled, with what stays exact and reconstruction; find: operations to find the factors",
    )  # fmt: skip
    rows = {row: None for cost in costs for product in cost.products if (row := _product_row(cost, product))}
    print_table(
        ("product", "D", "W", "rank", "weight", "Eq. 9", "Eq. 11", "Eq. 12"),
        list(rows),
        stderr=True,
        caption=f"weights of layers: {quantity(sum(cost.dense_weights for cost in costs))}B to "
        f"{quantity(sum(cost.weights for cost in costs))}B\n"
        "weights [D, W] in factors of the ranks under weight, or of the activation's rank where they are dense (-): "
        "operations (Eq. 9), memory of weights (Eq. 12), and the rank below which factors of a weight are smaller than "
        "it is (Eq. 11)",
    )


def gain(module: ModuleOp) -> str:
    """A line of what the products of a compiled module's decomposed sites took and take, and finding their factors."""
    return _total("decomposed sites", [cost for cost in count_costs(module) if cost.factors is not None])


def costs_to_json(costs: Sequence[SiteCost]) -> dict[str, Any]:
    """All numbers: FLOPs, and bytes."""
    return {
        "sites": [_site_to_json(cost) for cost in costs],
        "dense": _work_to_json(_sum([cost.dense for cost in costs])),
        "compiled": _work_to_json(_sum([cost.work for cost in costs])),
        "decomposition": _work_to_json(_sum([cost.decomposition for cost in costs])),
    }


def _site_to_json(cost: SiteCost) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "layer": cost.layer,
        "site": cost.site,
        "dense": _work_to_json(cost.dense),
        "compiled": _work_to_json(cost.work),
        "decomposition": _work_to_json(cost.decomposition),
        "memory": {"dense": cost.dense_memory, "compiled": cost.memory or cost.dense_memory},
        "weights": {"dense": cost.dense_weights, "compiled": cost.weights},
        "products": [_product_to_json(cost, product) for product in cost.products],
    }
    if cost.factors is not None:
        rank, rows = cost.factors.rank.data, cost.factors.block.data
        numbers |= {"rank": rank, "block": rows}
        numbers["eq8"] = compute_reduction(rows, rank)
        numbers["eq10"] = activation_compression(rows, cost.products[0].depth, rank, rank)
    return numbers


def _product_to_json(cost: SiteCost, product: Product) -> dict[str, Any]:
    shape = (product.depth, product.width)
    numbers: dict[str, Any] = {"role": product.role, "rows": product.rows, "depth": shape[0], "width": shape[1]}
    if product.weight is not None:
        numbers["weight_ranks"] = list(product.weight.ranks)
    ranks = _ranks(cost, product)
    if ranks is not None:
        numbers["eq11"] = largest_weight_rank(*shape)
        numbers["eq12"] = weight_compression(*shape, *ranks)
        if cost.factors is not None:
            rank = cost.factors.rank.data
            numbers["eq9"] = compute_reduction_both(cost.factors.block.data, *shape, rank, rank, *ranks)
    return numbers


def _ranks(cost: SiteCost, product: Product) -> tuple[int, int] | None:
    """p1 and p2: of the weight's factors, or as if it had some of the activation's rank; None where nothing has."""
    if product.weight is not None:
        return product.weight.ranks
    return None if cost.factors is None else (cost.factors.rank.data, cost.factors.rank.data)


def _product_row(cost: SiteCost, product: Product) -> tuple[str, ...] | None:
    """The cells of a product whose input or weight is in factors."""
    numbers = _product_to_json(cost, product)
    if "eq11" not in numbers:
        return None
    return (
        product.role,
        f"{product.depth}",
        f"{product.width}",
        "-" if cost.factors is None else f"{cost.factors.rank.data}",
        "-" if product.weight is None else "x".join(map(str, product.weight.ranks)),
        f"{numbers['eq9']:.1f}" if "eq9" in numbers else "-",
        f"{numbers['eq11']:.0f}",
        f"{numbers['eq12']:.1f}",
    )


def _work_to_json(work: Work) -> dict[str, int]:
    return {"flops": work.flops, "bytes": work.bytes}


def _row(cost: SiteCost) -> tuple[str, ...]:
    assert cost.factors is not None
    rank, rows = cost.factors.rank.data, cost.factors.block.data
    return (
        str(cost.layer),
        cost.site,
        str(rows),
        str(rank),
        quantity(cost.dense.flops),
        quantity(cost.work.flops),
        f"{cost.dense.flops / cost.work.flops:.1f}",
        f"{compute_reduction(rows, rank):.1f}",
        quantity(cost.decomposition.flops),
        quantity(cost.dense.bytes),
        quantity(cost.work.bytes),
        quantity(cost.dense_memory),
        quantity(cost.memory),
        f"{cost.dense_memory / cost.memory:.1f}",
        f"{activation_compression(rows, cost.products[0].depth, rank, rank):.1f}",
    )


def _total(what: str, costs: Sequence[SiteCost]) -> str:
    dense, now = _sum([cost.dense for cost in costs]), _sum([cost.work for cost in costs])
    find = _sum([cost.decomposition for cost in costs])
    if not now.flops:
        return f"{what}: none"
    return (
        f"{what}: {quantity(dense.flops)}flop to {quantity(now.flops)}flop ({dense.flops / now.flops:.2f}x), "
        f"{quantity(dense.bytes)}B to {quantity(now.bytes)}B ({dense.bytes / now.bytes:.2f}x), "
        f"and {quantity(find.flops)}flop to find the factors"
    )


def _sum(works: Sequence[Work]) -> Work:
    return sum(works, Work())


def quantity(count: float) -> str:
    """A count in four or fewer characters and a prefix: `1.37 T`, `33.6 M`."""
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g} {prefix}"
        count /= 1000
    return f"{count:.3g} P"
