"""`dcomc reproduce quality`: on a tiny model against plain evaluation, in several runs; and its quick form, whole."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import save_model, words

import dcomc
from dcomc.cli import main
from dcomc.commands.reproduce import QUALITY_TIME
from dcomc.diagnostics import DcomError
from dcomc.evaluation.bench import DENSE, Bench, Results, Variant
from dcomc.evaluation.questions import Question
from dcomc.pipeline import Decomposition
from dcomc.quality.cells import ABSENT, shown
from dcomc.quality.choosing import order_of_layers
from dcomc.quality.goals import GOALS
from dcomc.quality.lab import QUICK, Lab, Settings, low_rank
from dcomc.quality.moving import UNIFORM, Way, least
from dcomc.quality.report import reproduce, scaled
from dcomc.quality.techniques import BASE, techniques
from dialects.dcom import SITES, DecomposeOp

SMALL: dict[str, Any] = {"seq_len": 64, "ranks": (1, 10), "lists": 2, "questions": 6, "pool": 3, "moved_ranks": (8,)}
SETTINGS = Settings(**{**vars(QUICK), **SMALL})
FILES = ("README.md", "CHANGELOG.md")
QUESTIONS = [
    Question(f"Question: {words(4, seed)}\nAnswer:", (words(1, seed), words(2, seed + 50)), seed % 2)
    for seed in range(9)
]


def make_lab(model: Path, path: Path | None = None) -> Lab:
    texts = [words(70, seed) for seed in range(6)]
    return Lab(SETTINGS, Results(path), str(model), texts=lambda: texts, arc=lambda: QUESTIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("quality") / "model")


def test_layers_of_the_paper_at_the_same_depths() -> None:
    assert scaled("10 15 20 25", 32) == [10, 15, 20, 25]
    assert scaled("10 15 20 25", 30) == [9, 14, 19, 23]
    assert scaled("all", 3) == [0, 1, 2]
    assert scaled("10 15 20 25", 4) == [1, 2]


def test_ratios_as_cells() -> None:
    assert shown(None) == ABSENT
    assert shown((1.2344, (1.2, 1.266))) == "1.234 [1.20, 1.27]"
    assert shown((1234.5678, (1, 2))) == "1,234.57"
    assert shown((999_999.5, None)) == "999,999.50"
    assert shown((2.641e53, None)) == shown((1e6 + 1, (1, 2))) == "broken"


def test_what_results_are_kept_by(tmp_path: Path) -> None:
    """A new option of the compiler must not make all results of before unknown, unless they depend on it."""
    config = tmp_path / "config.toml"
    config.write_text("rank = 3\n")
    kept = Variant(Decomposition((1,), config=str(config))).to_json()["options"]
    assert " ".join(sorted(kept)) == (
        "block config energy exact_rows gram_schmidt iterations layers mapping outliers rank reorthogonalisation reuse "
        "seed sites start weights"
    )
    assert kept["config"] == "rank = 3\n"


def test_the_page_is_made_in_several_runs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without time nothing is run and all is said to be missing; then all of it; then nothing is run again."""
    page, missing = reproduce(tmp_path, SETTINGS, minutes=0, lab=make_lab(model))
    assert missing > 0 and f"{missing} runs or more are missing" in page.read_text() and "not run" in page.read_text()
    page, missing = reproduce(tmp_path, SETTINGS, lab=make_lab(model))
    text = page.read_text()
    assert missing == 0 and "not run" not in text and (tmp_path / "quality" / "outliers.svg").exists()

    def never(bench: Bench, variant: Any) -> Any:
        raise AssertionError(variant)

    monkeypatch.setattr(Bench, "_forward", never)
    assert reproduce(tmp_path, SETTINGS, minutes=0, lab=make_lab(model)) == (page, 0)
    assert page.read_text() == text
    lab = make_lab(model, tmp_path / "quality" / "results.json")
    ratio = lab.evaluated.ratio(low_rank([1, 2], rank=10))
    row = next(line for line in text.splitlines() if line.startswith("| 1, 2 | 10 |"))
    assert float(re.split(r"[|\[]", row)[4]) == pytest.approx(ratio, abs=6e-4)
    assert compile_moved(model, tmp_path) == 16
    check_summary(text)
    (dense,) = {float(found) for found in re.findall(r"The dense model's is ([\d.]+)\.", text)}
    guess = int(lab.model.config()["vocab_size"]) / dense
    assert text.count(f" tokens the same probability has a ratio of {guess:,.0f}: ") == 2
    best = re.search(r"with those four layers on those articles: (.*?); and the same", text)
    variants = techniques(lab, range(4), tuple(SITES))
    base = lab.kept(variants[BASE])
    row = next(line for line in text.splitlines() if line.startswith("| ranks and blocks moved"))
    assert float(row.split("|")[5].strip(" %")) <= round(100 * base.products, 1)
    assert best is not None and lab.kept(variants[best[1]]).products <= base.products
    cheap = [each for each in variants.values() if lab.kept(each).matvecs <= base.matvecs and each.options is not None]
    assert lab.choosing.loss(variants[best[1]]) == min(
        lab.choosing.loss(each) for each in cheap if lab.kept(each).products <= base.products
    )
    assert lab.kept(variants["one basis a layer, the first site's"]).matvecs == (2 * 15 + 3 * 10) / 4
    assert lab.evaluated.missing(DENSE) == 0
    monkeypatch.setattr("dcomc.evaluation.bench.__version__", "1000")
    assert lab.evaluated.missing(DENSE) > 0, "results of another version are not taken"


