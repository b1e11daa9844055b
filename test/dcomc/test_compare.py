"""`dcomc compare`: two programs or results side by side."""

import json
from pathlib import Path

import pytest

from dcomc.cli import main
from dcomc.differences import Difference, compare_files


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
    (line,) = capsys.readouterr().out.splitlines()
    count = line.rsplit("; ")[1].split()
    assert count[0] == count[2]


def test_only_what_differs_is_shown(programs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *map(str, programs), "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "options.rank" in printed
    assert "options.layers" not in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert all(each["first"] != each["second"] for each in written)
    assert {"name": "options.rank", "where": "", "first": 4, "second": 5, "ratio": 1.25} in written
    assert main(["compare", *map(str, programs), "--all"]) == 0
    assert "options.layers" in capsys.readouterr().out


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
