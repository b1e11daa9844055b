"""The project as a whole: what the README says is there, files stay small, and light commands stay light."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dcomc.cli import COMMANDS
from dcomc.diagnostics import DcomError
from passes import UPSTREAM

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MADE = {"demo", "build", "Output", "__pycache__"}
HEAVY = {"torch", "transformers", "accelerate", "gguf"}
# These run a model; everything else works without torch.
MODEL_COMMANDS = {"trace", "run", "calibrate", "eval"}


def source_files() -> Iterator[Path]:
    """The project's own text files, without what is installed or made (hidden folders, outputs, caches)."""
    for folder, names, files in os.walk(ROOT):
        names[:] = [
            name
            for name in names
            if name not in MADE and not name.endswith(".egg-info") and (not name.startswith(".") or name == ".ci")
        ]
        for name in set(files) - {".git"}:  # a file in a worktree
            path = Path(folder) / name
            if b"\0" not in path.read_bytes()[:1024]:
                yield path


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))


def test_every_make_command_is_a_target() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
        assert named and named <= make_targets(), document
    assert {"demo", "test"} <= set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))


def test_continuous_integration_runs_the_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert "make test" in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)


def test_every_command_of_the_readme_exists() -> None:
    assert set(re.findall(r"`dcomc ([a-z]+)", README)) == set(COMMANDS)


def test_every_folder_of_the_map_exists_and_is_on_it() -> None:
    folders = re.findall(r"`([\w/]+)/`", README.partition("## Map")[2])
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder
    top = {path.relative_to(ROOT).parts[0] for path in source_files() if path.parent != ROOT} - {".ci"}
    assert top == {folder.split("/")[0] for folder in folders}


