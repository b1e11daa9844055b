"""`dcomc doctor`: what it finds, and the description of this processor that it measures."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_layer import llama_layer

import dcomc
from dcomc import doctor
from dcomc.cli import main
from dcomc.doctor import PACKAGES, TOOLS, packages, tools
from runtime.gpu import load_gpu

ROOT = Path(__file__).resolve().parents[2]


def test_packages_are_those_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra in wanted.keys() - {"test", "dev"}:
        named = {re.split(r"[=<>\[]", requirement)[0] for requirement in wanted[extra]}
        assert named == {name for name, (of, _) in PACKAGES.items() if of == extra}


def test_it_reports_versions_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for what in ("processor", "numba's cache", "torch's threads", *PACKAGES, *TOOLS):
        assert re.search(rf"^{what} +\S", out, re.MULTILINE), what
    assert f"dcomc  {dcomc.__version__}" in re.sub(" {3,}", "  ", out)


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fpu avx512_bf16 amx_bf16 amx_tile", "A Processor with AMX"), ("fpu avx512_bf16", "A Processor")],
)
def test_the_name_of_a_processor(flags: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of its first core."""
    info = tmp_path / "cpuinfo"
    info.write_text(
        "".join(f"processor\t: {core}\nmodel name\t: A Processor\nflags\t\t: {flags}\n\n" for core in (0, 1))
    )
    monkeypatch.setattr(doctor, "CPUINFO", info)
    assert doctor.processor() == name


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcomc.doctor.PACKAGES", {"no-such-package": ("figures", "nothing")})
    (missing,) = packages()
    assert (missing.found, missing.good) == ("missing: `pip install dcomc[figures]`", True)


def test_a_chromium_has_several_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {tool.found for tool in tools()} == {"not on the path"}
    for name in ("chromium-headless-shell", "mlir-opt-19"):
        (tmp_path / name).touch(0o755)
    assert {tool.what for tool in tools() if tool.found == "on the path"} == {"Chromium", "mlir-opt"}


def test_what_it_measures_is_a_host_of_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    assert main(["doctor", "--measure", "-o", str(file)]) == 0
    cpu = load_gpu(str(file))
    assert cpu.name == "mine" and cpu.flops_per_second.single > 1e8
    assert 0 < cpu.stream.efficiency.low <= cpu.stream.efficiency.high <= 1
    assert 1e-8 < cpu.launch.eager_seconds.low < 1e-3
    program = tmp_path / "p.bin"
    dcomc.compile(llama_layer(128, layers=2), [1], rank=4).save(program)
    assert main(["estimate", str(program), "--gpu", str(file)]) == 0
    assert f"1 x mine ({cpu.hash})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "cpu.toml"], "-o is for --measure"),
        (["--measure", "-o", "nowhere/cpu.toml"], "cannot write nowhere/cpu.toml"),
    ],
)
def test_mistakes_are_one_line(mistake: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in mistake("doctor", *arguments)
