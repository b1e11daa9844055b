"""`dcomc compare`: two programs or results side by side."""

import json
import re
from pathlib import Path

import pytest

from dcomc.cli import main
from dcomc.differences import Difference, compare_files, in_words


@pytest.fixture(scope="module")
def programs(tiny_ir: Path, tiny_program: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two programs: the same layers, rank 4 and rank 5 of as many iterations."""
    other = tmp_path_factory.mktemp("other") / "other.bin"
    options = ["--decompose-layers=1-2", "--rank=5", "--iterations=6"]
    assert main(["compile", str(tiny_ir), *options, "-o", str(other)]) == 0
    return tiny_program, other


def test_programs(programs: tuple[Path, Path]):
    found = {(each.name, each.where): each for each in compare_files(*programs)}
    assert found["options.rank", ""] == Difference("options.rank", "", 4, 5)
    assert found["options.rank", ""].ratio == 1.25
    assert found["rank", "qkv, o, gate_up, down of 1-2"].ratio == 1.25
    assert found["total_cycles", ""].ratio == 1
    assert found["machine.hash", ""].ratio is None


def test_the_same_program_twice(programs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(programs[0]), str(programs[0])]) == 0
    *files, line = capsys.readouterr().out.splitlines()
    assert files == [f"A: {programs[0]}", f"B: {programs[0]}"]
    count = line.split()
    assert count[0] == count[2]
    assert line.endswith("values of both are equal")


def test_a_program_and_its_own_numbers(
    programs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one of them cannot know is no difference."""
    assert main(["sim", str(programs[0]), "--stats", str(tmp_path / "stats.json")]) == 0
    capsys.readouterr()
    assert main(["compare", str(programs[0]), str(tmp_path / "stats.json")]) == 0
    equal, first, second = capsys.readouterr().out.splitlines()[2:]
    count = equal.split()
    assert count[0] == count[2]
    assert first.endswith("values of A alone: SHA-256, bytes, machine, kernels")
    assert "; error, least error at the rank (" in second and "clock_hz" not in second


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("options.model.seq_len", "option: model: tokens a prompt"),
        ("options.exact_rows", "option: exact rows"),
        ("causes.result of row links", "cycles: result of row links"),
        ("variants.gpu.seconds", "decomposed on a GPU: time"),
        ("variants.dcom.busy.D-com link", "decomposed with D-com: busy: D-com link"),
        ("variants", "times"),
        ("memory.dcom.kv_cache", "memory: decomposed with D-com: KV cache"),
        ("gpu.name", "GPU: name"),
        ("optimal_error", "least error at the rank"),
    ],
)
def test_names_are_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_times_have_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("a.json", 0.25), ("b.json", 0.0005)):
        (tmp_path / name).write_text(json.dumps({"seconds": seconds, "share": seconds}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    cells = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = {row[0]: [cell.strip() for cell in row if cell.strip()] for row in cells}
    assert rows["time"] == ["time", "250 ms", "500 us", "0.002"]
    assert rows["share"] == ["share", "0.25", "0.0005", "0.002"]


def test_busy_shares_are_percentages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, share in (("a.json", 0.17687), ("b.json", 1.0)):
        (tmp_path / name).write_text(json.dumps({"array_busy": share}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert ["arrays", "busy", "17.7%", "100%", "5.654"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_whole_numbers_are_written_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cycles by cause are the mean of streams, and so a float where there are several."""
    for name, causes in (("a.json", {"issue": 4059}), ("b.json", {"issue": 4171.0, "ended": 144.5, "drain": 2.0})):
        document = {"decompositions": [{"layer": 1, "site": "qkv", "cycles": 9000, "seconds": 1.0, "causes": causes}]}
        (tmp_path / name).write_text(json.dumps(document))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--all"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cycles:", "issue", "qkv", "of", "1", "4,059", "4,171", "1.028"] in rows
    assert ["time", "qkv", "of", "1", "1", "s", "1", "s", "1"] in rows
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "2 values of B alone: cycles: ended, cycles: drain (qkv of 1)"


def test_values_are_written_as_other_commands_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unset ones and lists as `dcomc inspect`, memory as `dcomc estimate`; a dash is what one file has not."""
    monkeypatch.setenv("COLUMNS", "160")
    options = ({"energy": None, "reuse": [], "sites": ["qkv", "o"]}, {"energy": 0.9, "reuse": ["o"], "sites": ["o"]})
    sizes = ({"weights": 3 * 2**29, "total": 2**31}, {"weights": 3 * 2**28, "total": 2**31 + 1})
    for name, option, size in zip(("a.json", "b.json"), options, sizes, strict=True):
        (tmp_path / name).write_text(json.dumps({"options": option, "memory": {"dcom": size}, f"only {name[0]}": None}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--all"]) == 0
    rows = [re.split("  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row[0].startswith("option")] == [
        ["option: energy", "none", "0.9"],
        ["option: reuse", "none", "o"],
        ["option: sites", "qkv, o", "o"],
    ]
    memory = "memory: decomposed with D-com"
    assert [f"{memory}: weights", "1.5 GiB", "768 MiB", "0.5"] in rows
    assert [f"{memory}: total", "2,147,483,648", "2,147,483,649", "1"] in rows, "which differ in less than three digits"
    assert ["only a", "none", "-"] in rows and ["only b", "-", "none"] in rows


def test_whole_numbers_beside_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is what it is, be the other of another kind, infinite, or no number."""
    values = [("1", "1.5"), ("2", "2.0"), ("null", "Infinity"), ("3", "NaN"), ("1000000001", "1000000001.5")]
    for place, name in enumerate(("a.json", "b.json")):
        text = ", ".join(f'"v{number}": {pair[place]}' for number, pair in enumerate(values))
        (tmp_path / name).write_text(f"{{{text}}}")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--all"]) == 0
    rows = {
        row[0]: row[1:3] for row in (re.split("  +", line.strip()) for line in capsys.readouterr().out.splitlines())
    }
    assert [rows[f"v{number}"] for number in range(4)] == [["1", "1.5"], ["2", "2"], ["none", "inf"], ["3", "nan"]]
    assert rows["v4"] == ["1,000,000,001", "1e+09"]


def test_numbers_beyond_all_digits_are_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as the perplexity of a model that is broken, which is whole, as every float of that size."""
    for name, perplexity in (("a.json", 1e30), ("b.json", 2e30)):
        (tmp_path / name).write_text(json.dumps({"perplexity": perplexity}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert ["perplexity", "1e+30", "2e+30", "2"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_long_values_are_shown_from_where_they_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, middle in (("a.json", 5), ("b.json", 777)):
        layers = [[0, 260046848], [14, middle], [29, 1658240]]
        (tmp_path / name).write_text(
            json.dumps({"layers": layers, "source": f"one-model-{middle}-of-a-long-name.mlir"})
        )
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    rows = [re.split("  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["layers", "…14, 5], [29, 16582…", "…14, 777], [29, 165…"] in rows
    assert ["source", "…del-5-of-a-long-na…", "…del-777-of-a-long-…"] in rows


@pytest.mark.parametrize(
    ("second", "last"), [(1, "1 of 1 value of both is equal"), (2, "0 of 1 value of both is equal")]
)
def test_one_value_is_said_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], second: int, last: str) -> None:
    for name, seed in (("a.json", 1), ("b.json", second)):
        (tmp_path / name).write_text(json.dumps({"seed": seed}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_decomposition_that_one_alone_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [{"layer": layer, "site": "qkv", "cycles": 10, "rank": 4} for layer in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps({"decompositions": entries[:1]}))
    (tmp_path / "b.json").write_text(json.dumps({"decompositions": entries, "seed": 0}))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    equal, alone = capsys.readouterr().out.splitlines()[2:]
    assert equal == "2 of 2 values of both are equal"
    assert alone == "2 values of B alone: seed; present (qkv of 2)"


def test_only_what_differs_is_shown(programs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *map(str, programs), "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "option: rank" in printed
    assert "option: layers" not in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert all(each["first"] != each["second"] for each in written)
    rank = {"name": "options.rank", "where": "", "first": 4, "second": 5, "only_in": None, "ratio": 1.25}
    assert rank in written
    assert main(["compare", *map(str, programs), "--all"]) == 0
    assert "option: layers" in capsys.readouterr().out


def test_results_go_by_layer_site_and_name(tmp_path: Path):
    def result(cycles: int, error: float) -> str:
        entries = [{"layer": n, "site": site, "cycles": cycles} for n in (1, 2, 3, 7) for site in ("qkv", "o")]
        return json.dumps(
            {"decompositions": [*entries, {"layer": 9, "site": "o", "cycles": 1}], "error": error, "x": [1]}
        )

    (tmp_path / "a.json").write_text(result(100, 0.5))
    (tmp_path / "b.json").write_text(result(50, 0.25))
    assert compare_files(tmp_path / "a.json", tmp_path / "b.json") == [
        Difference("cycles", "qkv, o of 1-3, 7", 100, 50),
        Difference("cycles", "o of 9", 1, 1),
        Difference("error", "", 0.5, 0.25),
        Difference("x", "", [1], [1]),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no JSON; give two programs"), ("[1]", "no JSON object"), ('{"a": 1}', "nothing in common")],
)
def test_mistakes(
    programs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
):
    (tmp_path / "other.json").write_text(text)
    assert main(["compare", str(programs[0]), str(tmp_path / "other.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert main(["compare", str(programs[0]), str(tmp_path / "none.json")]) == 1
