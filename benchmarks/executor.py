"""The host executor against transformers' own forward pass, of a dense model on the same tokens.

Run: python benchmarks/executor.py [--backends torch,numpy] [--tokens N] [--rounds N]

They run by turns, so that what else the machine does meets them all: the ratio is the median of those of the rounds,
the seconds are the fastest round's. Neither loading nor the executor's compilation of the module, which its first pass
does, is in the times. The goal: torch at most 1.3 times the time of transformers.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from measure import Goal, Stopwatch, finish, median_ratio

from dcomc.evaluate import Window, dense_forward, torch_weights
from dcomc.model import resolve_model
from dcomc.texts import squad_article
from dcomc.tracer import trace
from runtime.executor import Executor
from runtime.executor_arrays import BACKENDS, make_arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a model with weights (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=1024, help="of the prompt (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--backends", default="torch", help=f"of {', '.join(BACKENDS)} (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where torch computes (default: %(default)s)")
    args = parser.parse_args()

    model = resolve_model(args.model).with_weights()
    ids = model.tokenizer().encode("\n".join(squad_article(number) for number in range(4)))[: args.tokens]
    window = Window(np.asarray([ids], np.int64), (len(ids),))
    dense = model.torch_model("f32")
    module, weights = trace(model, len(ids), 1, "f32"), torch_weights(dense)
    runs: dict[str, Callable[[], Any]] = {"transformers": partial(dense_forward(dense, args.device), window)}
    for backend in args.backends.split(","):
        arrays = make_arrays(backend, args.device if backend == "torch" else "cpu")
        runs[backend] = partial(Executor(module, weights, arrays=arrays).run, "main", window.tokens)

    reference, *logits = (np.asarray(run()).reshape(len(ids), -1) for run in runs.values())
    differences = [float(np.abs(result - reference).max()) for result in logits]
    watches = {name: Stopwatch() for name in runs}
    for number in range(args.rounds):
        for name, run in runs.items():
            with watches[name]:
                run()
        print(f"round {number + 1}: " + ", ".join(f"{name} {of.wall[-1]:.2f} s" for name, of in watches.items()))
    seconds = {name: min(of.wall) for name, of in watches.items()}
    theirs = watches.pop("transformers")
    ratios = {name: median_ratio(of.wall, theirs.wall) for name, of in watches.items()}
    for (name, ratio), difference in zip(ratios.items(), differences, strict=True):
        print(f"{name}: {ratio:.2f} times the time of transformers; logits differ by at most {difference:.1e}")
    finish(
        "executor",
        {
            "model": model.name,
            "tokens": len(ids),
            "threads": torch.get_num_threads(),
            "device": args.device,
            "seconds": seconds,
            "ratio": ratios,
            "max_logit_difference": dict(zip(ratios, differences, strict=True)),
        },
        [Goal("torch back end over transformers", ratio, 1.3) for name, ratio in ratios.items() if name == "torch"],
    )


if __name__ == "__main__":
    main()
