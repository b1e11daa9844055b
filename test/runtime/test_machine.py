"""The machine's description: the shipped values, and one line for every mistake in a file."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from machines import SHIPPED, machine, machine_file

from dcomc.diagnostics import DcomError
from runtime.machine import load_machine, machine_from_values

DOCUMENTED: dict[str, Any] = {
    "name": "dcom-16x16",
    "grid": {"rows": 16, "cols": 16},
    "cluster": {
        "mac_rows": 8,
        "mac_cols": 8,
        "buffer_bytes": 65_536,
        "buffer_read_bytes_per_cycle": 256,
        "buffer_write_bytes_per_cycle": 128,
    },
    "bank": {"stream_bytes_per_cycle": 128, "latency_cycles": 120, "capacity_bytes": 5_368_709_120},
    "global_memory": {
        "bytes": 65_536,
        "write_bytes_per_cycle": 64,
        "read_bytes_per_cycle": 64,
        "write_latency_cycles": 8,
        "read_latency_cycles": 8,
    },
    "links": {"bytes_per_cycle": 32, "hop_cycles": 1},
    "latency_cycles": {
        "issue": 1,
        "multiply": 2,
        "add": 2,
        "scatter_level": 1,
        "convert": 1,
        "reciprocal_sqrt": 16,
        "divide": 16,
    },
    "clock": {"hz": 1_000_000_000},
}


LEAVES = [(table, key) for table, values in DOCUMENTED.items() if isinstance(values, dict) for key in values]
"""Table and key of every number of a machine."""


def changed(table: str, key: str, value: object) -> dict[str, Any]:
    values = tomllib.loads(SHIPPED)
    values[table][key] = value
    return values


def test_shipped_machine_has_the_documented_values() -> None:
    assert json.loads(load_machine("dcom-16x16").to_json()) == DOCUMENTED


def test_bandwidth_of_all_banks_is_that_of_an_a100() -> None:
    shipped = load_machine("dcom-16x16")
    assert shipped.grid.cols * shipped.bank.stream_bytes_per_cycle * shipped.clock.hz == 2_048 * 10**9
    assert shipped.tile_bytes == shipped.cluster.buffer_write_bytes_per_cycle == 128


def test_json_reads_back_to_an_equal_machine() -> None:
    shipped = load_machine("dcom-16x16")
    assert machine_from_values(json.loads(shipped.to_json()), "prog.bin") == shipped


@pytest.mark.parametrize(("table", "key"), LEAVES)
def test_hash_changes_with_every_value(table: str, key: str) -> None:
    other = machine_from_values(changed(table, key, 2 * DOCUMENTED[table][key]), "test.toml")
    assert other.hash != load_machine("dcom-16x16").hash


def test_hash_does_not_change_with_the_name() -> None:
    shipped = load_machine("dcom-16x16")
    other = machine_from_values({**tomllib.loads(SHIPPED), "name": "other"}, "test.toml")
    assert other != shipped
    assert other.hash == shipped.hash
    assert len(other.hash) == 16 and int(other.hash, 16) >= 0


def assert_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DcomError) as error:
        machine_from_values(values, "my.toml")
    assert str(error.value).startswith(f"my.toml: error: {message}")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None, [8]])
@pytest.mark.parametrize(("table", "key"), [("grid", "rows"), ("latency_cycles", "add"), ("clock", "hz")])
def test_value_that_is_no_positive_integer(table: str, key: str, value: object) -> None:
    assert_refused(changed(table, key, value), f"'{table}.{key}' must be a positive integer, not {value!r}")


@pytest.mark.parametrize(
    ("table", "key", "most"), [("grid", "cols", 1024), ("cluster", "mac_rows", 1024), ("bank", "capacity_bytes", 2**40)]
)
def test_value_beyond_any_machine(table: str, key: str, most: int) -> None:
    machine_from_values(changed(table, key, most), "my.toml")
    for value in (most + 1, 10**100):
        assert_refused(changed(table, key, value), f"'{table}.{key}' is {value}, but goes to {most}")


@pytest.mark.parametrize(("table", "key"), LEAVES)
def test_missing_key(table: str, key: str) -> None:
    values = tomllib.loads(SHIPPED)
    del values[table][key]
    assert_refused(values, f"missing key '{table}.{key}'; dcom-16x16.toml shows all keys")


@pytest.mark.parametrize("table", list(DOCUMENTED))
def test_missing_table(table: str) -> None:
    values = tomllib.loads(SHIPPED)
    del values[table]
    assert_refused(values, f"missing key '{table}'")


def test_unknown_key_names_the_close_one() -> None:
    assert_refused(
        changed("cluster", "buffer_byte", 1), "unknown key 'cluster.buffer_byte'; did you mean 'buffer_bytes'?"
    )
    assert_refused({**tomllib.loads(SHIPPED), "banks": {}}, "unknown key 'banks'; did you mean 'bank'?")


def test_table_that_is_none() -> None:
    assert_refused({**tomllib.loads(SHIPPED), "grid": 16}, "'grid' must be a table")


def test_name_that_is_no_text() -> None:
    assert_refused({**tomllib.loads(SHIPPED), "name": 16}, "'name' must be a string, not 16")


@pytest.mark.parametrize("key", ["mac_rows", "mac_cols"])
@pytest.mark.parametrize("size", [3, 6, 12])
def test_array_that_is_no_power_of_two(key: str, size: int) -> None:
    assert_refused(changed("cluster", key, size), f"cluster.{key} = {size} is no power of two; the trees are binary")


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_array_of_any_power_of_two(size: int) -> None:
    assert machine(mac_rows=size).cluster.mac_rows == size


def test_machine_from_a_file(tmp_path: Path) -> None:
    assert load_machine(machine_file(tmp_path, rows=3, cols=5)).grid.cols == 5


def test_errors_of_a_file_have_its_place(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    for content, message in (
        (b"name = \n", ":1:8: error: not TOML: Invalid value"),
        (b"\xff\xfe", ": error: not TOML: it is no UTF-8 text"),
        (b"a=" + b"[" * 9999, ": error: not TOML: it is"),
    ):
        path.write_bytes(content)
        with pytest.raises(DcomError, match=rf"odd\.toml{message}"):
            load_machine(str(path))
    path.write_text('name = "odd"\n', encoding="utf-8")
    with pytest.raises(DcomError, match=r"odd\.toml: error: missing key 'bank'"):
        load_machine(str(path))


@pytest.mark.parametrize("name", ["none.toml", "folder"])
def test_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DcomError, match=r"error: cannot read .*; give a TOML file or one of: dcom-16x16"):
        load_machine(str(tmp_path / name))


def test_unknown_name() -> None:
    with pytest.raises(DcomError, match=r"unknown machine 'dcom-16x61'; did you mean 'dcom-16x16'\?"):
        load_machine("dcom-16x61")