def check_summary(text: str) -> None:
    """The first table has the ratios of the one below it, a goal a row, bold where that one says that they are met."""
    for goal in GOALS:
        lines = (line for line in text.splitlines() if line.startswith(f"| {goal.what} |"))
        short, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
        ratios = {row[2]: (row[4].split(" ")[0], row[7]) for row in rows}
        marked = {name: f"**{value}**" if met == "yes" else value for name, (value, met) in ratios.items()}
        assert short[1:] == [str(goal.limit), *(marked[name] for name in ("prompt", "64", "best", "48", "32"))]


def compile_moved(model: Path, folder: Path) -> int:
    """Decompositions of a program that takes the ranks and blocks that the page gives."""
    options = Decomposition((0, 1, 2, 3), outliers=3.0, block=64, config=str(folder / "quality" / "moved.toml"))
    module = dcomc.lower(dcomc.trace(model, SETTINGS.seq_len), options, level="dcom")
    return sum(isinstance(op, DecomposeOp) for op in module.walk())


def test_the_least_cost_within_two_limits() -> None:
    """Against all choices; a price finds the best of the products that it leaves."""
    random = np.random.default_rng(0)
    places = [(layer, site) for layer in range(2) for site in ("qkv", "o")]
    ways = [Way(rank, block) for rank in (5, 10, 15) for block in (48, 64, 96)]
    for _ in range(5):
        costs = {place: {way: float(random.normal()) for way in ways} for place in places}
        left = {place: {way: way.rank / way.block for way in ways} for place in places}
        steps, most = 15 * len(places), 10 / 64 * len(places)
        found = least(costs, left, steps, most)
        products = sum(left[place][way] for place, way in found.items())
        assert set(found) == set(places) and products <= most + 1e-9
        assert sum(way.steps for way in found.values()) <= steps
        others = (dict(zip(places, chosen, strict=True)) for chosen in itertools.product(ways, repeat=len(places)))
        assert sum(costs[place][way] for place, way in found.items()) <= 1e-9 + min(
            sum(costs[place][way] for place, way in other.items())
            for other in others
            if sum(way.steps for way in other.values()) <= steps
            and sum(left[place][way] for place, way in other.items()) <= products
        )
    dear = {place: {way: float(way != UNIFORM) for way in ways} for place in places}
    assert least(dear, left, steps, most) == dict.fromkeys(places, UNIFORM)


