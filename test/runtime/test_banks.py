"""What lies in the banks before a run: the reference and the fast engine put the same there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from machines import compile_kernel, machine, machine_file

from runtime.banks import pack, to_half_scaled
from runtime.fast_banks import FREE, by_word, pack_scaled

VALUES = {"rows": 2, "cols": 2, "mac_rows": 8, "mac_cols": 8}
MACHINE = machine(**VALUES)
SIX = {"rows": 4, "cols": 6, "mac_rows": 4, "mac_cols": 2}
WIDE = {"rows": 2, "cols": 19, "mac_rows": 4, "mac_cols": 32}
"""More columns than a vector has lanes, and more multipliers in a row than are turned at once."""


@pytest.mark.parametrize(("rows", "cols"), [(16, 16), (24, 64), (33, 7), (1, 1)])
@pytest.mark.parametrize("more_rows", [0, 8, 16])
def test_both_engines_fill_the_banks_alike(rows: int, cols: int, more_rows: int, tmp_path: Path) -> None:
    """Of a program's file too, whose slices may be longer than there are rows, beyond what lies behind them."""
    kernel = compile_kernel(rows, cols, 1, machine_file(tmp_path, **VALUES))
    layout = replace(kernel.layout, slice_rows=kernel.layout.slice_rows + more_rows)
    a = np.random.default_rng(0).standard_normal((rows, cols)).astype(np.float32)
    half, exponent = to_half_scaled(a)
    banks, exponents = pack_scaled([a], layout, kernel.seed, MACHINE)
    assert exponents == (exponent,)
    np.testing.assert_array_equal(banks, by_word(pack([half], layout, kernel.seed, MACHINE)))


@pytest.mark.parametrize(
    ("values", "rows", "cols", "mapping", "in_flight", "matrices"),
    [
        (SIX, 24, 100, "cluster", None, 3),
        (SIX, 24, 100, "2x2", 2, 5),
        (SIX, 33, 7, "1x2", 1, 2),
        (SIX, 5, 257, "4x1", 3, 13),
        (SIX, 7, 90, "grid", None, 1),
        (WIDE, 23, 1300, "grid", None, 1),
        (WIDE, 5, 40, "1x1", None, 21),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_both_engines_fill_the_banks_of_groups_alike(
    values: dict[str, int],
    rows: int,
    cols: int,
    mapping: str,
    in_flight: int | None,
    matrices: int,
    kind: type,
    tmp_path: Path,
) -> None:
    """Groups and turns that get no matrix hold zeros, as does what no matrix fills."""
    kernel = compile_kernel(rows, cols, 1, machine_file(tmp_path, **values), mapping=mapping, in_flight=in_flight)
    random = np.random.default_rng(0)
    given = [(random.standard_normal((rows, cols)) * 10.0**index).astype(kind) for index in range(matrices)]
    m = machine(**values)
    halves, exponents = zip(*map(to_half_scaled, given), strict=True)
    for _ in range(2):  # the second time in an array that was used
        banks, found = pack_scaled(given, kernel.layout, kernel.seed, m)
        assert found == exponents
        np.testing.assert_array_equal(banks, by_word(pack(halves, kernel.layout, kernel.seed, m)))
        banks.fill(0x7777)
        FREE.give(banks)
