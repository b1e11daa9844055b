#!/usr/bin/env bash
# The main job, command by command, as a person would type it. `make demo` installs what it needs and runs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p demo

run() {
    printf '%s$ %s\n' "${separator-}" "$*"
    separator=$'\n'
    "$@"
}

run python -m dcomc.texts squad --article 27 -o demo/article.txt
run dcomc trace smollm2-135m --seq-len 512 -o demo/smollm2.mlir
run dcomc compile demo/smollm2.mlir --decompose-layers=14,18,24,26 --rank 10 --outliers 3 -o demo/prog.bin 2>&1
run dcomc inspect demo/prog.bin
run dcomc sim demo/prog.bin
run dcomc run demo/prog.bin --model smollm2-135m --text demo/article.txt --max-tokens 512 --json demo/run.json
# The same layers with a basis for each 64 tokens: nearer to the dense model, found sooner, and more of the products left.
run dcomc compile demo/smollm2.mlir --decompose-layers=14,18,24,26 --rank 10 --outliers 3 --block 64 -o demo/blocks.bin 2>&1
run dcomc sim demo/blocks.bin --timing-only
run dcomc run demo/blocks.bin --model smollm2-135m --text demo/article.txt --max-tokens 512 --no-controls
