"""The association of a chain of matrix products by dynamic programming over a cost model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from dcomc.costs import Work
from passes._roofline import Roofline

Tree: TypeAlias = "int | tuple[Tree, Tree]"
"""A factor by its number in the chain, or a product."""

LONGEST = 16
"""Factors of a chain that are associated at once; the time of the search grows with the cube."""


@dataclass(frozen=True)
class Association:
    """The products of a chain in the order of least time."""

    time: float
    tree: Tree

    def text(self, names: Sequence[str]) -> str:
        """Such as `U (core V)`."""
        text = _text(self.tree, names)
        return text[1:-1] if isinstance(self.tree, tuple) else text


def _text(tree: Tree, names: Sequence[str]) -> str:
    return f"({_text(tree[0], names)} {_text(tree[1], names)})" if isinstance(tree, tuple) else names[tree]


def left_to_right(count: int) -> Tree:
    """((0 1) 2) …"""
    tree: Tree = 0
    for factor in range(1, count):
        tree = (tree, factor)
    return tree


def associate(extents: Sequence[int], element_bytes: int, model: Roofline) -> Association:
    """The best association of matrices 0 to n - 1, the i-th of extents[i] x extents[i + 1]; the leftmost of equals.

    Args:
        element_bytes: of an element of any of them.
    """

    def product(first: int, middle: int, last: int) -> float:
        rows, inner, cols = extents[first], extents[middle + 1], extents[last + 1]
        return model.time([Work(2 * rows * inner * cols, (rows * inner + inner * cols + rows * cols) * element_bytes)])

    @cache
    def best(first: int, last: int) -> Association:
        if first == last:
            return Association(0.0, first)
        options = (
            (best(first, middle), best(middle + 1, last), product(first, middle, last))
            for middle in reversed(range(first, last))
        )
        candidates = [Association(a.time + b.time + time, (a.tree, b.tree)) for a, b, time in options]
        return min(candidates, key=lambda association: association.time)

    return best(0, len(extents) - 2)
