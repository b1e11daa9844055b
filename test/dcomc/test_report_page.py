"""The page of `dcomc report` in a browser: clicked through, by keyboard, on a phone, and in the dark."""

import json
import re
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import open_browser
from playwright.sync_api import Browser, Page, expect

from dcomc.cli import main

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
LOAD_SECONDS = 2.0


@pytest.fixture(scope="module")
def page_file(tiny_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small program, with its stages, the errors of its factors, estimated times and a perplexity."""
    folder = tmp_path_factory.mktemp("report")
    stages, stats, page = str(tiny_program.parent / "stages"), str(folder / "stats.json"), str(folder / "page.html")
    assert main(["sim", str(tiny_program), "--stats", stats]) == 0
    times, run = str(folder / "estimate.json"), folder / "run.json"
    assert main(["estimate", str(tiny_program), "--stats", times]) == 0
    scores = {"perplexity": 30.0, "ratio": 1.5}
    run.write_text(json.dumps({"dense_perplexity": 20.0, **scores, "tokens": 512, "controls": {}}))
    results = [argument for file in (stats, times, str(run)) for argument in ("--result", file)]
    assert main(["report", str(tiny_program), "-o", page, "--stages", stages, *results]) == 0
    return Path(page)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with open_browser() as opened:
        yield opened


class Opened:
    """A page that is open, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or self.complaints.append(request.url))

    def choose(self, side: int, stage: str) -> None:
        """Show a stage in the left (0) or the right pane (1)."""
        select = self.page.locator(".pane select").nth(side)
        label = next(text for text in select.locator("option").all_inner_texts() if stage in text)
        select.select_option(label=label)

    def lines(self, side: int, kind: str = "") -> list[str]:
        """The lines of a pane, all or those of a class."""
        return self.page.locator(".code").nth(side).locator(f"[role=option]{kind} > span:last-child").all_inner_texts()


def opened(browser: Browser, file: Path, tmp_path: Path, **options: object) -> Generator[Opened]:
    context = browser.new_context(**{"viewport": DESK, **options})
    page = Opened(context.new_page())
    page.page.goto(file.as_uri())
    expect(page.page.locator("#events canvas")).to_be_visible()
    yield page
    page.page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    context.close()
    assert page.complaints == []


@pytest.fixture
def desk(browser: Browser, page_file: Path, tmp_path: Path) -> Generator[Opened]:
    yield from opened(browser, page_file, tmp_path)


@pytest.fixture
def phone(browser: Browser, page_file: Path, tmp_path: Path) -> Generator[Opened]:
    yield from opened(browser, page_file, tmp_path, viewport=PHONE, has_touch=True, is_mobile=True)


@pytest.fixture
def night(browser: Browser, page_file: Path, tmp_path: Path) -> Generator[Opened]:
    yield from opened(browser, page_file, tmp_path, color_scheme="dark")


def test_the_first_sentence_says_what_is_decomposed_at_what_cost_and_gain(desk: Opened):
    page = desk.page
    said = page.locator("#summary").inner_text()
    assert re.fullmatch(
        r"In 2 of 4 layers activations are decomposed at run time, to rank 4: their products take [\d.]+ times fewer "
        r"operations, and finding the factors takes [\d.]+ µs on D-com; by estimate the model on 1 × a100-80gb, with "
        r"\d+ prompts?, takes [\d.]+ times the dense time; perplexity is 1.5 times the dense model’s\.",
        said,
    ), said
    assert page.locator("#summary strong").count() == 5
    expect(page.locator("#times svg")).to_be_visible()
    page.locator("#times summary").click()
    assert page.locator("#times tbody tr").count() == 3


def test_an_operation_is_followed_to_instructions_and_back_to_python(desk: Opened):
    page = desk.page
    desk.choose(0, "00-input")
    desk.choose(1, "lower-cluster-to-isa")
    page.locator(".code").nth(0).get_by_text('dcom.role = "q_proj"').click()
    instructions = desk.lines(1, ".related")
    assert any("isa.mv.row" in line for line in instructions)
    desk.choose(0, "Python")
    python = desk.lines(0, ".related")
    assert len(python) == 1
    assert "self.q_proj(hidden_states)" in python[0]
    trail = page.locator("#trail li")
    assert trail.count() == page.locator("#strip li").count()
    expect(trail.last).to_contain_text("cycles a run")

    page.locator(".code").nth(1).get_by_text("isa.mv.col").first.click()
    assert "z = A^T u" in page.locator("#trail h3").inner_text()
    related = desk.lines(1, ".related")
    assert related
    assert len(related) < len(instructions) / 4
    assert any("self.q_proj(hidden_states)" in line for line in desk.lines(0, ".related"))
    desk.choose(0, "cluster-schedule")
    assert "cluster.matvec_transposed" in " ".join(desk.lines(0, ".related"))


