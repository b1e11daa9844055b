"""`dcomc search`: budgets against brute force, its file against compile and eval, interruption, and mistakes."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import save_model, words

from dcomc.cli import main
from dcomc.costs import count_costs
from dcomc.diagnostics import DcomError
from dcomc.estimate import Options
from dcomc.evaluate import Prompt
from dcomc.evaluation.bench import Bench, Results
from dcomc.model import resolve_model
from dcomc.pipeline import Decomposition
from dcomc.search.bases import LONGER, OWN, SAVED, SHARED, Bases, Choice
from dcomc.search.candidates import Budget, Candidates, first_that
from dcomc.search.order import order_layers, runs_to_order
from dcomc.search.search import search
from dcomc.search.space import Calibration, Candidate, Space
from dcomc.state_files import state_path
from dcomc.tracer import trace
from runtime.gpu import load_gpu

SEQ_LEN = 16
SITES = ("qkv", "o", "gate_up", "down")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("search") / "model")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(words(56, seed=5))
    return path


@pytest.fixture(scope="module")
def tables(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "text.txt").write_text(words(64, seed=3))
    found: list[Path] = []
    for block in (8, 16):
        found.append(folder / f"{block}.toml")
        options = ["--seq-len=16", "--rank=3", f"--block={block}", "--sensitivity-tokens=32", "-o", str(found[-1])]
        assert main(["calibrate", str(model), "--text", str(folder / "text.txt"), *options]) == 0
    return found


@pytest.fixture(scope="module")
def space(model: Path, tables: list[Path]) -> Space:
    costs = count_costs(trace(resolve_model(model), SEQ_LEN))
    return Space([Calibration.read(path) for path in tables], costs, SEQ_LEN)


def test_no_choice_within_the_budget_loses_less(space: Space) -> None:
    """Of all choices of two sites of two layers; a price finds the hull, so what it finds is the best of its cost."""
    for share in (0.97, 0.94):
        found = space.allocate(share, ("qkv",), 2)
        assert found.operations <= share and len(found.layers) == 2
        others = [
            space._candidate("", {layer: {"qkv": way} for layer, way in zip((a, b), pair, strict=True)})
            for a, b in itertools.combinations(space.layers, 2)
            for pair in itertools.product(space.choices[a, "qkv"], space.choices[b, "qkv"])
        ]
        assert found.loss <= min(other.loss for other in others if other.operations <= found.operations) + 1e-12


def test_candidates_have_as_many_layers_as_the_budget(
    space: Space, tables: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, where decomposing the last saves nothing, so that one fewer would leave less."""
    uniform = Space.uniform

    def dearer(self: Space, *given: Any) -> Candidate:
        found = uniform(self, *given)
        return replace(found, dense=float(len(found.layers)))

    monkeypatch.setattr(Space, "uniform", dearer)
    calibration, count = Calibration.read(tables[0]), len(space.layers)
    found, _ = Candidates(space, [calibration], Budget(count), SITES, bases=[OWN, SHARED]).make(space.layers)
    assert {len(candidate.layers) for candidate in found} == {count}


def test_more_operations_never_lose_more(space: Space) -> None:
    losses = [space.allocate(share, SITES).loss for share in (0.6, 0.7, 0.8, 0.9)]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]
    with pytest.raises(DcomError, match=r"1\.0% of the operations cannot be reached"):
        space.allocate(0.01, SITES)


def test_bases_are_shared_where_that_loses_less(space: Space, tables: list[Path]) -> None:
    """All kinds of candidates have them then, at one rank and block a layer; and none has where it loses more."""
    read = [Calibration.read(path) for path in tables]
    for factor, shared in ((0.5, True), (2.0, False)):
        bases = [OWN, replace(SHARED, factor=factor)]
        found, _ = Candidates(space, read, Budget(operations=0.8), SITES, bases=bases).make(space.layers)
        for candidate in found:
            for layer in candidate.layers:
                ways = [candidate.choices[layer, site] for site in SITES if (layer, site) in candidate.choices]
                assert [way.reuse for way in ways] == [False, *[shared] * (len(ways) - 1)]
                assert len({way.shape for way in ways}) == 1 or not shared
                assert shared or ways[0].steps is None
        alike = space.uniform(read[0], [1], SITES)
        assert space.uniform(read[0], [1], SITES, bases[1]).loss == pytest.approx(factor * alike.loss)