def test_every_link_leads_to_a_file() -> None:
    for path in source_files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\((?!\w+://)([^)#]+)", path.read_text(encoding="utf-8")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_no_file_is_longer_than_500_lines() -> None:
    """But for what is generated: lock files, and pages that have a part for each row of a table."""
    long = {
        str(path.relative_to(ROOT)): length
        for path in source_files()
        if path.suffix != ".lock"
        and (length := len((text := path.read_text(encoding="utf-8")).splitlines())) > 500
        and "Written by `python -m dcomc.reference`" not in text[:500]
    }
    assert not long


def test_no_file_names_a_machine_or_a_registry() -> None:
    """A path of somebody's machine or the host of a package registry would work there and nowhere else."""
    places = re.compile(
        r"(?<![\w.$}])/(?:home|root|work|opt|Users)/\w"
        r"|pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|deb\.debian|conda\.anaconda|download\.pytorch"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in source_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if places.search(line)
    ]
    assert not found


def test_no_check_is_switched_off() -> None:
    marks = re.compile(
        "|".join(["# type:" + " ignore", "# pyright:" + " ignore", "# no" + "qa", "except " + "Exception"])
    )
    found = [path.name for path in source_files() if path.suffix == ".py" and marks.search(path.read_text("utf-8"))]
    assert not found


def test_the_lock_is_exact_and_covers_what_is_declared() -> None:
    locked: dict[str, str] = {}
    for name in ("requirements.lock", "requirements-test.lock", "requirements-data.lock"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if requirement := line.split("#")[0].strip():
                package, version = requirement.split("==")
                assert locked.setdefault(package, version) == version, f"{name}: {package}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    for requirement in declared:
        package = re.split(r"[\[<>=!~]", requirement)[0]
        assert package in locked, requirement
        if "==" in requirement:
            assert locked[package] == requirement.split("==")[1]
    assert locked["torch"] == "2.13.0"


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_help_is_light() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dcomc", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "dcomc" in imported
    assert not imported & (HEAVY | {"numpy", "xdsl"})


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - MODEL_COMMANDS))
def test_a_command_without_a_model_is_light(name: str) -> None:
    assert not loaded_by(f"import dcomc.commands.{name}") & HEAVY


@pytest.mark.parametrize("name", sorted(MODEL_COMMANDS))
def test_help_of_a_command_with_a_model_is_light(name: str) -> None:
    """The options are listed at once; the libraries come when the work begins."""
    statement = (
        "from dcomc.cli import main\n"
        f"try:\n    main(['{name}', '--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0"
    )
    assert not loaded_by(statement) & HEAVY


def test_a_traced_model_needs_no_torch_any_more(tmp_path: Path) -> None:
    """Everything after `trace` works where torch and transformers cannot be imported at all."""
    subprocess.run(
        [sys.executable, "-m", "dcomc", "trace", "tiny", "--seq-len", "16", "-o", str(tmp_path / "tiny.mlir")],
        cwd=ROOT,
        check=True,
    )
    without = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(HEAVY)}))\n"
        "from dcomc.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for command in (
        "opt tiny.mlir -p dcom-decompose-activations{layers=1}",
        "compile tiny.mlir --decompose-layers=1 --rank 2 -o prog.bin",
        "inspect prog.bin",
        "disasm prog.bin",
        "sim prog.bin --timing-only",
        "sim prog.bin",
    ):
        result = subprocess.run(
            [sys.executable, "-c", without, *command.split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"


def script(name: str) -> ModuleType:
    """A script of the docs folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_session_replaces_the_one_before() -> None:
    paste = script("update_readme").paste
    first = paste("# a\n<!-- session:begin -->\nold\n<!-- session:end -->\nz\n", "$ one   \n1\n\n")
    assert first == "# a\n<!-- session:begin -->\n\n```console\n$ one\n1\n```\n\n<!-- session:end -->\nz\n"
    assert paste(first, "$ one\n1\n") == first


@pytest.mark.parametrize(
    "readme",
    [
        "none",
        "<!-- session:end -->\n<!-- session:begin -->\n",
        "<!-- session:begin -->\n<!-- session:begin -->\n<!-- session:end -->\n",
    ],
)
def test_a_readme_without_its_markers(readme: str) -> None:
    with pytest.raises(DcomError, match=r"README\.md has no place for the session"):
        script("update_readme").paste(readme, "$ one\n")


def test_the_goals_of_a_page() -> None:
    paste = script("update_readme").paste_goals
    readme = "a\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nz\n"
    page = "# x\n\n| goal | met |\n| --- | --- |\n| one | yes |\n\nmore\n\n| other |\n"
    table = "| goal | met |\n| --- | --- |\n| one | yes |"
    assert paste(readme, page, "quality") == f"a\n<!-- quality:begin -->\n\n{table}\n\n<!-- quality:end -->\nz\n"
    assert paste(paste(readme, page, "quality"), page, "quality") == paste(readme, page, "quality")
    with pytest.raises(DcomError, match=r"docs/quality\.md has no table of goals"):
        paste(readme, "# x\n", "quality")


@pytest.mark.parametrize("place", ["quality", "benchmarks"])
def test_the_readme_shows_the_goals_of_the_pages(place: str) -> None:
    page = (ROOT / "docs" / f"{place}.md").read_text(encoding="utf-8")
    assert script("update_readme").paste_goals(README, page, place) == README, "python docs/update_readme.py goals"


def test_the_page_of_benchmarks_is_that_of_their_outputs() -> None:
    """Each goal of each output stands in its table."""
    module = script("update_benchmarks")
    outputs = module.stored()
    assert set(outputs) == set(module.NAMES), "python docs/update_benchmarks.py runs those that are missing"
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == module.page(outputs)


def test_the_page_of_benchmarks_says_what_its_tables_show() -> None:
    """As the scripts' first lines do, but for how they are called."""
    about = script("update_benchmarks").about
    assert len(about("streams")) == 3 and about("streams")[0].startswith("Streams side by side against groups")
    ours = next(text for text in about("pass_scaling") if "are xDSL's passes; all other rows are ours" in text)
    assert all(f"`{name}`" in ours for name in UPSTREAM)
    assert not any("python benchmarks/" in text for name in script("update_benchmarks").NAMES for text in about(name))


def test_a_benchmark_that_is_not_there() -> None:
    """The nearest is named."""
    with pytest.raises(DcomError, match=r"there is no benchmark 'engin'.*did you mean 'engine'"):
        script("update_benchmarks").update(["engin"])


def test_the_readme_shows_the_demo() -> None:
    """The session in the README is that of demo.sh: the same commands in the same order."""
    commands = re.findall(r"^run (.+?)(?: 2>&1)?$", (ROOT / "demo.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 9
    session = README.partition("<!-- session:begin -->")[2].partition("<!-- session:end -->")[0]
    assert re.findall(r"^\$ (.+)$", session, re.MULTILINE) == commands
    shown = README.partition("<!-- excerpt:begin -->")[2].partition("<!-- excerpt:end -->")[0]
    lines = shown.replace("```console", "").replace("```", "").strip("\n")
    assert lines == script("update_readme").excerpt(session), "the lines at the top are those of the session"
    assert lines.count("\n") == 12
