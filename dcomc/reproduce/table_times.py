"""The decomposition times of table 2: between ranks, between a GPU and D-com, and for all of ARC-Easy."""

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from dcomc.dcom_times import dcom_seconds
from dcomc.estimate import SPEEDS
from dcomc.gpu_lanczos import Method, lanczos_parts, lanczos_seconds
from dcomc.gpu_model import Host, LanczosWork
from dcomc.reproduce.choices import ALONE, FOUR, claim_of, named, speed_name
from dcomc.reproduce.claims import Claim, Curve, Plot, paper_table
from dcomc.reproduce.layer_runs import BATCH
from dcomc.reproduce.tables import BATCHES, SHORT, table_layers
from dcomc.reproduce.workbench import Workbench
from dcomc.tables import duration

_RANKS = (1, 10, 20)
_ITERATIONS: Mapping[str, Callable[[int], int]] = {
    "": lambda rank: rank,
    "rank + 5 iterations": lambda rank: rank + 5,
    "rank + 10 iterations": lambda rank: rank + 10,
}
"""How many for a rank: algorithm 1 keeps all its vectors, and figures 4 and 12 have 10 of either; or more, for better
factors."""
_METHODS: Mapping[Method, str] = {"modified": "", "classical": "classical Gram-Schmidt"}
WIDTH = 4096
_WIDTHS = {"": (WIDTH,), FOUR: (WIDTH, WIDTH, WIDTH, 11008)}
"""Channels of the inputs that a layer decomposes."""
_PASSES = 2
"""Passes of Gram-Schmidt: "these operations iteratively orthogonalize matrices multiple times" (section 2.3)."""
Times = Mapping[int, float]
"""Seconds by rank, of a batch's decompositions in one layer."""


def decomposition_claims(bench: Workbench, table: str) -> tuple[list[Claim], list[Plot]]:
    """Ratios of the decomposition times between ranks, and between GPU and D-com; and the times themselves."""
    gpu, dcom = dict(_gpu_times(bench)), dict(_dcom_times(bench))
    paper = {rank: _paper_seconds(table, rank, "decomp_gpu_s") for rank in _RANKS}
    paper_dcom = {rank: _paper_seconds(table, rank, "decomp_dcom_s") for rank in _RANKS}
    one = {named(*key[:-1]): times for key, times in gpu.items() if key[-1] == ""}
    of_ranks = "decomposition on the GPU, between ranks"
    claims = [
        claim_of(
            f"{of_ranks}, {slow} over {fast}",
            paper[slow] / paper[fast],
            0.15,
            {name: times[slow] / times[fast] for name, times in one.items()},
            _why_ranks(bench, paper),
            of_ranks,
        )
        for slow, fast in ((10, 1), (20, 10), (20, 1))
    ]
    group = "decomposition on the GPU over that on D-com"
    for rank in _RANKS:
        ratios = {
            named(*key, alone): times[rank] / dcom[key[0], key[-1], alone][rank]
            for key, times in gpu.items()
            for alone in ("", ALONE)
        }
        what = f"{group}, rank {rank}"
        claims.append(claim_of(what, paper[rank] / paper_dcom[rank], 0.25, ratios, _why_ratio(table), group))
    for what, theirs, ours, why in (
        ("the GPU", paper, gpu, _why_ranks(bench, paper)),
        ("D-com", paper_dcom, dcom, _why_dcom(bench, paper_dcom, dcom)),
    ):
        group = f"decomposition on {what}, seconds a layer"
        for rank in _RANKS:
            values = {named(*key): BATCHES * times[rank] for key, times in ours.items()}
            claims.append(claim_of(f"{group}, rank {rank}", theirs[rank], 0.25, values, why, group))
    curves = [Curve("paper", _RANKS, [paper[rank] / paper[1] for rank in _RANKS])]
    curves += [
        Curve(named(*key) or "ours", _RANKS, [times[rank] / times[1] for rank in _RANKS])
        for key, times in gpu.items()
        if not key[2] and not key[-1] and not key[3]
    ]
    return claims, [Plot("Decomposition on a GPU, over that at rank 1", "rank", "ratio", curves, logarithmic=False)]


