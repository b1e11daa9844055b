"""Errors on one line, and files that are written whole or not at all."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dcomc.diagnostics import (
    DcomError,
    atomic_write,
    check_output,
    counted,
    did_you_mean,
    readable,
    say_written,
    size,
    write_text,
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DcomError("no such layer"), "error: no such layer"),
        (DcomError("no such layer", hint="there are 30"), "error: no such layer; there are 30"),
        (DcomError("no such layer", place="a.mlir:3:7"), "a.mlir:3:7: error: no such layer"),
        (DcomError("two\n  lines", hint="and\tmore\n", place="a:1"), "a:1: error: two lines; and more"),
    ],
)
def test_error_is_one_line(error: DcomError, line: str) -> None:
    assert str(error) == line


def test_did_you_mean() -> None:
    assert did_you_mean("qvk", ["qkv", "down", "o"]) == "did you mean 'qkv'? known: down, o, qkv"
    assert did_you_mean("simulate", ["sim", "estimate"]).startswith("did you mean 'sim'?"), "what it begins with"
    assert did_you_mean("cal", ["calibrate", "compile"]).startswith("did you mean 'calibrate'?")
    assert did_you_mean("v", ["qkv", "down"], {"v": "qkv"}) == "did you mean 'qkv'? known: down, qkv"
    assert did_you_mean("zzz", iter(["b", "a"])) == "known: a, b"


def test_counts_and_sizes() -> None:
    assert [counted(n, "layer") for n in (0, 1, 1024)] == ["0 layers", "1 layer", "1,024 layers"]
    assert [counted(n, "matrix", "matrices") for n in (1, 2)] == ["1 matrix", "2 matrices"]
    assert [size(n) for n in (7, 64_000, 1_540_000_000)] == ["7 B", "64 kB", "1.5 GB"]


def test_what_is_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "page.html", "x" * 1234)
    say_written(tmp_path / "page.html")
    say_written(Path("/dev/null"))
    assert capsys.readouterr().err == f"wrote {tmp_path / 'page.html'}, 1.2 kB\n"


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "prog.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["prog.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_new(tmp_path: Path, error: type[BaseException]) -> None:
    old, new = tmp_path / "old.bin", tmp_path / "new.bin"
    old.write_bytes(b"old")
    for path in (old, new):
        with pytest.raises(error), atomic_write(path) as file:
            file.write(b"half")
            raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.bin"]
    assert old.read_bytes() == b"old"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "U·V\n")
    assert (tmp_path / "a.txt").read_bytes() == "U·V\n".encode()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DcomError, match=r"cannot write .*a\.txt: No such file or directory; give a file in a folder"):
        write_text(tmp_path / "none" / "a.txt", "a")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(DcomError, match=r"cannot write /dev/full: No space left on device; make room on the disk"):
        write_text(Path("/dev/full"), "a")
    (tmp_path / "a").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DcomError, match=r"cannot write .*a: File too large"):
            write_text(tmp_path / "a", "a" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a", "old")]


def test_names_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    write_text(tmp_path / ("a" * 255), "a")
    assert (tmp_path / ("a" * 255)).read_text() == "a"


def test_a_readable_name() -> None:
    assert readable("é.mlir") == "é.mlir"
    assert readable(os.fsdecode(b"t\xff.mlir")) == "t\\xff.mlir"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DcomError, match=r"cannot write .*out: it is a folder"):
        write_text(tmp_path / "out", "a")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_is_read_is_not_overwritten(tmp_path: Path) -> None:
    program, other = tmp_path / "prog.bin", tmp_path / "other.json"
    check_output(program, program, None)  # it is not there, so that nothing is lost
    program.write_bytes(b"a")
    other.symlink_to(program)
    check_output(tmp_path / "new.json", program)
    for path in (program, other):
        with pytest.raises(DcomError, match=r"cannot write .*: it is read, too; give another file"):
            check_output(path, None, str(program))


def test_a_link_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() == text


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "through the pipe")
    reader.join(timeout=10)
    assert received == ["through the pipe"]
    assert pipe.is_fifo()


def test_a_terminated_process_leaves_no_temporary_file(tmp_path: Path) -> None:
    """With two files open, one in the other; it ends as by the signal, which a shell tells as 143."""
    code = (
        "import sys, time; from pathlib import Path; from dcomc.diagnostics import atomic_write\n"
        "open_ = lambda name: atomic_write(Path(sys.argv[1]) / name)\n"
        "with open_('done') as file:\n    file.write(b'1')\n"
        "with open_('one') as one, open_('two') as two:\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_a_handler_of_the_program_stays(tmp_path: Path) -> None:
    """What a program that calls us does when it is terminated is its own."""
    for before in (signal.SIG_IGN, signal.SIG_DFL):
        old = signal.signal(signal.SIGTERM, before)
        try:
            with atomic_write(tmp_path / "file") as file:
                file.write(b"1")
                assert (signal.getsignal(signal.SIGTERM) is before) == (before is signal.SIG_IGN)
            assert signal.getsignal(signal.SIGTERM) is before
        finally:
            signal.signal(signal.SIGTERM, old)
