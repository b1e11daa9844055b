"""The machine: one description, read from TOML, that compiler and simulator share."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.toml_files import read_toml

T = TypeVar("T")

_SHIPPED = Path(str(resources.files("dcomc"))) / "configs" / "machines"


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
    """Pipeline depths."""

    issue: int
    multiply: int
    add: int
    scatter_level: int
    convert: int
    reciprocal_sqrt: int
    divide: int


@dataclass(frozen=True)
class Clock:
    hz: int


@dataclass(frozen=True)
class Machine:
    """A D-com accelerator. Every field comes from its TOML file; there are no defaults."""

    name: str
    grid: Grid
    cluster: Cluster
    bank: Bank
    global_memory: GlobalMemory
    links: Links
    latency_cycles: LatencyCycles
    clock: Clock

    @property
    def tile_bytes(self) -> int:
        """Bytes of one binary16 tile."""
        return 2 * self.cluster.mac_rows * self.cluster.mac_cols

    @property
    def hash(self) -> str:
        """SHA-256 of every value but the name, 16 hexadecimal digits: equal machines have equal hashes."""
        values = asdict(self)
        del values["name"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """All values as JSON, as a program carries them."""
        return json.dumps(asdict(self), sort_keys=True)


def machine_from_values(values: Mapping[str, Any], place: str) -> Machine:
    """Check and type the values of a machine description.

    Raises:
        DcomError: a key is unknown or missing, a value has the wrong type or is not positive, or the sizes of the
            multiplier array are no powers of two.
    """
    machine = _build(Machine, values, place, "")
    for name, size in (("cluster.mac_rows", machine.cluster.mac_rows), ("cluster.mac_cols", machine.cluster.mac_cols)):
        if size & (size - 1):
            raise DcomError(f"{name} = {size} is no power of two", hint="the trees are binary", place=place)
    return machine


def _build(kind: type[T], values: Mapping[str, Any], place: str, prefix: str) -> T:
    types = get_type_hints(kind)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise DcomError(f"unknown key '{prefix}{unknown[0]}'", hint=did_you_mean(unknown[0], types), place=place)
    missing = sorted(set(types) - set(values))
    if missing:
        raise DcomError(f"missing key '{prefix}{missing[0]}'", hint="dcom-16x16.toml shows all keys", place=place)
    typed: dict[str, Any] = {}
    for key, wanted in types.items():
        value = values[key]
        if is_dataclass(wanted):
            if not isinstance(value, dict):
                raise DcomError(f"'{prefix}{key}' must be a table", place=place)
            typed[key] = _build(cast(type[Any], wanted), cast(dict[str, Any], value), place, f"{prefix}{key}.")
        elif type(value) is not wanted or (wanted is int and value < 1):
            kind_name = "a positive integer" if wanted is int else "a string"
            raise DcomError(f"'{prefix}{key}' must be {kind_name}, not {value!r}", place=place)
        else:
            typed[key] = value
    return kind(**typed)


def load_machine(name_or_file: str) -> Machine:
    """A machine by the name of a shipped configuration, or from a TOML file.

    Raises:
        DcomError: neither a known name nor a readable, valid file.
    """
    shipped = {file.stem: file for file in _SHIPPED.glob("*.toml")}
    if name_or_file not in shipped and not Path(name_or_file).suffix and not Path(name_or_file).exists():
        raise DcomError(f"unknown machine '{name_or_file}'", hint=did_you_mean(name_or_file, shipped))
    hint = f"give a TOML file or one of: {', '.join(sorted(shipped))}"
    return machine_from_values(read_toml(shipped.get(name_or_file, name_or_file), hint), name_or_file)