def test_what_bases_take_is_what_the_compiler_counts(model: Path, space: Space, tables: list[Path]) -> None:
    """Rank 3 in blocks of 16: each its own takes 8 steps a site; one of all steps saved, no more than a block holds."""
    bench, calibration = (
        Bench(resolve_model(model), [Prompt([1] * SEQ_LEN)], Results(None)),
        Calibration.read(tables[1]),
    )
    matvecs: dict[Bases, float] = {}
    for bases in (OWN, LONGER, SHARED, SAVED):
        config = tables[1].with_name("bases.toml")
        config.write_text(space.uniform(calibration, [1, 2], SITES, bases).to_toml())
        kept = bench.kept(Decomposition((1, 2), SITES, config=str(config)))
        matvecs[bases] = kept.matvecs
    assert matvecs == {OWN: 16, LONGER: 22, SHARED: (2 * 11 + 9) / 4, SAVED: (2 * 16 + 9) / 4}
    way = Choice(4, 32, 0.0, 0.1, 0.1, most=32)
    layer = dict.fromkeys(SITES, way)
    found = SAVED.of(layer)
    assert 2 * (found["qkv"].steps or 0) + 3 * way.rank == 2 * 4 * (way.rank + 5)
    assert all(found[site].reuse for site in SITES[1:]) and SAVED.of({"o": way})["o"].steps == way.rank + 5


@pytest.mark.parametrize("bases", [SHARED, SAVED], ids=lambda bases: bases.name)
def test_a_shared_basis_takes_no_more_than_those_that_it_saves(bases: Bases) -> None:
    """Of one site, which saves nothing, two or more, at low ranks and high ones."""
    for rank, count in itertools.product((1, 4, 20, 40), range(1, 5)):
        layer = dict.fromkeys(SITES[:count], Choice(rank, 64, 0.0, 0.1, 0.1, most=64))
        found = bases.of(layer)
        taken = 2 * (found["qkv"].steps or 0) + rank * sum(way.reuse for way in found.values())
        assert 2 * rank <= taken <= count * 2 * (rank + 5), (rank, count)


def test_the_least_number_that_fits() -> None:
    """Those after it may not fit, as more layers need not take less time."""
    for first in range(1, 40):
        assert first_that(lambda number, first=first: number >= first, 39) == first
    assert first_that(lambda number: number == 1, 39) == 1
    assert first_that(lambda number: 5 <= number <= 9, 30) == 5
    assert first_that(lambda number: False, 30) is None
    assert first_that(lambda number: number < 1, 1) is None and first_that(lambda number: True, 1) == 1


def evaluated(model: Path, config: Path, layers: str, text: Path, folder: Path) -> float:
    source, program, result = folder / "m.mlir", folder / "p.bin", folder / "r.json"
    assert main(["trace", str(model), "--seq-len=16", "-o", str(source)]) == 0
    options = [f"--decompose-layers={layers}", "--outliers=0", "--config", str(config), "-o", str(program)]
    assert main(["compile", str(source), *options]) == 0
    arguments = ["--model", str(model), "--task=perplexity", "--data", str(text), "--max-tokens=32"]
    assert main(["eval", str(program), *arguments, "--no-controls", "--json", str(result)]) == 0
    return json.loads(result.read_text())["models"]["program"]["perplexity"]["change"]


def test_layers_that_are_cheap_together_are_found() -> None:
    """3 and 4 cost most alone, of those of the pool, and least together; layer 5 is out of the pool."""
    alone = {0: 1.0, 1: 1.1, 2: 1.2, 3: 1.4, 4: 1.3, 5: 9.0}
    asked: list[tuple[int, ...]] = []

    def together(layers: Sequence[int]) -> float:
        asked.append(tuple(layers))
        return 0.0 if {0, 3} <= set(layers) else sum(alone[layer] for layer in layers)

    assert order_layers(alone, together, 4, pool=4) == [0, 3, 1, 2, 4, 5]
    assert len(asked) == runs_to_order(6, 4, pool=4) == 4 + 4 + 3
    assert order_layers(alone, lambda layers: None, 2) is None
    assert order_layers({7: 1.0}, together, 4) == [7]


def test_a_budget_of_runtime(model: Path, tables: list[Path], text: Path, tmp_path: Path, capsys: Any) -> None:
    """What is confirmed keeps it, by the command that estimates programs; what no candidate keeps is said."""
    output = tmp_path / "config.toml"
    command = ["search", str(model), "--calibration", *map(str, tables), "--text", str(text), "-o", str(output)]
    assert main([*command, "--runtime=0.001"]) == 1
    assert "0.1% of the runtime cannot be reached; " in capsys.readouterr().err
    host = Options(load_gpu("a100-80gb"), batch=16)
    found = search(model, tables, [text], output, Budget(runtime=3.0), host=host, confirm=2)
    source, program, stats = tmp_path / "m.mlir", tmp_path / "p.bin", tmp_path / "stats.json"
    assert main(["trace", str(model), "--seq-len=16", "-o", str(source)]) == 0
    layers = ",".join(map(str, found.confirmed[0].candidate.layers))
    options = [f"--decompose-layers={layers}", "--outliers=0", "--config", str(output), "-o", str(program)]
    assert main(["compile", str(source), *options]) == 0
    assert main(["estimate", str(program), "--batch=16", "--stats", str(stats)]) == 0
    variants = json.loads(stats.read_text())["variants"]
    share = variants["dcom"]["seconds"] / variants["dense"]["seconds"]
    assert found.confirmed[0].runtime == pytest.approx(share) and share <= 3.0


