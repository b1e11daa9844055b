"""`dcomc reproduce`: verdicts, what is computed without long runs, and the report."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dcomc.cli import main
from dcomc.estimate import Run
from dcomc.reproduce import SECONDS, WHAT, reproduction
from dcomc.reproduce.claims import Claim, paper_claims, paper_table
from dcomc.reproduce.layer_runs import layer_runs
from dcomc.reproduce.tables import decomposition_claims, mean_memory_claim, weight_memory_claim
from dcomc.reproduce.workbench import Workbench


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (Claim("", 8.0, 9.0, 0.15), "reproduced"),
        (Claim("", 8.0, 9.3, 0.15), "not reproduced"),
        (Claim("", -59.0, -50.0, 0.2), "reproduced"),
        (Claim("", 8.0, None, 0.15), "not comparable"),
        (Claim("", None, 3.0), "not comparable"),
        (Claim("", None, 3.0, holds=True), "reproduced"),
        (Claim("", None, None, holds=False), "not reproduced"),
    ],
)
def test_verdicts_follow_from_values(claim: Claim, verdict: str) -> None:
    assert claim.verdict == verdict
    assert claim.to_json()["verdict"] == verdict


def test_everything_says_how_long_it_takes() -> None:
    assert list(SECONDS) == list(WHAT)


def test_a_range_says_whether_it_holds_the_papers_value() -> None:
    assert "other choices than ours, within the range, give" in Claim("", 8.0, 4.0, 0.1, 3.0, 9.0).reason
    assert "no choice within the range gives" in Claim("", 8.0, 4.0, 0.1, 3.0, 5.0, why="because").reason
    assert Claim("", 8.0, 8.0, 0.1, 3.0, 5.0).reason == ""


def test_the_papers_numbers_are_all_there() -> None:
    assert len(paper_table("table2")) == len(paper_table("table3")) == 13
    assert paper_claims()["claims"]["layer_speedup_vs_original"] == 3.8


def test_equations_equal_counts_of_the_ir() -> None:
    result = reproduction("equations")(Workbench())
    assert {claim.verdict for claim in result.claims} == {"reproduced"}
    assert {claim.what[:6].strip(" ,") for claim in result.claims} >= {"Eq. 8", "Eq. 9", "Eq. 10", "Eq. 11", "Eq. 12"}


def test_ratios_between_ranks_come_from_the_papers_table() -> None:
    claims, _ = decomposition_claims(Workbench(), "table2")
    ratios = {claim.what: claim for claim in claims}
    rank_20 = ratios["decomposition on the GPU, rank 20 over rank 1"]
    assert rank_20.paper == pytest.approx(10.6 / 3.5, rel=0.03)
    assert rank_20.ours is not None and rank_20.low is not None and rank_20.high is not None
    assert 1 < rank_20.low < rank_20.ours < rank_20.high
    assert ratios["decomposition on the GPU over that on D-com, rank 10"].paper == pytest.approx(7.9, rel=0.02)


def test_weights_in_factors_save_what_table_3_says() -> None:
    claim = weight_memory_claim(Workbench(), paper_table("table3")[1])
    assert claim.paper == 11.9 and claim.verdict == "reproduced"


def test_the_mean_of_the_memory_column_leaves_out_the_row_of_all_layers() -> None:
    rows = [Claim("layers 1 2", 10.0, 12.0), Claim("layers 3", 20.0, 22.0), Claim("layers all", 70.0, 90.0)]
    mean = mean_memory_claim(rows)
    assert (mean.paper, mean.ours) == (15.6, 17.0)
    assert "mean of 15.0" in mean.reason


def test_a_layer_has_one_decomposition_or_four() -> None:
    def decompositions(run: Run) -> int:
        return len({event.site for event in run.events if event.resource == "D-com"})

    bench = Workbench()
    one, four = (layer_runs(bench, 128, reading) for reading in ("one basis a layer", "four a layer"))
    assert (decompositions(one.dcom), decompositions(four.dcom)) == (1, 4)
    assert one.dense.seconds == four.dense.seconds
    assert one.dcom_decomposition < four.dcom_decomposition
    assert one.gpu.seconds > one.dense.seconds


def test_the_sweep_of_the_expansion_factor() -> None:
    """Every schedule is swept over all factors; what the paper's text says of small and large ones holds."""
    result = reproduction("figure12")(Workbench())
    best, gain, bounds = result.claims
    assert best.paper == 8 and best.low is not None and best.high is not None
    assert best.low <= 8 <= best.high, "the best factor depends on how partial sums are used"
    assert gain.ours is not None and 1 <= gain.ours < 1.1
    assert bounds.verdict == "reproduced"
    for plot in result.plots:
        assert len(plot.curves) == 4
        for curve in plot.curves:
            assert list(curve.x) == [2**n for n in range(9)]
            assert curve.y[8] == max(curve.y)


def test_the_report_has_claims_plots_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "figure3", "figure13", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "figure3" in out and "figure13" in out
    page = (tmp_path / "reproduction.md").read_text()
    assert "(reproduction/figure3-1.svg)" in page and "## figure13" in page
    assert ElementTree.parse(tmp_path / "reproduction" / "figure3-1.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "reproduction" / "figure3-1.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "reproduction" / "figure3.json").read_text())
    assert document["configuration"]["gpu"]["name"] == "a100-80gb" and len(document["hash"]) == 16
    share = document["claims"][0]
    assert share["low"] < share["ours"] < share["high"]
    # What was reproduced before stays in the report.
    assert main(["reproduce", "table3", "-o", str(tmp_path)]) == 0
    page = (tmp_path / "reproduction.md").read_text()
    assert page.index("## figure3") < page.index("## figure13") < page.index("## table3")


def test_the_projects_own_report_is_whole() -> None:
    folder = Path(__file__).parents[2] / "docs"
    page = (folder / "reproduction.md").read_text()
    documents = [json.loads(file.read_text()) for file in (folder / "reproduction").glob("*.json")]
    missing = set(WHAT) - {document["name"] for document in documents}
    said = page.partition("Not run for this report: ")[2].partition(".")[0]
    assert missing == set(said.split(", ")) - {""}
    for document in documents:
        assert f"## {document['name']}:" in page
        for plot in document["plots"]:
            assert (folder / "reproduction" / f"{plot['file']}.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure5"], "invalid choice: 'figure5'"),
        ([], "required: WHAT"),
        (["figure12", "-o", "nowhere"], "there is no folder nowhere"),
        (["figure3", "--gpu", "tpu"], "unknown gpu 'tpu'"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["reproduce", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
