"""What a program is: kernels of instruction words, the launches that run them, and the host's part of the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.encoding import Word
from runtime.machine import Grid, Machine


@dataclass(frozen=True)
class KernelLayout:
    """How a Lanczos kernel's data lies in the banks and over the clusters.

    The grid is cut into groups of span_rows x span_cols clusters, and each decomposes a matrix of its own, in_flight of
    them at a time. Cluster (r, c) of a group holds rows r * slice_rows onward and columns c * slice_cols onward of it,
    padded with zeros; or, folded, all rows and columns (r * span_cols + c) * slice_cols onward.

    Offsets are bytes from the base of a turn, in which each group takes a matrix; those of the next turn lie bank_bytes
    further. Bank c has what its cluster column holds, tile by tile, the block of row r of the grid at
    a_offset + r * a_stride. The factors come back from the clusters that have them: V and the scalars of row r of the
    grid lie as densely as they are long, U u_stride apart.
    """

    rows: int
    """S, rows of the activation."""
    cols: int
    """H, its columns."""
    iterations: int
    """k"""
    slice_rows: int
    """Rows held by a cluster: a multiple of the tile's."""
    slice_cols: int
    """Columns held by a cluster: a multiple of the tile's."""
    a_offset: int
    a_stride: int
    start_offset: int
    """The start vector, binary16; row r of the grid takes slice_rows of it at start_offset + 2 * r * slice_rows, those
    that its clusters hold. In every turn."""
    u_offset: int
    """U as [k + 1, slice_rows] binary16."""
    u_stride: int
    v_offset: int
    """V as [k, slice_cols] binary16."""
    alpha_offset: int
    """alpha[k], then beta[k], binary32; entries of steps not taken are zero."""
    bank_bytes: int
    """What a turn needs of each bank."""
    span_rows: int
    """Clusters of a group in a column; 0 for all of the grid's."""
    span_cols: int
    """Clusters of a group in a row; 0 for all."""
    folded: int
    """1 where a matrix is cut by its columns alone, over all clusters of a group."""
    in_flight: int
    """Matrices that a group works on at a time. A kernel with several of them, or with several streams, takes this many
    turns in a round, and as many rounds as register 31 says at entry; any other kernel takes one turn."""


@dataclass(frozen=True)
class KernelStream:
    """A stream of a kernel: the rectangle of clusters that execute it, from cluster (row, col) on, and its beginning.

    The rectangle is a machine of its own, with the banks of its columns. The layout says how a matrix lies over it;
    bank addresses count from where the stream's own data begins, which no other stream reaches.
    """

    row: int
    col: int
    rows: int
    cols: int
    entry: int
    """The index of its first instruction."""

    @property
    def columns(self) -> range:
        """The columns of the grid that it has."""
        return range(self.col, self.col + self.cols)

    @property
    def clusters(self) -> int:
        return self.rows * self.cols

    def __str__(self) -> str:
        return f"{self.rows} x {self.cols} clusters from row {self.row}, column {self.col}"


@dataclass(frozen=True)
class Kernel:
    """Instructions of one stream over the whole grid, or of several side by side."""

    name: str
    words: tuple[Word, ...]
    labels: Mapping[int, str]
    """Labels by instruction index, as branch targets; an index may be one past the last word."""
    locations: tuple[str, ...]
    """For each word where it comes from, for people: MLIR op and Python line."""
    layout: KernelLayout
    seed: int | None
    """The seed of the start vector; without one the vector is the same in each row."""
    streams: tuple[KernelStream, ...] = ()
    """The streams that run side by side; none stand for one over the whole grid, from the first instruction on."""

    def streams_on(self, grid: Grid) -> tuple[KernelStream, ...]:
        """All streams, in the order in which a launch deals its matrices to them."""
        return self.streams or (KernelStream(0, 0, grid.rows, grid.cols, 0),)

    @property
    def takes_rounds(self) -> bool:
        """Whether one run takes all rounds of a launch; otherwise each run takes one turn."""
        return self.layout.in_flight > 1 or len(self.streams) > 1


@dataclass(frozen=True)
class Launch:
    """One decomposition of the model: a kernel, run for each prompt of the batch, or for each block of a prompt."""

    kernel: str
    layer: int
    site: str
    prompts: int
    """Matrices that the kernel decomposes: the blocks of all prompts."""
    rank: int
    """Columns kept by the truncation on the host."""
    location: str

    @property
    def key(self) -> str:
        """`layer10.qkv`: how activations for this launch are named in files."""
        return f"layer{self.layer}.{self.site}"


@dataclass(frozen=True)
class Program:
    """All that prog.bin holds."""

    machine: Machine
    kernels: tuple[Kernel, ...]
    launches: tuple[Launch, ...]
    host: str
    """The model as MLIR text; each `dcom.decompose` in it names its kernel."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the compiler was asked for, JSON values."""
    activations: Mapping[str, NDArray[np.float16]] = field(default_factory=dict[str, NDArray[np.float16]])
    """Stored inputs of launches by key, [prompts * S, H]; may be empty."""

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name."""
        return next(kernel for kernel in self.kernels if kernel.name == name)
