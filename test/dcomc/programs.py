"""Programs for tests: small, and with something in every part."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dcomc.cli import main
from dcomc.program import Program
from runtime.encoding import Word
from runtime.machine import load_machine
from runtime.operands import BUFFER, COUNT, FLOAT, IMMEDIATE
from runtime.program import Kernel, KernelLayout, Launch

MACHINE = load_machine("dcom-16x16")

LAYOUT = KernelLayout(
    rows=4,
    cols=12,
    iterations=3,
    slice_rows=8,
    slice_cols=8,
    a_offset=0,
    a_stride=128,
    start_offset=128,
    u_offset=144,
    u_stride=64,
    v_offset=208,
    alpha_offset=256,
    bank_bytes=280,
    span_rows=0,
    span_cols=0,
    folded=0,
    in_flight=1,
)


def kernel(name: str, seed: int = 0) -> Kernel:
    """Ten instructions with operands of every kind, a loop and an exit."""
    words = (
        Word.of("li", d=3, value=IMMEDIATE.pack(-15)),
        Word.of("s.li", d=2, value=FLOAT.pack(1e-5)),
        Word.of("ld", buffer=BUFFER.pack(0, 0x100), bank=1, bytes=128, stride=0xFFFFFFFF, rows=1, cols=2, token=4),
        Word.of("wait", token=4),
        Word.of("loop", count=COUNT.pack_register(3), end=8),
        Word.of(
            "mv.row",
            y=BUFFER.pack(0, 0x400),
            a=BUFFER.pack(0, 0x100),
            x=BUFFER.pack(7, 0x20),
            rows=1,
            cols=COUNT.pack_register(9),
            accumulate=1,
        ),
        Word.of("exit.ngt", a=1, b=2, target=9),
        Word.of("addi", d=7, a=7, value=IMMEDIATE.pack(16)),
        Word.of("reduce.row", x=BUFFER.pack(0, 0x400), length=8, span=0),
        Word.of("halt"),
    )
    locations = tuple(f"model.layers.{i // 4}.mlp (a/b.py:{i // 4 + 10})" for i in range(len(words)))
    return Kernel(name, words, {4: "turns", 8: "end", 9: "done"}, locations, LAYOUT, seed)


def program(activations: bool = True) -> Program:
    """Two kernels, two launches, one with its activation stored."""
    stored = {"layer1.qkv": np.arange(96, dtype=np.float16).reshape(8, 12)}
    return Program(
        machine=MACHINE,
        kernels=(kernel("lanczos_4x12"), kernel("other", seed=2**40)),
        launches=(
            Launch("lanczos_4x12", 1, "qkv", 2, 3, "model.layers.1.self_attn (modeling_llama.py:1)"),
            Launch("other", 3, "down", 1, 1, 'odd; "quoted"\n\tlocation · é'),
        ),
        host='module @tiny {\n  // a comment; "quoted"\n\n | bar\n}\n',
        options={"rank": 3, "layers": [1, 3], "outliers": 3.0, "sites": {"qkv": True}},
        activations=stored if activations else {},
    )


def simulated(program: Path, folder: Path, *options: str) -> dict[str, Any]:
    """What `dcomc sim --stats` writes of a program."""
    stats = folder / "stats.json"
    assert main(["sim", str(program), *options, "--stats", str(stats)]) == 0
    return json.loads(stats.read_text())