def test_the_file_compiles_to_what_was_confirmed(
    model: Path, tables: list[Path], text: Path, tmp_path: Path, capsys: Any
) -> None:
    output, plot = tmp_path / "config.toml", tmp_path / "front.svg"
    command = ["search", str(model), "--calibration", *map(str, tables), "--text", str(text), "--layers=2"]
    assert main([*command, "--confirm=3", "--plot", str(plot), "-o", str(output)]) == 0
    shown = capsys.readouterr()
    assert "3 candidates and the dense model to run on 32 tokens" in shown.err
    assert "<svg" in plot.read_text()
    first = output.read_text().splitlines()
    layers = first[2].partition("--decompose-layers=")[2].split()[0]
    ratio = float(first[0].partition(": ")[2].split()[0])
    assert len(layers.split(",")) == 2 and layers in shown.out
    assert evaluated(model, output, layers, text, tmp_path) == pytest.approx(ratio, abs=2e-4)
    assert not state_path(output).exists()


def test_an_interrupted_search_goes_on(
    model: Path, tables: list[Path], space: Space, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, made = tmp_path / "config.toml", Bench._forward
    runs: list[object] = []

    def counted(bench: Bench, variant: Any) -> Any:
        runs.append(variant)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return made(bench, variant)

    monkeypatch.setattr(Bench, "_forward", counted)
    arguments = (model, tables, [text], output, Budget(operations=0.8))
    with pytest.raises(KeyboardInterrupt):
        search(*arguments, confirm=3)
    assert state_path(output).exists() and not output.exists()
    found = search(*arguments, confirm=3)
    count = Candidates(space, [Calibration.read(tables[0])], Budget(operations=0.8), SITES).layers()
    assert 1 < count < 4
    once = (
        2 + runs_to_order(4, count) + 1 + len(found.confirmed)
    )  # a block of 8 has as many steps for either shared basis
    assert len(runs) == once + 1, "what was interrupted"
    assert all(each.candidate.operations <= 0.8 for each in found.confirmed)
    state_path(output).write_text("[]")
    with pytest.raises(DcomError, match="holds no results, or is damaged"):
        search(*arguments, confirm=3)
    assert search(*arguments, confirm=3, restart=True).confirmed[0].ratio == found.confirmed[0].ratio


def test_what_cannot_be_searched(model: Path, tables: list[Path], text: Path, tmp_path: Path) -> None:
    output = tmp_path / "config.toml"
    for budget, what in (
        (Budget(), "give one of layers, operations and runtime"),
        (Budget(layers=9), "9 layers cannot be decomposed"),
        (Budget(operations=1.5), r"operations 1\.5 is not between 0 and 1"),
        (Budget(runtime=0.0), "runtime 0 is not above 0"),
    ):
        with pytest.raises(DcomError, match=what):
            search(model, tables, [text], output, budget)
    short = tmp_path / "short.txt"
    short.write_text("w1 w2")
    with pytest.raises(DcomError, match="no text has the 16 tokens of a prompt"):
        search(model, tables, [short], output, Budget(layers=1))
    other = save_model(tmp_path / "other")
    with pytest.raises(DcomError, match=r"the calibration is of model at 16 tokens"):
        search(other, tables, [text], output, Budget(layers=1))
    deeper = tmp_path / "deeper.toml"
    deeper.write_text(tables[0].read_text().replace("[statistics.2.", "[statistics.12."))
    with pytest.raises(DcomError, match="the calibration has layer 12, and the model has layers 0 to"):
        search(model, [tables[0], deeper], [text], output, Budget(layers=1))
    bare = tmp_path / "bare.toml"
    bare.write_text("capacity_percent = 5.0\n")
    with pytest.raises(DcomError, match="is no calibration with sensitivities"):
        search(model, [bare], [text], output, Budget(layers=1))
    assert not output.exists()


def test_what_is_read_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, text = tmp_path / "table.toml", tmp_path / "text.svg"
    for file, options in (
        (table, ["-o", str(table)]),
        (text, ["-o", str(tmp_path / "found.toml"), "--plot", str(text)]),
    ):
        table.write_text("kept")
        text.write_text("kept")
        command = ["search", "tiny", "--calibration", str(table), "--text", str(text), "--layers=1", *options]
        assert main(command) == 1
        assert f"cannot write {file}: it is read, too" in capsys.readouterr().err
        assert file.read_text() == "kept"
