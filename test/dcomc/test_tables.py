"""Tables for people: one width, numbers whole, texts wrapped."""

import pytest

from dcomc.tables import duration, memory_size, number, print_table

ROWS = [("a text of many words that is wrapped where there is no room for it", "1,048,576", "1 to 2 ms", "no match")]
COLUMNS = ("claim", "count", "range", "verdict")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 70, 80])
def test_texts_wrap_where_columns_says(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS)
    lines = lines_of(capsys)
    assert max(map(len, lines)) <= width
    assert len(lines) > 4
    assert lines[0] == ""
    assert "1,048,576  1 to 2 ms  no match" in lines[3]
    assert " ".join(line.split("  ")[0].strip() for line in lines[3:]) == ROWS[0][0]


def test_captions_wrap_line_by_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table(("text",), [("word",)], caption="ratio: one number over another one\nrank: columns")
    assert lines_of(capsys)[-4:] == ["", "ratio: one number over another", "one", "rank: columns"]


def test_a_pipe_has_100_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(("text",), [("word " * 50,)])
    assert 95 <= max(map(len, lines_of(capsys))) <= 100


def test_numbers_are_never_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    numbers = [f"{number},234,567" for number in range(1, 10)]
    print_table(("name", *map(str, range(1, 10))), [("x" * 30, *numbers)], title="title", caption="caption")
    lines = lines_of(capsys)
    assert all(number in lines[4] for number in numbers)
    assert lines[0] == "title"
    assert lines[-2:] == ["", "caption"]
    assert "".join(line[:16].strip() for line in lines[4:-2]) == "x" * 30


def test_numbers_are_to_the_right_and_words_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("n", "m"), [("1", "7 links"), ("1,000", "12 links"), ("-", "")])
    assert lines_of(capsys)[3:] == ["    1  7 links", "1,000  12 links", "    -"]


def test_a_path_breaks_behind_its_slashes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "25")
    print_table(("n", "from"), [("1", "o_proj (transformers/models/llama/modeling_llama.py:269)")])
    assert lines_of(capsys)[3:] == [
        "1  o_proj (transformers/",
        "   models/llama/",
        "   modeling_llama.py:269)",
    ]


def test_an_empty_table_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert lines_of(capsys)[1].split() == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(279.5, "280"), (0.98, "0.98"), (1.0, "1"), (999.6, "1,000"), (12345.6, "12,346"), (-63.64, "-63.6"), (0, "0")],
)
def test_numbers_have_three_digits_and_no_zeros_at_the_end(value: float, text: str) -> None:
    assert number(value) == text


def test_times_and_memories_have_units_that_suit_them() -> None:
    times = (7.5e-9, 999.6e-6, 0.02, 1.25, 119, 150, 7199, 9000, 0)
    assert [duration(seconds) for seconds in times] == [
        *("7.5 ns", "1,000 us", "20 ms", "1.25 s", "119 s", "2.5 min", "120 min", "2.5 h", "-")
    ]
    sizes = (12, 2048, 3.5 * 2**20, 12.55 * 2**30)
    assert [memory_size(count) for count in sizes] == ["12 B", "2 KiB", "3.5 MiB", "12.6 GiB"]
