"""How long `dcomc compile` takes for Llama-2-7B, and how that grows with the number of layers.

Tracing comes first and is not counted. Processor time is what the claims are held against, so that other work on the
machine does not change them; wall-clock time stands beside it.

Run: python benchmarks/compile_llama.py [--repeat N]
"""

import argparse
import json
import tempfile
from pathlib import Path

from measure import ROOT, Goal, best, finish, measure

from dcomc.tables import print_table

SHAPE = ROOT / "dcomc" / "configs" / "models" / "llama2-7b.json"


def trace(layers: int, folder: Path) -> Path:
    """Level 0 of Llama-2-7B with a number of layers, at 4,096 tokens."""
    model, ir = folder / f"llama-{layers}", folder / f"llama-{layers}.mlir"
    model.mkdir()
    config = {**json.loads(SHAPE.read_text(encoding="utf-8")), "num_hidden_layers": layers}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    measure(["trace", str(model), "--seq-len", "4096", "--dtype", "f16", "-o", str(ir)])
    return ir


def main() -> None:
    """Measure 2 layers, 31 of 32, and 63 of 64, at all sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=2, help="runs of each, of which the quickest counts")
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, double = trace(32, folder), trace(64, folder)
        output = ["-o", str(folder / "prog.bin")]
        results = {
            label: best(["compile", str(ir), "--decompose-layers", layers, *output], repeat)
            for label, ir, layers in (
                ("2 of 32", whole, "10,15"),
                ("31 of 32", whole, "1-31"),
                ("32 of 32", whole, "0-31"),
                ("64 of 64", double, "0-63"),
            )
        }
    growth = results["64 of 64"].cpu_seconds / results["32 of 32"].cpu_seconds
    print_table(
        ("layers", "seconds", "processor", "memory"),
        [
            (label, f"{m.seconds:.2f} s", f"{m.cpu_seconds:.2f} s", f"{m.peak_bytes / 1e6:.0f} MB")
            for label, m in results.items()
        ],
        caption=f"from 32 to 64 layers: {growth:.2f} times the time",
    )
    finish(
        "compile_llama",
        {**results, "growth": growth},
        [
            Goal("2 layers decomposed, seconds of processor time", results["2 of 32"].cpu_seconds, 3),
            Goal("31 layers decomposed, seconds of processor time", results["31 of 32"].cpu_seconds, 10),
            Goal("most memory, GB", max(m.peak_bytes for m in results.values()) / 1e9, 1),
            Goal("64 layers over 32", growth, 2.2),
        ],
    )


if __name__ == "__main__":
    main()
