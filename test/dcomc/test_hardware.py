"""Area and energy from a technology's table, by hand, and figure 13."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from dcomc.diagnostics import DcomError
from dcomc.hardware import (
    area_mm2,
    area_over_systolic,
    matvec_energy_fj,
    memory_for_area_ratio,
    systolic_matvec_energy_fj,
)
from dcomc.reproduce import reproduction
from dcomc.reproduce.workbench import Workbench
from runtime.bounds import Bounds, bounds_of, spread
from runtime.machine import load_machine
from runtime.technology import load_technology

MACHINE, TECHNOLOGY = load_machine("dcom-16x16"), load_technology("15nm")


@dataclass(frozen=True)
class Inner:
    b: Bounds


@dataclass(frozen=True)
class Outer:
    a: Bounds
    inner: Inner


def test_a_spread_goes_over_all_ends_and_its_middle_is_geometric() -> None:
    table = Outer(Bounds(1, 4), Inner(Bounds(3, 12)))
    assert [name for name, _ in bounds_of(table)] == ["a", "inner.b"]
    assert spread(table, lambda t: t.a.middle / t.inner.b.middle) == pytest.approx((1 / 3, 1 / 12, 4 / 3))


def test_area_is_placed_logic_and_sram() -> None:
    one = replace(MACHINE, grid=replace(MACHINE.grid, rows=1, cols=1))
    at_low = spread(TECHNOLOGY, lambda at: area_mm2(one, at))[1]
    assert one.multipliers == 64 and MACHINE.multipliers == 16384
    assert at_low == pytest.approx(1e-6 * (1.18 * 82_229 + 0.069 * 8 * 2 * 65536))
    assert area_mm2(MACHINE, TECHNOLOGY) == pytest.approx(256 * area_mm2(one, TECHNOLOGY), rel=0.5)
    assert area_mm2(MACHINE, TECHNOLOGY, "trees", "binary16") < area_mm2(MACHINE, TECHNOLOGY)


def test_the_memory_for_an_area_ratio_gives_that_ratio() -> None:
    each = memory_for_area_ratio(MACHINE, TECHNOLOGY, 1.05)
    shared = MACHINE.global_memory.bytes / 256
    cluster = replace(MACHINE.cluster, buffer_bytes=round(each - shared))
    assert area_over_systolic(replace(MACHINE, cluster=cluster), TECHNOLOGY, "binary32") == pytest.approx(1.05, 1e-5)


def test_energy_is_of_a_product_and_the_bytes_that_it_moves() -> None:
    low = spread(TECHNOLOGY, lambda at: matvec_energy_fj(MACHINE, at))[1]
    assert low == pytest.approx(0.5 * 933 + (2 + 2 / 8 + 4 / 8) * 1060)
    one, beside = (systolic_matvec_energy_fj(MACHINE, TECHNOLOGY, memory) for memory in ("one", "beside"))
    assert matvec_energy_fj(MACHINE, TECHNOLOGY) < beside < one


def test_figure_13_has_ranges_and_says_what_they_hold() -> None:
    result = reproduction("figure13")(Workbench())
    assert result.configuration["technology"] == asdict(TECHNOLOGY) | {"hash": TECHNOLOGY.hash}
    for claim in result.claims[:-1]:
        assert claim.low is not None and claim.ours is not None and claim.high is not None
        assert claim.low < claim.ours < claim.high and claim.why
    area, power, share, multipliers = result.claims
    assert (area.paper, power.paper, share.paper, multipliers.paper) == (3, -59, 7, 7)
    assert area.ours is not None and 0 < area.choices["sums in binary16"] < area.ours
    where = power.choices["buffers as D-com's"]
    assert power.verdict == "reproduced" and where == pytest.approx(-1, abs=1), "where the memory is decides"
    assert power.span is not None and power.span[1] > where


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 1_060", "low = 3_060", "'energy_fj.buffer_byte' goes down from 3060 to 2500"),
        ("mac_trees", "mac_treees", "unknown key 'energy_fj.mac_treees'; did you mean 'mac_trees'"),
        ("die_mm2 = 826", "die_mm2 = 0", "'gpu.die_mm2' must be a positive integer"),
    ],
)
def test_mistakes_in_a_table_name_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    shipped = Path(__file__).parents[2] / "dcomc" / "configs" / "technologies" / "15nm.toml"
    file = tmp_path / "mine.toml"
    file.write_text(shipped.read_text().replace(old, new, 1))
    with pytest.raises(DcomError) as error:
        load_technology(str(file))
    assert message in str(error.value) and "mine.toml" in str(error.value)


def test_an_unknown_technology_is_named_as_one() -> None:
    with pytest.raises(DcomError, match="unknown technology '14nm'"):
        load_technology("14nm")
