"""Machines of every size: what is compiled for them runs, with the same bits and cycles on both engines."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import compile_kernel, machine_file

from dcomc.diagnostics import DcomError
from runtime.accelerator import run_kernel, run_together
from runtime.deal import together_in
from runtime.lanczos import bidiagonalise, optimal_error, relative_error, truncate
from runtime.machine import load_machine

FORMS: dict[str, str | dict[str, int]] = {
    "dcom-16x16": "dcom-16x16",
    "dcom-hbm3": "dcom-hbm3",
    "edge-4x4": "edge-4x4",
    "4x4 of 4x4": {"rows": 4, "cols": 4, "mac_rows": 4, "mac_cols": 4},
    "1x1": {"rows": 1, "cols": 1},
    "32x32": {"rows": 32, "cols": 32},
    "3x5, banks of 3 bytes a cycle": {"rows": 3, "cols": 5, "stream_bytes_per_cycle": 3},
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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {
            "rows": st.integers(1, 5),
            "cols": st.integers(1, 6),
            "mac_rows": st.sampled_from([1, 2, 4, 8]),
            "mac_cols": st.sampled_from([1, 2, 4, 8]),
            "buffer_bytes": st.sampled_from([1024, 4096, 65536]),
            "stream_bytes_per_cycle": st.sampled_from([1, 3, 16, 128]),
        }
    ),
    st.tuples(st.integers(8, 100), st.integers(8, 100), st.integers(1, 5)),
    st.integers(1, 9),
)
def test_what_is_chosen_for_a_machine_runs(
    tmp_path: Path, form: dict[str, int], shape: tuple[int, int, int], matrices: int
) -> None:
    """With the same bits and cycles on both engines and nearly the errors of float64, or is refused."""
    file = machine_file(tmp_path, **form)
    machine = load_machine(file)
    try:
        kernel = compile_kernel(*shape, file, mapping="auto", streams="auto", matrices=matrices)
    except DcomError as error:
        assert "bytes of buffer" in error.what
        return
    rows, cols, iterations = shape
    prompts = list(np.random.default_rng(0).standard_normal((min(matrices, together_in(kernel, machine)), rows, cols)))
    ours, theirs = (run_together(kernel, machine, prompts, engine) for engine in ("reference", "fast"))
    for a, one, other in zip(prompts, ours, theirs, strict=True):
        for values, same in zip(vars(one.factors).values(), vars(other.factors).values(), strict=True):
            assert values.tobytes() == same.tobytes()
        assert one.timing == other.timing
        u, v, exact = one.factors.u, one.factors.v, bidiagonalise(a, iterations)
        least = relative_error(a, exact.u, exact.core, exact.v)
        assert relative_error(a, u, one.factors.core, v) < 1.02 * least + 0.01