def _why_ranks(bench: Workbench, paper: Times) -> str:
    """What bounds a GPU, and what the paper's times look like."""
    host, (least, *_, most) = Host(bench.gpu), _RANKS
    kernels = [sum(part.launches for part in lanczos_parts(host, _work(WIDTH, rank, rank, 1))) for rank in _RANKS]
    slope = (paper[most] - paper[least]) / (most - least)
    return (
        f"{duration(host.launch_seconds)} to launch a kernel is more than it takes to run on {SHORT} x {WIDTH}; a "
        f"prompt has {', '.join(map(str, kernels))} of them at ranks {', '.join(map(str, _RANKS))}, which grows with "
        f"the square of the iterations; the paper's seconds a layer are about {paper[least] - slope * least:.1f} + "
        f"{slope:.2f} for each rank"
    )


def _why_ratio(table: str) -> str:
    """What bounds either, and what the paper's ratios look like."""
    rows = [float(row["decomp_gpu_s"]) / float(row["decomp_dcom_s"]) for row in paper_table(table)]
    return (
        f"the paper's is {min(rows):.1f} to {max(rows):.1f} in all its rows, whatever the rank; in ours launches bound "
        "the GPU, one prompt after another, while short prompts stand side by side on D-com"
    )


def _why_dcom(bench: Workbench, paper: Times, ours: Mapping[tuple[str, str, str], Times]) -> str:
    """A batch's times, and the least that reading its activations takes."""
    rank, bandwidth = 10, bench.machine.bank_bytes_per_second
    return (
        f"at rank {rank} a batch takes D-com {duration(ours['', '', ''][rank])}, and {duration(paper[rank] / BATCHES)} "
        f"in the paper; reading its activations once takes {duration(BATCH * SHORT * WIDTH * 2 / bandwidth)}"
    )


def _gpu_times(bench: Workbench) -> Iterator[tuple[tuple[str, str, str, str, str], Times]]:
    """By iterations, method, batching, speed and reading."""
    for name, count in _ITERATIONS.items():
        for method in get_args(Method):
            for batched in (False, True):
                for speed, optimism in SPEEDS.items():
                    host = Host(bench.gpu, optimism=optimism)
                    for reading, widths in _WIDTHS.items():
                        times = {
                            rank: sum(
                                lanczos_seconds(
                                    host,
                                    _work(width, count(rank), rank),
                                    batched=batched,
                                    method=method,
                                )
                                for width in widths
                            )
                            for rank in _RANKS
                        }
                        batching = "prompts batched on the GPU" if batched else ""
                        yield (name, _METHODS[method], batching, speed_name(speed), reading), times


def _dcom_times(bench: Workbench) -> Iterator[tuple[tuple[str, str, str], Times]]:
    """By iterations, reading, and whether prompts stand side by side."""
    for name, count in _ITERATIONS.items():
        bench.say(f"D-com: {name or 'rank iterations'}")
        for reading, widths in _WIDTHS.items():
            for alone in ("", ALONE):
                times = {
                    rank: sum(
                        dcom_seconds(_work(width, count(rank), rank), bench.machine, alone=bool(alone))
                        for width in widths
                    )
                    for rank in _RANKS
                }
                yield (name, reading, alone), times


def _work(width: int, iterations: int, rank: int, prompts: int = BATCH) -> LanczosWork:
    """The work of a batch, or of fewer prompts."""
    return LanczosWork(prompts, SHORT, width, iterations, rank, _PASSES)


def _rows(table: str, rank: int) -> list[dict[str, str]]:
    return [row for row in paper_table(table) if int(row["rank"]) == rank]


def _paper_seconds(table: str, rank: int, column: str) -> float:
    """The paper's decomposition time at a rank over the number of layers, the mean over its rows."""
    rows = _rows(table, rank)
    return sum(float(row[column]) / len(table_layers(row["layers"])) for row in rows) / len(rows)
