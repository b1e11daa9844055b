"""The machine: one description, read from TOML, that compiler and simulator share."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dcomc.diagnostics import DcomError, write_text
from dcomc.toml_files import Description, from_table, read_toml, shipped_file

_MOST, _LONGEST_SIDE = 1 << 40, 1 << 10
"""The largest number in a description, and of rows or columns: the buffers of all clusters stay below 2^63 bytes."""


@dataclass(frozen=True)
class Grid:
    """Clusters: rows x cols, one memory bank for each column (paper, 5.1)."""

    rows: int
    cols: int


@dataclass(frozen=True)
class Cluster:
    """One cluster: an array of binary16 multipliers with two reduction trees, and a shared buffer (paper, 5.2)."""

    mac_rows: int
    mac_cols: int
    buffer_bytes: int
    buffer_read_bytes_per_cycle: int
    buffer_write_bytes_per_cycle: int


@dataclass(frozen=True)
class Bank:
    """The memory bank of a cluster column."""

    stream_bytes_per_cycle: int
    latency_cycles: int
    capacity_bytes: int


@dataclass(frozen=True)
class GlobalMemory:
    """The small memory for broadcast (paper, 5.3)."""

    bytes: int
    write_bytes_per_cycle: int
    read_bytes_per_cycle: int
    write_latency_cycles: int
    read_latency_cycles: int


@dataclass(frozen=True)
class Links:
    """Wires between neighbouring clusters of a row or a column, one channel in each direction."""

    bytes_per_cycle: int
    hop_cycles: int


@dataclass(frozen=True)
class LatencyCycles:
    """Pipeline depths of units, and the latency of one level of a tree."""

    issue: int
    multiply: int
    add: int
    scatter_level: int
    """A level of the scatter trees; no instruction's cost counts it."""
    convert: int
    reciprocal_sqrt: int
    divide: int


@dataclass(frozen=True)
class Clock:
    hz: int


@dataclass(frozen=True)
class Machine(Description):
    """A D-com accelerator."""

    grid: Grid
    cluster: Cluster
    bank: Bank
    global_memory: GlobalMemory
    links: Links
    latency_cycles: LatencyCycles
    clock: Clock

    @property
    def multipliers(self) -> int:
        """Multipliers of all clusters."""
        return self.grid.rows * self.grid.cols * self.cluster.mac_rows * self.cluster.mac_cols

    @property
    def bank_bytes_per_second(self) -> int:
        """Bytes that all banks together deliver in a second."""
        return self.grid.cols * self.bank.stream_bytes_per_cycle * self.clock.hz

    @property
    def tile_bytes(self) -> int:
        """Bytes of one binary16 tile."""
        return 2 * self.cluster.mac_rows * self.cluster.mac_cols

    def part(self, rows: int, cols: int) -> "Machine":
        """A rectangle of its clusters, with the banks of its columns, as a machine of its own."""
        return self if (rows, cols) == (self.grid.rows, self.grid.cols) else replace(self, grid=Grid(rows, cols))

    def to_json(self) -> str:
        """All values as JSON, as a program carries them."""
        return json.dumps(asdict(self), sort_keys=True)


def machine_from_values(values: Mapping[str, Any], place: str) -> Machine:
    """Check and type the values of a machine description.

    Raises:
        DcomError: a key is unknown or missing, a value has the wrong type, is not positive or beyond any machine, or
            the sizes of the multiplier array are no powers of two.
    """
    machine = from_table(Machine, values, place, "dcom-16x16.toml")
    tables: dict[str, dict[str, int]] = {name: table for name, table in asdict(machine).items() if name != "name"}
    for key, value in ((f"{name}.{key}", value) for name, table in tables.items() for key, value in table.items()):
        most = _LONGEST_SIDE if key.endswith(("rows", "cols")) else _MOST
        if value > most:
            raise DcomError(f"'{key}' is {value}, but goes to {most}", place=place)
    for name, size in (("cluster.mac_rows", machine.cluster.mac_rows), ("cluster.mac_cols", machine.cluster.mac_cols)):
        if size & (size - 1):
            raise DcomError(f"{name} = {size} is no power of two", hint="the trees are binary", place=place)
    return machine


def load_machine(name_or_file: str) -> Machine:
    """A machine by the name of a shipped configuration, or from a TOML file.

    Raises:
        DcomError: neither a known name nor a readable, valid file.
    """
    file, hint = shipped_file("machines", name_or_file)
    return machine_from_values(read_toml(file, hint), name_or_file)


@contextmanager
def machine_file(machine: Machine) -> Generator[str]:
    """A file of the machine's description for the block, which passes take."""
    values = asdict(machine)
    lines = [f"name = {json.dumps(values.pop('name'))}"]
    for name, table in values.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in table.items())]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "machine.toml"
        write_text(path, "\n".join(lines) + "\n")
        yield str(path)