def test_what_the_host_runs_is_said_to_have_no_instructions(desk: Opened):
    desk.choose(0, "00-input")
    says = desk.page.locator("#trail", has_text="No instruction comes of it")
    desk.page.locator(".code").nth(0).get_by_text("math.rsqrt").first.click()
    expect(says).to_be_visible()
    desk.page.locator(".code").nth(0).get_by_text('dcom.role = "q_proj"').click()
    expect(says).to_have_count(0)


def test_the_trail_opens_what_it_names(desk: Opened):
    page = desk.page
    desk.choose(1, "00-input")
    page.locator(".code").nth(1).get_by_text('dcom.role = "down_proj"').click()
    page.locator("#trail li", has_text="lower-dcom-to-cluster").locator("button").first.click()
    assert (
        page.locator(".pane select").nth(1).locator("option:checked").inner_text().startswith("lower-dcom-to-cluster")
    )
    expect(page.locator(".code").nth(1).locator(".chosen")).to_be_visible()
    page.get_by_role("button", name="Clear the selection").click()
    assert page.locator(".chosen, .related, #trail li").count() == 0


def test_stages_stand_beside_those_before_them(desk: Opened):
    page = desk.page
    page.locator("#strip").get_by_role("button", name="dcom-preserve-decomposed").click()
    chosen = page.locator(".pane select option:checked").all_inner_texts()
    assert [text.split()[0] for text in chosen] == ["03-dcom-decompose-activations", "04-dcom-preserve-decomposed"]
    assert page.locator("#strip [aria-pressed=true]").count() == 2


def test_a_bar_of_the_timeline_opens_its_instruction(desk: Opened):
    page = desk.page
    for _ in range(3):
        page.get_by_role("button", name="Closer").click()
    said = page.locator("#range").inner_text()
    page.get_by_role("button", name="Earlier").click()
    assert page.locator("#range").inner_text() != said
    page.get_by_role("button", name="Whole run").click()
    canvas = page.locator("#events canvas")
    box = canvas.bounding_box()
    assert box
    bank = box["y"] + 34 * 4 + 17  # the fifth row
    for across in range(60, int(box["width"]), 4):
        page.mouse.click(box["x"] + across, bank)
        if page.locator("#trail li").count():
            break
    expect(page.locator(".chosen")).to_contain_text("isa.ld")


def test_streams_of_a_kernel_are_chosen(browser: Browser, tiny_ir: Path, tmp_path: Path):
    program, page = tmp_path / "prog.bin", tmp_path / "page.html"
    options = ["--decompose-layers", "1", "--sites", "qkv", "--rank", "2", "--block", "8", "--mapping", "grid"]
    assert main(["compile", str(tiny_ir), *options, "--streams", "2x2", "-o", str(program)]) == 0
    assert main(["report", str(program), "-o", str(page)]) == 0
    for desk in opened(browser, page, tmp_path):
        caption, range_ = desk.page.locator("#events figcaption"), desk.page.locator("#range")
        expect(caption).to_contain_text("of stream 0 of 4, 8 x 8 clusters from row 0, column 0,")
        said = range_.inner_text()
        desk.page.locator("#stream").select_option(label="3: 8 x 8 clusters from row 8, column 8")
        expect(caption).to_contain_text("of stream 3 of 4, 8 x 8 clusters from row 8, column 8,")
        expect(range_).not_to_have_text(said)  # it has a matrix less


def test_a_kernel_of_one_stream_has_none_to_choose(desk: Opened):
    expect(desk.page.locator("#stream")).to_be_hidden()
    assert "of stream" not in desk.page.locator("#events figcaption").inner_text()


def test_everything_works_by_keyboard(desk: Opened):
    page = desk.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    desk.choose(0, "Python")
    code = page.locator(".code").nth(0)
    code.focus()
    page.keyboard.press("Home")
    for _ in range(len(desk.lines(0))):
        page.keyboard.press("ArrowDown")
        if "self.o_proj(" in code.locator(".active").inner_text():
            break
    page.keyboard.press("Enter")
    expect(code.locator(".chosen")).to_contain_text("self.o_proj(")
    assert code.get_attribute("aria-activedescendant") == code.locator(".chosen").get_attribute("id")
    page.keyboard.press("Escape")
    assert page.locator(".chosen").count() == 0
    summary = page.locator("#causes summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#causes table")).to_be_visible()


