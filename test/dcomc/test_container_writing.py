"""Programs that are written: what could not be read back is not, and a program is for its machine."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import LAYOUT, MACHINE, kernel, program

from dcomc.container import check_machine
from dcomc.diagnostics import DcomError
from dcomc.program import Program
from dcomc.program_check import ProgramError
from runtime.machine import Machine, load_machine, machine_from_values


@pytest.mark.parametrize(
    "broken",
    [
        replace(program(), kernels=()),
        replace(program(), kernels=(kernel("lanczos_4x12"), replace(kernel("other"), locations=()))),
        replace(program(), kernels=(kernel("lanczos_4x12"), replace(kernel("other"), words=()))),
        replace(
            program(), kernels=(kernel("other"), replace(kernel("lanczos_4x12"), layout=replace(LAYOUT, bank_bytes=8)))
        ),
        replace(program(), activations={"layer1.qkv": np.zeros((8, 12), np.float32)}),
        replace(program(), activations={"layer1.qkv": np.zeros((12, 8), np.float16)}),
    ],
)
def test_what_could_not_be_read_is_not_written(broken: Program, tmp_path: Path) -> None:
    path = tmp_path / "prog.bin"
    path.write_bytes(b"old")
    with pytest.raises(ProgramError):
        broken.save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["prog.bin"]


def small_machine(**changes: Any) -> Machine:
    values = json.loads(MACHINE.to_json())
    return machine_from_values({**values, **changes}, "test")


def test_a_program_is_for_its_machine() -> None:
    check_machine(program(), load_machine("dcom-16x16"))
    check_machine(program(), small_machine(name="another-name"))
    slower = small_machine(name="slower", clock={"hz": 5})
    with pytest.raises(DcomError) as caught:
        check_machine(program(), slower)
    assert str(caught.value).startswith(
        f"error: the program is for machine dcom-16x16 ({MACHINE.hash}), not slower ({slower.hash}); compile it for"
    )