def test_layers_are_chosen_beside_those_before_them(model: Path) -> None:
    lab = make_lab(model)
    order = order_of_layers(lab, 3)
    assert order is not None and len(set(order)) == 3

    def loss(*layers: int) -> float:
        return lab.choosing.loss(low_rank(layers, rank=10, block=64))

    assert order[0] == min(range(4), key=loss)
    others = [layer for layer in range(4) if layer != order[0]]
    assert order[1] == min(others, key=lambda layer: loss(order[0], layer))


def test_what_cannot_be_reproduced(model: Path, tmp_path: Path, capsys: Any) -> None:
    lab = make_lab(model)
    lab.texts = lambda: ["w1 w2"]
    with pytest.raises(DcomError, match="no text has 64 tokens"):
        reproduce(tmp_path, SETTINGS, lab=lab)
    for command, what in (
        (["quality", "figure3", "-o", str(tmp_path)], "quality is reproduced alone"),
        (["quality"], "quality needs a folder for its results"),
        (["quality", "-o", str(tmp_path / "none")], "there is no folder"),
        (["quality", "-o", str(tmp_path), "--minutes=-1"], "minutes -1 is below 0"),
    ):
        assert main(["reproduce", *command]) == 1
        assert what in capsys.readouterr().err
    (tmp_path / "quality" / "results.json").write_text("{")
    assert main(["reproduce", "quality", "-o", str(tmp_path), "--quick"]) == 1
    assert "holds no results, or is damaged" in capsys.readouterr().err


def test_without_matplotlib_nothing_is_run(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the page nor for the plot of a search, whose files would be missing otherwise."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(DcomError, match="cannot import matplotlib, which a plot needs"):
        reproduce(tmp_path, SETTINGS, lab=make_lab(model))
    assert not list(tmp_path.iterdir())
    missing = [str(model), "--calibration=no.toml", "--text=no.txt", "--layers=1", "-o", str(tmp_path / "found.toml")]
    assert main(["search", *missing, "--plot", str(tmp_path / "front.svg")]) == 1
    assert "which a plot needs" in capsys.readouterr().err
    assert main(["search", *missing]) == 1
    assert "no.toml" in capsys.readouterr().err


def test_each_run_is_said_when_it_is_done(model: Path, tmp_path: Path, capsys: Any) -> None:
    lab = make_lab(model)
    lines: list[str] = []
    lab.say = lines.append
    runs = [lab.evaluated, lab.evaluated, lab.choosing]
    assert all(lab.scores(bench) for bench in runs)
    assert [re.sub(r"\d+ s$", "N s", line) for line in lines] == [
        f"dense, {bench.prompts} prompt{'s' * (bench.prompts > 1)} of 64 tokens: N s" for bench in runs[1:]
    ]
    assert main(["reproduce", "quality", "--quick", "--minutes=0", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().err.startswith("under 10 minutes on 2 processors, less what ")


@pytest.mark.slow
def test_the_quick_form_is_whole(tmp_path: Path, capsys: Any) -> None:
    """On real weights; under 10 minutes on 2 processors."""
    assert main(["reproduce", "quality", "--quick", "-o", str(tmp_path)]) == 0
    text = (tmp_path / "quality.md").read_text()
    assert "not run" not in text and "missing" not in capsys.readouterr().out
    dense = re.search(r"dense model's is (\d+\.\d+)", text)
    assert dense is not None and 10 < float(dense[1]) < 40
    ratios = {
        goal: float(line.split("|")[5].split("[")[0])
        for line in text.splitlines()
        if line.startswith("| four layers, a")
        and line.endswith(("yes |", "no |"))
        and (goal := line.split("|")[1].strip() + line.split("|")[3])
    }
    assert (
        ratios["four layers, all sites 32 "]
        < ratios["four layers, all sites 64 "]
        < ratios["four layers, all sites prompt "]
    )


def test_how_long_it_takes_is_the_same_everywhere(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    texts = [capsys.readouterr().out, *(Path(__file__).parents[2].joinpath(f).read_text() for f in FILES)]
    for text in texts:
        assert QUALITY_TIME in " ".join(text.split())
