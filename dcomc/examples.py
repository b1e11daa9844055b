"""What stands at the end of `dcomc COMMAND --help`: command lines to begin with."""

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[str]] = {
    "trace": (
        "dcomc trace smollm2-135m --seq-len 512 -o model.mlir",
        "dcomc trace path/to/llama --seq-len 2048 --dtype bf16 -o model.mlir",
    ),
    "compile": (
        "dcomc compile model.mlir --decompose-layers 14,18,24,26 -o prog.bin",
        "dcomc compile model.mlir --decompose-layers 14 --block 64 -o prog.bin",
        "dcomc compile model.mlir --decompose-layers 14 --emit dcom",
    ),
    "opt": (
        "dcomc opt model.mlir -p 'dcom-decompose-activations{layers=14 rank=10}'",
        "dcomc opt --list-passes",
    ),
    "statistics": ("dcomc statistics smollm2-135m --text a.txt --layers 14,18 -o m.safetensors",),
    "sim": (
        "dcomc sim prog.bin",
        "dcomc sim prog.bin --timing-only --trace run.pftrace",
        "dcomc sim one.bin two.bin --stats numbers --jobs 2",
    ),
    "profile": ("dcomc profile prog.bin", "dcomc profile prog.bin --by opcode --sort waits --top 5"),
    "run": (
        "dcomc run prog.bin --model smollm2-135m --text a.txt --json run.json",
        "dcomc run prog.bin --model smollm2-135m --text a.txt --decompose-with float32",
    ),
    "estimate": ("dcomc estimate prog.bin --gpu a100-80gb --tp 4 --batch 64",),
    "eval": (
        "dcomc eval prog.bin --model smollm2-135m --task perplexity --limit 4",
        "dcomc eval smollm2-135m --task arc_easy --limit 100",
    ),
    "calibrate": ("dcomc calibrate smollm2-135m --text a.txt -o t.toml",),
    "search": ("dcomc search llama --calibration t.toml --text b.txt --layers 4 -o s.toml",),
    "reproduce": ("dcomc reproduce figure12 table2", "dcomc reproduce all -o docs"),
    "asm": ("dcomc asm kernel.s -o prog.bin",),
    "disasm": ("dcomc disasm prog.bin --hex",),
    "compare": ("dcomc compare old.bin new.bin", "dcomc compare old.json new.json --all"),
    "report": (
        "dcomc report prog.bin -o report.html",
        "dcomc report prog.bin --stages stages --result run.json -o report.html",
    ),
    "inspect": ("dcomc inspect prog.bin", "dcomc inspect prog.bin --json"),
    "doctor": ("dcomc doctor", "dcomc doctor --measure -o this.toml"),
}
