"""The groups of clusters that decompose a matrix each, side by side, and which piece of it each cluster holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Self

from runtime.machine import Grid
from runtime.program import KernelLayout


@dataclass(frozen=True)
class Groups:
    """Equal rectangles of clusters that fill the grid; those of a row of groups come before those of the next."""

    grid: Grid
    rows: int
    """Clusters of a group in a column."""
    cols: int
    """Clusters of a group in a row."""
    folded: bool
    """Whether the matrix is cut by columns alone, over all clusters of the group; else by rows and columns."""

    @classmethod
    def of(cls, layout: KernelLayout, grid: Grid) -> Self:
        """The groups of a layout, in which 0 stands for the whole side of the grid."""
        return cls(grid, layout.span_rows or grid.rows, layout.span_cols or grid.cols, bool(layout.folded))

    @property
    def down(self) -> int:
        """Groups in a column of the grid."""
        return self.grid.rows // self.rows

    @property
    def across(self) -> int:
        """Groups in a row of the grid."""
        return self.grid.cols // self.cols

    @property
    def count(self) -> int:
        """All groups."""
        return self.down * self.across

    @property
    def cut(self) -> tuple[int, int]:
        """Pieces that the rows and the columns of a matrix are cut into."""
        return (1, self.rows * self.cols) if self.folded else (self.rows, self.cols)

    def corner(self, group: int) -> tuple[int, int]:
        """Row and column of a group's first cluster."""
        down, across = divmod(group, self.across)
        return down * self.rows, across * self.cols

    def columns_held(self, layout: KernelLayout) -> Iterator[tuple[int, int]]:
        """Row and column, in the group, of the first cluster that holds each piece of the columns that is not empty."""
        for piece in range(ceil(layout.cols / layout.slice_cols)):
            yield divmod(piece, self.cols) if self.folded else (0, piece)

    def rows_used(self, layout: KernelLayout) -> int:
        """Rows of the grid up to the last that holds anything."""
        return (self.down - 1) * self.rows + self.rows_filled(layout)

    def rows_filled(self, layout: KernelLayout) -> int:
        """Rows of a group up to the last that holds anything."""
        return max(self.rows_held(layout), *(row + 1 for row, _ in self.columns_held(layout)))

    def rows_held(self, layout: KernelLayout) -> int:
        """Clusters in the first column of a group that hold any rows, different ones each."""
        return 1 if self.folded else ceil(layout.rows / layout.slice_rows)
