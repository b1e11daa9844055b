"""Simulated cycles a second of wall time, beside SCALE-Sim 3, on one product of 512 x 512 x 512.

    python benchmarks/scale_sim.py [--size 512] [--environment build/scale-sim]

dcomc takes the product as matvecs, one for each column, with the matrix resident in the buffers of the default machine:
it computes every number, checked here against NumPy, and every cycle. SCALE-Sim simulates a weight-stationary systolic
array of as many multipliers, 128 x 128: it makes address traces and counts cycles, and computes no numbers. It needs
NumPy 1, so the script makes it an environment of its own. The last line is one JSON object.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import venv
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from measure import ROOT, finish

from runtime.encoding import Word
from runtime.fast import FastEngine
from runtime.machine import Machine, load_machine
from runtime.operands import BUFFER, IMMEDIATE
from runtime.sequencer import never_leave, sequence
from runtime.steady import time_stream

CONFIGURATION = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {side}
ArrayWidth = {side}
IfmapSramSzkB = 4096
FilterSramSzkB = 4096
OfmapSramSzkB = 4096
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 64
Dataflow = ws
ReadRequestBuffer = 512
WriteRequestBuffer = 512
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
_X, _MATRIX, _VECTOR, _RESULT = 2, 0, 0x8000, 0x9000


def product_words(machine: Machine, size: int) -> list[Word]:
    """y_j = A x_j for each column x_j: A once into the buffers; for each j a matvec, a reduction along rows, a store.

    Bank c holds column block c of A, row block r at r * block; then its parts of the vectors; then, bank 0, results.
    """
    rows, cols = size // machine.grid.rows, size // machine.grid.cols
    vectors = machine.grid.rows * 2 * rows * cols
    results = vectors + size * 2 * cols

    def word(mnemonic: str, **operands: int) -> Word:
        return Word.of(mnemonic, **operands)

    def stream(mnemonic: str, buffer: int, bank: int, bytes: int, stride: int, cols: int, token: int) -> Word:
        place = BUFFER.pack(0, buffer)
        return word(mnemonic, buffer=place, bank=bank, bytes=bytes, stride=stride, rows=0, cols=cols, token=token)

    def add(register: int, value: int) -> Word:
        return word("addi", d=register, a=register, value=IMMEDIATE.pack(value))

    y, x, a = (BUFFER.pack(0, place) for place in (_RESULT, _VECTOR, _MATRIX))
    tiles = {"rows": rows // machine.cluster.mac_rows, "cols": cols // machine.cluster.mac_cols}
    return [
        stream("ld", _MATRIX, 1, 2 * rows * cols, 2 * rows * cols, 0, 0),
        add(2, vectors),
        add(3, results),
        word("wait", token=0),
        word("loop", count=size, end=12),
        stream("ld", _VECTOR, 2, 2 * cols, 0, 0, 1),
        word("wait", token=1),
        word("mv.row", y=y, a=a, x=x, **tiles, accumulate=0),
        word("reduce.row", x=y, length=rows, span=0),
        stream("st", _RESULT, 3, 4 * rows, 4 * rows, 1, 2),
        add(2, 2 * cols),
        add(3, 4 * size),
        word("halt"),
    ]


def ours(size: int) -> tuple[int, float]:
    """Cycles, and seconds of numbers and cycles together, of the product on the fast engine."""
    machine = load_machine("dcom-16x16")
    grid, cluster = machine.grid, machine.cluster
    words = product_words(machine, size)
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size)).astype(np.float16) for _ in range(2))
    rows, cols = size // grid.rows, size // grid.cols
    tiles = a.reshape(
        grid.rows, rows // cluster.mac_rows, cluster.mac_rows, grid.cols, cols // cluster.mac_cols, cluster.mac_cols
    ).transpose(3, 0, 1, 4, 2, 5)
    parts = b.reshape(grid.cols, cols, size).transpose(0, 2, 1)
    flat = [np.ascontiguousarray(x).reshape(grid.cols, -1).view(np.uint16) for x in (tiles, parts)]
    banks = np.concatenate([*flat, np.zeros((grid.cols, 2 * size * size), np.uint16)], axis=1)
    seconds: list[float] = []
    for _ in range(3):  # the first compiles
        engine = FastEngine(machine, np.ascontiguousarray(banks.T))
        begin = time.perf_counter()
        for issue in sequence(words, 0, never_leave):
            engine.execute(issue)
        timing = time_stream(words, machine, None, (), 1)
        seconds.append(time.perf_counter() - begin)
    stored = np.ascontiguousarray(engine.banks[-2 * size * size :, 0]).view(np.float32).reshape(size, size).T
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = float(np.abs(stored - exact).max() / np.abs(exact).max())
    if error > 1e-5:
        raise RuntimeError(f"the simulated product is wrong by {error:.1e}")
    return timing.cycles, min(seconds)


def theirs(size: int, side: int, environment: Path) -> tuple[int, float]:
    """Cycles, and seconds, that SCALE-Sim says and takes, with its process's start."""
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"installing SCALE-Sim in {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "scalesim==3.0.0", "numpy<2"], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scale.cfg").write_text(CONFIGURATION.format(side=side))
        (folder / "product.csv").write_text(f"Layer, M, N, K,\nproduct, {size}, {size}, {size},\n")
        (folder / "layout.csv").write_text("Layer\nproduct" + ",1" * 16 + "\n")
        files = ["-c", "scale.cfg", "-t", "product.csv", "-l", "layout.csv", "-i", "gemm", "-p", "out", "-s", "N"]
        begin = time.perf_counter()
        done = subprocess.run(
            [python.absolute(), "-m", "scalesim.scale", *files], cwd=folder, capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - begin
    found = re.search(r"Total cycles: (\d+)", done.stdout)
    if found is None:
        raise RuntimeError(f"SCALE-Sim says no cycles:\n{done.stdout}{done.stderr}")
    return int(found[1]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="a multiple of 128, to 512 (default: %(default)s)")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "scale-sim", help="where SCALE-Sim goes")
    args = parser.parse_args()
    machine = load_machine("dcom-16x16")
    results: dict[str, Any] = {"size": args.size, "multipliers": machine.multipliers}
    taken = {"dcomc": ours(args.size), "scale_sim": theirs(args.size, isqrt(machine.multipliers), args.environment)}
    for name, (cycles, seconds) in taken.items():
        results[name] = {"cycles": cycles, "seconds": round(seconds, 3), "cycles_a_second": round(cycles / seconds)}
        print(f"{name}: {cycles:,} cycles in {seconds:.2f} s, {cycles / seconds:,.0f} a second")
    results["ratio"] = round(results["dcomc"]["cycles_a_second"] / results["scale_sim"]["cycles_a_second"], 1)
    results["seconds_ratio"] = round(taken["scale_sim"][1] / taken["dcomc"][1], 1)
    print(
        f"simulated cycles a second, dcomc over SCALE-Sim: {results['ratio']}; "
        f"seconds for the product, SCALE-Sim over dcomc: {results['seconds_ratio']}"
    )
    finish("scale_sim", results)


if __name__ == "__main__":
    main()
