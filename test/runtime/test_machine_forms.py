"""Machines of every size: what is compiled for them runs, with the same bits and cycles on both engines."""

from pathlib import Path

import numpy as np
import pytest
from machines import compile_kernel, machine_file

from runtime.accelerator import run_kernel
from runtime.lanczos import optimal_error, relative_error, truncate
from runtime.machine import load_machine

FORMS: dict[str, str | dict[str, int]] = {
    "dcom-16x16": "dcom-16x16",
    "dcom-hbm3": "dcom-hbm3",
    "edge-4x4": "edge-4x4",
    "4x4 of 4x4": {"rows": 4, "cols": 4, "mac_rows": 4, "mac_cols": 4},
    "1x1": {"rows": 1, "cols": 1},
    "32x32": {"rows": 32, "cols": 32},
}


@pytest.fixture(params=FORMS)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    form = FORMS[request.param]
    return form if isinstance(form, str) else machine_file(tmp_path, **form)


@pytest.mark.parametrize(("rows", "cols"), [(40, 96), (75, 33)])
def test_lanczos(name: str, rows: int, cols: int) -> None:
    """Sides that divide by nothing, too; the error is near the least of that rank."""
    machine, kernel = load_machine(name), compile_kernel(rows, cols, 9, name)
    random = np.random.default_rng(0)
    a = (random.standard_normal((rows, 20)) / np.arange(1, 21) ** 2) @ random.standard_normal((20, cols))
    results = [run_kernel(kernel, machine, a, engine) for engine in ("reference", "fast")]
    for one, other in zip(*(vars(result.factors).values() for result in results), strict=True):
        assert one.tobytes() == other.tobytes()
    assert results[0].timing == results[1].timing
    assert sum(results[0].timing.causes.values()) == results[0].timing.cycles
    assert relative_error(a, *truncate(results[0].factors, 4)) < 1.05 * optimal_error(a, 4)


def test_more_bandwidth_takes_fewer_cycles() -> None:
    """Where the matrix comes from the banks in every pass it is the sooner there; the edge machine needs longer."""
    kernels = {name: compile_kernel(512, 512, 2, name) for name in ("dcom-16x16", "dcom-hbm3", "edge-4x4")}
    a = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    times = {
        name: run_kernel(kernel, load_machine(name), a, "fast").timing.cycles / load_machine(name).clock.hz
        for name, kernel in kernels.items()
    }
    assert times["dcom-hbm3"] < times["dcom-16x16"] < times["edge-4x4"] / 10
