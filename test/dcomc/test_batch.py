"""`dcomc sim` of several programs: the numbers of each by itself, what is finished stays, and every mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dcomc.batch import jobs_of, run_jobs
from dcomc.cli import main
from dcomc.diagnostics import DcomError


@pytest.fixture(scope="module")
def programs(tiny_ir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each of three ranks."""
    folder = tmp_path_factory.mktemp("programs")
    paths = [folder / f"rank{rank}.bin" for rank in (2, 3, 4)]
    for rank, path in zip((2, 3, 4), paths, strict=True):
        options = ["--decompose-layers", "1", "--sites", "qkv", "--rank", str(rank)]
        assert main(["compile", str(tiny_ir), *options, "-o", str(path)]) == 0
    return paths


def command(programs: list[Path], folder: Path, *options: str) -> list[str]:
    return ["sim", *map(str, programs), "--stats", str(folder), *options]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_numbers_are_those_of_each_alone(
    programs: list[Path], jobs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "numbers"
    assert main(command(programs, folder, "--jobs", jobs, "--seed", "3")) == 0
    streams = capsys.readouterr()
    assert streams.err.splitlines()[0].startswith(f"3 programs, {jobs} at a time: about ")
    assert streams.out.count(" simulated") == 3
    assert sorted(path.name for path in folder.iterdir()) == ["rank2.json", "rank3.json", "rank4.json"]
    alone = tmp_path / "alone.json"
    assert main(["sim", str(programs[1]), "--seed", "3", "--stats", str(alone)]) == 0
    found = json.loads((folder / "rank3.json").read_text())
    assert found.pop("run")["seed"] == 3
    assert found == json.loads(alone.read_text())


def test_what_is_finished_is_not_run_again(
    programs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(programs[:2], tmp_path, "--timing-only")) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert main(command(programs, tmp_path, "--timing-only")) == 0
    streams = capsys.readouterr()
    assert streams.out.count(" kept") == 2 and streams.out.count(" simulated") == 1
    assert streams.err.startswith("1 program, ")
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert main(command(programs, tmp_path, "--timing-only")) == 0
    assert capsys.readouterr().err == ""
    assert main(command(programs, tmp_path, "--timing-only", "--seed", "1")) == 0
    assert capsys.readouterr().out.count(" simulated") == 3, "other options, other numbers"
    (tmp_path / "rank2.json").write_text('{"run": ')
    assert main(command(programs, tmp_path, "--timing-only", "--seed", "1")) == 0
    assert capsys.readouterr().out.count(" simulated") == 1, "half of a file"


def test_a_killed_run_leaves_whole_files(programs: list[Path], tmp_path: Path) -> None:
    line = [sys.executable, "-m", "dcomc", *command(programs, tmp_path)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        line, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("*.json")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert left and all(json.loads(text)["decompositions"] for text in left.values())
    done = subprocess.run([*line], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.count(" kept") == len(left)
    assert done.stdout.count(" simulated") == 3 - len(left)
    assert all(path.read_bytes() == text for path, text in left.items())


def test_a_program_that_fails_does_not_keep_the_others(
    programs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder stands where its numbers would go."""
    (tmp_path / "rank3.json").mkdir()
    assert main(command(programs, tmp_path, "--timing-only")) == 1
    streams = capsys.readouterr()
    assert f"{programs[1]}: error: cannot write {tmp_path / 'rank3.json'}: it is a folder" in streams.err
    assert streams.out.count(" simulated") == 2


def test_damaged_programs_do_not_keep_the_others(
    programs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of those whose numbers are there, too: nobody knows whether they are of what cannot be read."""
    gone = tmp_path / "gone.bin"
    damaged = tmp_path / "damaged.bin"
    gone.write_bytes(programs[0].read_bytes())
    assert main(command([gone, programs[1]], tmp_path / "numbers")) == 0
    gone.unlink()
    damaged.write_bytes(programs[0].read_bytes()[:1000])
    capsys.readouterr()
    assert main(command([gone, damaged, *programs], tmp_path / "numbers")) == 1
    streams = capsys.readouterr()
    assert f"{gone}: error: cannot read {gone}" in streams.err and f"{damaged}: error: " in streams.err
    assert "2 programs, 1 at a time: about " in streams.err
    assert (streams.out.count(" kept"), streams.out.count(" simulated")) == (1, 2)


def test_numbers_of_another_version_are_made_anew(
    programs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(programs[:2], tmp_path, "--timing-only")) == 0
    (job, _) = jobs_of(programs[:2], tmp_path, None, {"seed": 0, "timing_only": True, "errors": True})
    assert job.finished()
    monkeypatch.setattr("dcomc.batch.__version__", "1000")
    assert not job.finished()


class _Kills:
    """Ends the process that unpickles it, as the system does when memory is short."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_processes_end_with_the_one_that_started_them() -> None:
    """However that ends: nothing else would tell them."""
    program = (
        "import os, signal, sys\nfrom dcomc.batch import workers\n"
        "if __name__ == '__main__':\n    pool = workers(1)\n    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=120)
    worker = Path(f"/proc/{int(run.stdout)}")
    deadline = time.monotonic() + 60
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.returncode == -signal.SIGKILL and not worker.exists()


def test_a_killed_process_is_one_line(programs: list[Path], tmp_path: Path) -> None:
    jobs = jobs_of(programs[:1], tmp_path, None, {"seed": _Kills()})
    with pytest.raises(DcomError, match=r"a process was killed; .* fewer --jobs"):
        list(run_jobs(jobs, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{0}", "{1}"], "several programs leave a file of numbers each; give a folder for them: --stats FOLDER"),
        (["{0}", "{1}", "--stats", "{folder}", "--trace", "x"], "--trace is of one program"),
        (["{0}", "{0}"], "rank2.bin is given twice; give each program once"),
        (["{0}", "{namesake}", "--stats", "{folder}"], "would both write"),
        (["{0}", "{1}", "--stats", "{folder}", "--input", "missing.npy"], "cannot read missing.npy: No such file"),
        (["{0}", "{1}", "--stats", "{0}"], "cannot make the folder"),
        (["{0}", "{1}", "--stats", "{folder}", "--jobs", "0"], "'0' is no number from 1 to 1024"),
    ],
)
def test_mistakes(
    programs: list[Path], options: list[str], message: str, tmp_path: Path, mistake: Callable[..., str]
) -> None:
    new, namesake = tmp_path / "new", tmp_path / "other" / programs[0].name
    assert message in mistake("sim", *(option.format(*programs, folder=new, namesake=namesake) for option in options))
    assert not new.exists(), "what fails leaves no folder"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--machine", "edge-4x4"], "error: the program is for machine dcom-16x16"),
        (["--memory-limit", "1MB"], "but the limit is 1.0 MB"),
        (["--max-instructions", "2"], "issue"),
    ],
)
def test_a_program_that_is_refused_is_one_line(
    programs: list[Path], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(programs[:2], tmp_path / "new", *options)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(message in line for line in lines)
    assert [line.startswith(f"{program}: ") for line, program in zip(lines, programs, strict=False)] == [True, True]
