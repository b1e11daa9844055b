"""Figure 4: the latency of one layer of Llama-2-7B against the length of prompts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from dcomc.dcom_times import dcom_seconds
from dcomc.diagnostics import DcomError
from dcomc.progress import WorkProgress
from dcomc.reproduce.choices import FOUR, HOSTS, OURS, WITH_DCOM, HostChoice
from dcomc.reproduce.claims import Claim, Curve, Plot, Result
from dcomc.reproduce.layer_runs import BATCH, ITERATIONS, RANK, LayerRuns, decompositions, layer_runs
from dcomc.reproduce.workbench import Workbench

LENGTHS = (128, 512, 2048, 4096, 8192, 16384)
WORKLOAD = {"batch": BATCH, "tokens": LENGTHS, "rank": RANK, "iterations": ITERATIONS}


def reproduce(bench: Workbench) -> Result:
    """The three curves, and whether they lie as the figure's text says."""
    runs, missing = _runs(bench)
    claims = [
        lengths_claim("a layer decomposed on a GPU is slower than the dense one", _slower(runs), missing),
        lengths_claim("a layer with D-com is faster than the dense one", _faster(runs), missing),
    ]
    plots = [
        Plot(f"A layer of Llama-2-7B, 64 prompts, {name}", "tokens a prompt", "seconds", _curves(bench, runs, choice))
        for name, choice in (("one basis", OURS), (FOUR, HostChoice(four=True)))
    ]
    setting = (
        "64 prompts, rank 10 and 10 iterations; the dense products on four GPUs that share every layer, decomposition "
        "on one GPU, prompts one after another, or on one D-com; one basis a layer; 3% of the channels exact. The "
        "paper's curves were not available, only its text; ours counts the lengths at which it holds."
    )
    return Result("figure4", claims, setting, plots, bench.configuration(workload=WORKLOAD))


Runs = Mapping[int, Mapping[HostChoice, LayerRuns]]


def _curves(bench: Workbench, runs: Runs, choice: HostChoice) -> list[Curve]:
    """Seconds by length, and what they range over."""
    of_choice = {length: of[choice] for length, of in runs.items()}
    return [
        Curve(
            name,
            list(of_choice),
            [run.seconds for run in variant],
            [run.fastest for run in variant],
            [run.slowest for run in variant],
        )
        for name, variant in (
            (f"dense, {bench.gpus} GPUs", [of.dense for of in of_choice.values()]),
            ("decomposed on one GPU", [of.gpu for of in of_choice.values()]),
            ("decomposed with D-com", [of.dcom for of in of_choice.values()]),
        )
    ]


def _slower(runs: Runs) -> Mapping[HostChoice, Sequence[int]]:
    """The lengths at which the layer decomposed on a GPU is slower than the dense one."""
    return {c: [n for n, of in runs.items() if of[c].gpu.seconds > of[c].dense.seconds] for c in HOSTS}


def _faster(runs: Runs) -> Mapping[HostChoice, Sequence[int]]:
    """The lengths at which the layer with D-com is faster than the dense one."""
    return {c: [n for n, of in runs.items() if of[c].dcom.seconds < of[c].dense.seconds] for c in WITH_DCOM}


def lengths_claim(what: str, found: Mapping[HostChoice, Sequence[int]], missing: str) -> Claim:
    """The claim that something holds at all lengths; by the other choices, at how many."""

    def listed(choice: HostChoice) -> str:
        return ", ".join(map(str, found[choice])) or "none"

    here = found[OURS]
    others = {choice.name: float(len(lengths)) for choice, lengths in found.items() if choice != OURS}
    fewer = [f"{choice.name} ({listed(choice)})" for choice in found if len(found[choice]) < len(LENGTHS)]
    why = f"at {listed(OURS)} tokens"
    why += f"; at fewer by other choices: {'; '.join(fewer)}" if fewer and len(here) == len(LENGTHS) else ""
    return Claim(
        f"{what}, at how many of {len(LENGTHS)} lengths",
        None,
        len(here),
        choices=others,
        holds=len(here) == len(LENGTHS),
        why=why + missing,
    )


def _time_decompositions(bench: Workbench) -> None:
    """Time what the runs decompose on a D-com, which is nearly all of their work, and say how far that is."""
    works = dict.fromkeys(
        work for length in LENGTHS for four in (False, True) for work in decompositions(bench, length, four=four)
    )
    with WorkProgress(len(works), "timing", "decompositions", equal=False) as bar:
        for work in works:
            with suppress(DcomError):  # what has no room is no run, which says so
                dcom_seconds(work, bench.machine)
            bar.advance()


def _runs(bench: Workbench) -> tuple[Runs, str]:
    """The runs of each length that the machine has room for, and why not of the others."""
    _time_decompositions(bench)
    runs: dict[int, Mapping[HostChoice, LayerRuns]] = {}
    missing = ""
    for length in LENGTHS:
        try:
            runs[length] = {choice: layer_runs(bench, length, choice) for choice in HOSTS}
        except DcomError as error:
            missing += f"; none at {length}: {error.what}"
    return runs, missing