def test_it_is_readable_without_sight(desk: Opened):
    page = desk.page
    levels = [int(tag[1]) for tag in page.locator("h1, h2, h3").evaluate_all("all => all.map(each => each.tagName)")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    unnamed = "all => all.filter(each => !each.innerText.trim() && !each.labels?.length && !each.ariaLabel).length"
    assert page.locator("button, select, summary, [role=listbox]").evaluate_all(unnamed) == 0
    for figure in page.locator("figure:visible").all():
        expect(figure.locator(".chart")).to_have_attribute("aria-label", figure.locator("figcaption").inner_text())
        assert figure.locator("details table tbody tr").count() > 0


@pytest.mark.parametrize("scheme", ["desk", "night"])
def test_axe_finds_nothing(request: pytest.FixtureRequest, scheme: str):
    """The rules of axe-core, those of WCAG's contrast among them, with a selection made and all tables open."""
    page: Page = request.getfixturevalue(scheme).page
    page.locator(".code").nth(1).get_by_text("dcom.reconstruct").first.click()
    page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_it_fits_a_phone(phone: Opened):
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    panes = [pane.bounding_box() for pane in page.locator(".pane").all()]
    assert all(panes)
    assert panes[0] and panes[1] and panes[1]["y"] >= panes[0]["y"] + panes[0]["height"]
    page.locator(".code").nth(1).get_by_text("dcom.decompose").first.tap()
    assert page.locator("#trail li").count() > 1
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_the_options_fit_a_phone(phone: Opened):
    """Their values are short: nothing lies beyond the shade at the end of the table."""
    options = phone.page.locator("#settings .scroll").first
    assert options.evaluate("box => box.scrollWidth - box.clientWidth") == 0


def test_kernels_are_told_apart_on_a_phone(phone: Opened):
    """Their names are long, and begin alike."""
    kernels = {each["name"] for each in phone.page.evaluate("report.kernels")}
    assert len(kernels) > 1
    for chart in ("causes", "busy"):
        texts = phone.page.locator(f"#{chart} svg text").all_text_contents()
        assert not any(text.startswith("lanczos_") for text in texts), "what all names begin with"
        of_kernels = [text for text in texts if any(text.rstrip("…") in name for name in kernels) and "x" in text]
        assert len(set(of_kernels)) == len(of_kernels) == len(kernels), texts


def test_no_two_colours_of_a_timeline_are_one(desk: Opened, night: Opened):
    steps = 13  # those of a kernel that streams its matrix, with what is of no step
    for opened_page in (desk, night):
        colours = opened_page.page.evaluate(f"colours({steps})")
        assert all(colours) and len(set(colours)) == steps


def test_it_is_dark_where_that_is_preferred(night: Opened):
    page = night.page

    def luminance(property: str) -> float:
        rgb = page.evaluate(f"getComputedStyle(document.body).{property}").split("(")[1].rstrip(")").split(",")[:3]
        return sum(weight * int(value) for weight, value in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)) / 255

    assert luminance("backgroundColor") < 0.15
    assert luminance("color") > 0.8
    label = page.locator("#causes svg text").first
    dark = label.evaluate("each => getComputedStyle(each).fill")
    page.emulate_media(color_scheme="light")
    expect(label).not_to_have_css("fill", dark)


@pytest.mark.parametrize(
    ("options", "sections"),
    [
        ([], {"decomposed", "configuration"}),
        (
            ["--decompose-layers=1-2", "--rank=3", "--iterations=4", "--block=8", "--reuse=o", "--config={config}"],
            {"overview", "decomposed", "pipeline", "timeline", "cycles", "roofline", "expansion", "configuration"},
        ),
    ],
    ids=["dense", "layers that differ, in blocks"],
)
def test_other_programs(browser: Browser, tiny_ir: Path, tmp_path: Path, options: list[str], sections: set[str]):
    program, file, config = (tmp_path / name for name in ("prog.bin", "page.html", "sites.toml"))
    config.write_text("[layers.2]\nrank = 2\n")
    given = [option.format(config=config) for option in options]
    assert main(["compile", str(tiny_ir), *given, "-o", str(program)]) == 0
    assert main(["report", str(program), "-o", str(file), "--expansion"]) == 0
    context = browser.new_context(viewport=DESK)
    page = Opened(context.new_page())
    page.page.goto(file.as_uri())
    expect(page.page.locator("#site-map svg")).to_be_visible()
    shown = page.page.locator("main > section:visible").evaluate_all("all => all.map(each => each.id)")
    assert set(shown) == sections
    if "pipeline" in sections:
        assert page.page.locator("#view option").all_inner_texts() == ["1", "2"]
        page.page.locator("#view").select_option("1")
        assert any("rank 2" in line for line in page.lines(1))
    context.close()
    assert page.complaints == []


def test_it_opens_quickly(browser: Browser, page_file: Path):
    """In processor time of the page's thread, which does not depend on what else runs."""
    page = browser.new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(page_file.as_uri())
    expect(page.locator("#events canvas")).to_be_visible()
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    page.close()
    assert 0.05 < metrics["TaskDuration"] < LOAD_SECONDS


def test_a_missing_package_is_named(
    tiny_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    assert main(["report", str(tiny_program), "-o", str(tmp_path / "page.html")]) == 1
    assert (
        "cannot import vl-convert-python, which a report needs; `pip install 'dcomc[report]'`"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "page.html").exists()
