"""The page in a browser: its controls work, and it makes no requests."""

import dataclasses
import datetime
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ddl.reports import html, model
from tests.waiting import HANG_S

from .synthetic import SAMPLE, create, create_agents, create_many, leave, png
from .test_embedding import DRAWING
from .test_html import HOSTILE

FINAL = {"none": 0.80, "light": 0.765, "aggressive": 0.66}


class Opened:
    """A page in the browser with its console messages and requests."""

    def __init__(self, browser: Browser, path: Path, **options):
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(**options)
        self.page.set_default_timeout(120_000)  # for a machine busy with other tests
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.path = path
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-plotted]")
        self.page.locator(".plot").first.scroll_into_view_if_needed()
        self.page.locator(".plot .subplot.xy").first.wait_for(state="attached")

    def column(self, index: int) -> list[str]:
        return self.page.eval_on_selector_all(
            ".trials tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{index}].textContent.trim())"
        )

    def traces(self, what: str, role: str = "") -> list:
        """The value of the JavaScript expression `what` for each trace of the first plot, or for those with a role."""
        mine = f".filter(trace => trace.meta.role === '{role}')" if role else ""
        return self.page.evaluate(f"document.querySelector('.plot').data{mine}.map(trace => {what})")

    def draw_all(self) -> None:
        for plot in self.page.locator(".plot:visible").all():
            plot.scroll_into_view_if_needed()
            plot.locator(".subplot.xy").wait_for(state="attached")

    def until(self, expression: str) -> None:
        """Wait for a JavaScript expression. Playwright's own function for it needs `eval`, which the page forbids."""
        ends = time.monotonic() + HANG_S
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends, f"not within {HANG_S:g} s: {expression}"
            self.page.wait_for_timeout(50)

    def slide(self, value: float) -> None:
        self.page.locator(".slider input").evaluate(
            "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", value
        )


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A run with every section."""
    folder = tmp_path_factory.mktemp("everything") / "run"
    swept = {n: {"task.lr": 0.1**i, "task.width": 8 * i, "task.kernel": "abc"[i % 3]} for i, n in enumerate((*FINAL, HOSTILE), 1)}
    price = {name: float(i) for i, name in enumerate(swept)}
    create(
        folder, FINAL | {HOSTILE: 0.5}, epochs=6, swept=swept, data=SAMPLE,
        alter=lambda c, seed, epoch, m: m | {"latency/p50_ms_batch1": 1 + price[c] + seed / 10, "device/energy_wh": 2 - price[c] / 4},
    )  # fmt: skip
    for i, seed in ((i, seed) for i in range(4) for seed in range(3)):
        trial = f"{3 * i + seed:04d}-synthetic"
        for epoch in range(1, 13):
            leave(folder, trial, f"digits-{epoch:03d}.png", png(60, epoch))
        leave(folder, trial, "architecture.svg", DRAWING)
        leave(folder, trial, "story.txt", (HOSTILE + " and so on" * 200).encode())
    return folder


@pytest.fixture
def opened(chromium, make_run, tmp_path):
    made: list[Opened] = []

    def open_(folder: Path | None = None, **options) -> Opened:
        path = tmp_path / f"report-{len(made)}.html"
        html.write_html(model.build_report([folder or make_run(FINAL, epochs=6)]), path)
        made.append(Opened(chromium, path, **options))
        return made[-1]

    yield open_
    for each in made:
        each.page.close()


@pytest.fixture(scope="module")
def plain(chromium, tmp_path_factory):
    """A page that several tests share. Each test restores what it changes."""
    path = tmp_path_factory.mktemp("plain")
    html.write_html(model.build_report([create(path / "run", FINAL, epochs=6)]), path / "report.html")
    report = Opened(chromium, path / "report.html")
    yield report
    report.page.close()


@pytest.fixture(scope="module")
def rich(chromium, everything, tmp_path_factory):
    """A shared page of `everything`."""
    path = tmp_path_factory.mktemp("rich") / "report.html"
    html.write_html(model.build_report([everything]), path)
    report = Opened(chromium, path)
    yield report
    report.page.close()


def test_it_opens_without_console_messages_and_requests(plain):
    report = plain
    assert report.messages == []
    assert [url for url in report.requests if not url.startswith("file:")] == []
    assert len(report.requests) == 1
    report.draw_all()
    assert report.page.locator(".plot").count() == 6, "four curves, two trade-offs"
    assert report.messages == []


def test_hostile_text_is_shown_and_not_run(opened, make_run):
    final = {HOSTILE: 0.8, "<b>bold</b>": 0.7, "javascript:alert(1)": 0.6}
    report = opened(make_run(final, epochs=3, data=SAMPLE | {"source": HOSTILE}, endings={(HOSTILE, 1): ("failed", HOSTILE)}))
    report.page.mouse.move(*_centre(report.page, ".plot"))
    report.page.wait_for_selector(".plot .hoverlayer text")
    assert report.page.title() != "owned"
    assert report.messages == []
    assert len(report.requests) == 1
    assert report.page.locator(".chip").first.text_content().strip() == HOSTILE
    assert "<b>bold</b>" in "".join(report.page.locator(".plot .hoverlayer text").all_text_contents())


def _centre(page: Page, selector: str) -> tuple[float, float]:
    page.locator(selector).first.scroll_into_view_if_needed()
    box = page.locator(selector).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_hovering_tells_the_values(plain):
    report = plain
    report.page.mouse.move(*_centre(report.page, ".plot"))
    report.page.wait_for_selector(".plot .hoverlayer text")
    text = " ".join(report.page.locator(".plot .hoverlayer text").all_text_contents())
    assert "epoch" in text
    assert "(n = 3)" in text
    assert all(name in text for name in FINAL)


def test_a_configuration_can_be_hidden_and_shown(plain):
    report = plain
    chip = report.page.locator(".chip", has_text="light")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert dict(report.traces("[trace.name, trace.visible]")) == {
        "none": True, "light": False, "aggressive": True,
    }  # fmt: skip
    chip.click()
    assert all(report.traces("trace.visible"))


def test_the_axes_can_be_switched(plain):
    report = plain
    means = "document.querySelector('.plot').data.filter(trace => trace.meta.role === 'mean')[0].x"
    axis = "document.querySelector('.plot').layout.yaxis"
    assert report.page.evaluate(means) == [1, 2, 3, 4, 5, 6]
    report.page.get_by_role("button", name="seconds", exact=True).click()
    assert report.page.evaluate(means) == pytest.approx([5.2 * epoch for epoch in range(1, 7)])
    assert report.page.evaluate("document.querySelector('.plot').layout.xaxis.title.text") == "seconds trained"
    report.page.get_by_role("button", name="log", exact=True).click()
    assert report.page.evaluate(f"{axis}.type") == "log"
    assert report.page.evaluate(f"{axis}.range[1]") < 0, "the range of an accuracy below 1, as its logarithm"
    report.page.get_by_role("button", name="linear", exact=True).click()
    assert report.page.evaluate(f"{axis}.range[1]") == pytest.approx(0.85, abs=0.1)
    report.page.get_by_role("button", name="epoch", exact=True).first.click()
    assert report.page.evaluate(means) == [1, 2, 3, 4, 5, 6]
    assert report.messages == []


def test_trials_sort_by_number_with_the_unmeasured_last(opened, make_run):
    folder = make_run({"c10": 0.80, "c9": 0.765}, epochs=4, endings={("c9", 0): ("planned", ""), ("c9", 1): ("failed", "broke")})
    report = opened(folder)
    head = report.page.locator(".trials thead th", has_text="best validation accuracy")
    head.get_by_role("button").click()
    values = report.column(4)
    assert values[-1] == "\N{EN DASH}"
    assert values[:-1] == sorted(values[:-1])
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert report.column(4)[:-1] == sorted(values[:-1], reverse=True)
    assert report.column(4)[-1] == "\N{EN DASH}"
    report.page.locator(".trials thead th", has_text="configuration").get_by_role("button").click()
    assert report.column(0) == ["c9"] * 3 + ["c10"] * 3


def test_trials_filter_by_word_and_status(opened, make_run):
    report = opened(make_run(FINAL, epochs=4, endings={("light", 1): ("failed", "CUDA out of memory")}))
    search = report.page.locator(".trials input")
    search.fill("LIGHT")
    assert report.column(0) == ["light"] * 3
    assert report.page.locator(".trials output").text_content() == "3 of 9"
    search.fill("out memory")
    assert report.column(1) == ["1"]
    search.fill("")
    report.page.locator(".trials select").select_option("finished")
    assert len(report.column(0)) == 8
    search.fill("nothing like it")
    assert report.column(0) == []


def test_a_long_table_is_shown_in_pages(opened, make_run, monkeypatch):
    monkeypatch.setattr(html, "PAGE_ROWS", 4)
    final = {f"c{i}": 0.5 + i / 100 for i in range(4)} | {HOSTILE: 0.6}
    report = opened(make_run(final, seeds=(0, 1), epochs=2))
    pages = report.page.locator(".trials .pages")
    assert (report.column(0), pages.locator("output").text_content()) == (["c0", "c0", "c1", "c1"], "1 to 4 of 10")
    assert pages.get_by_role("button", name="Previous").is_disabled()
    for _ in range(2):
        pages.get_by_role("button", name="Next").click()
    assert (report.column(0), pages.locator("output").text_content()) == ([HOSTILE] * 2, "9 to 10 of 10")
    assert pages.get_by_role("button", name="Next").is_disabled()
    report.page.reload()
    report.page.wait_for_selector("html[data-plotted]")
    assert report.column(0) == [HOSTILE] * 2
    head = report.page.locator(".trials thead th", has_text="best validation accuracy").get_by_role("button")
    head.click()
    lowest = list(map(float, report.column(4)))
    head.click()
    assert min(map(float, report.column(4))) > max(lowest), "all rows are sorted, not only those of a page"
    report.page.locator(".trials input").fill("c3")
    assert report.column(0) == ["c3"] * 2
    assert not pages.is_visible()
    results = report.page.locator("section", has=report.page.locator("table.results"))
    results.locator(".scroll:has(.results) + .pages").get_by_role("button", name="Next").click()
    assert results.locator(".results tbody th").all_text_contents() == [HOSTILE]
    assert report.messages == []


def test_agents_are_drawn_over_env_steps_seconds_and_episodes(opened, tmp_path):
    report = opened(create_agents(tmp_path / "agents"))
    title = "document.querySelector('.plot').layout.xaxis.title.text"
    for axis, first, expected in (("env steps", 1000, "env steps"), ("episodes", 23.5, "episodes"), ("seconds", 0.5, "seconds trained")):
        report.page.get_by_role("button", name=axis, exact=True).click()
        assert report.traces("trace.x[0]", "mean")[0] == first
        assert report.page.evaluate(title) == expected
    assert report.messages == []


def test_smoothing_is_off_until_asked_for_and_says_so(opened, make_run):
    jagged = {"alter": lambda configuration, seed, epoch, m: m | {"val/accuracy": 0.5 + 0.2 * (epoch % 2)}}
    report = opened(make_run({"a": 0.5}, epochs=6, spread=0.0, **jagged))
    assert report.traces("trace.y", "mean") == [pytest.approx([0.7, 0.5] * 3)]
    assert report.page.locator(".smoothing").first.text_content() == ""
    report.slide(0.5)
    assert report.traces("trace.y", "raw") == [pytest.approx([0.7, 0.5] * 3)], "what was measured stays in sight"
    assert report.traces("trace.opacity", "raw")[0] < 0.5
    # By hand: (0.5 * 0.7 + 0.5) / 1.5, then (0.5 * (0.5 * 0.7 + 0.5) + 0.7) / 1.75.
    assert report.traces("trace.y.slice(0, 3)", "mean") == [pytest.approx([0.7, 0.85 / 1.5, 1.125 / 1.75])]
    assert "exponential smoothing, weight 0.50" in report.page.locator(".smoothing").first.text_content()
    report.slide(0)
    assert report.traces("trace.meta.role") == ["band", "seed", "mean"]
    assert report.messages == []


def test_a_trade_off_tells_both_figures(rich):
    report = rich
    plane = report.page.locator(".tradeoffs .plot").first
    plane.scroll_into_view_if_needed()
    mark = plane.locator(".points path").first
    mark.wait_for(state="attached")
    box = mark.bounding_box()
    report.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    report.page.wait_for_selector(".tradeoffs .hoverlayer text")
    text = " ".join(report.page.locator(".tradeoffs .hoverlayer text").all_text_contents())
    assert "latency p50 (ms): " in text
    assert "best validation accuracy: " in text
    assert "(n = 3)" in text


def test_parallel_coordinates_are_narrowed_by_drawing_along_an_axis(rich):
    report = rich
    lines = "[...document.querySelectorAll('.parallel .line:not(.out)')].map(line => line.dataset.text.split(': task')[0])"
    handle = report.page.locator(".parallel .axis[data-name='task.width'] .handle")
    handle.scroll_into_view_if_needed()
    assert len(report.page.evaluate(lines)) == 4
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    report.page.mouse.move(x, y + 2)
    report.page.mouse.down()
    report.page.mouse.move(x, y + box["height"] * 0.5, steps=3)
    report.page.mouse.up()
    left = report.page.evaluate(lines)
    assert len(left) == 2, "widths of 24 and 32, the upper half"
    report.page.mouse.move(x + 300, y - 100)
    assert report.page.locator(".parallel output").text_content() == "2 of 4 within the selected ranges."
    report.page.mouse.click(x, y + 12)
    assert len(report.page.evaluate(lines)) == 4
    line = report.page.evaluate("[...document.querySelectorAll('.parallel .line')].at(-1).points[0].y")
    scale = report.page.evaluate("document.querySelector('.parallel svg').getScreenCTM().a")
    top = report.page.locator(".parallel svg").bounding_box()["y"]
    first = report.page.locator(".parallel .handle").first.bounding_box()
    report.page.mouse.move(first["x"] + first["width"] / 2 + 1, top + line * scale)
    assert "none: lr 0.1, width 8, kernel b, best validation accuracy 0.79" in report.page.locator(".parallel output").text_content()
    assert report.messages == []


def test_film_strips_and_samples_are_side_by_side_and_unfold(rich):
    report = rich
    strips = report.page.locator(".film:visible")
    assert strips.count() == 4, "the first seed's"
    frames = strips.first.locator(".frames")
    frames.scroll_into_view_if_needed()
    assert frames.locator("span").all_text_contents() == [str(n) for n in range(1, 13)]
    report.until("[...document.querySelectorAll('.film img')].slice(0, 12).every(image => image.naturalWidth === 60)")
    report.page.get_by_text("2 more seeds").first.click()
    assert report.page.locator(".gallery .images figure:visible").count() == 12
    whole = report.page.locator(".samples:visible .whole").first
    whole.locator("summary").click()
    assert whole.locator("pre").text_content() == HOSTILE + " and so on" * 200
    assert report.page.title() != "owned"
    assert len(report.requests) - len([url for url in report.requests if url.startswith("data:")]) == 1
    assert report.messages == []


def test_a_reload_while_the_sweep_runs_keeps_place_and_choices(opened, everything, make_run):
    report = opened(everything, viewport={"width": 1000, "height": 700})
    page = report.page
    page.get_by_role("button", name="seconds", exact=True).click()
    page.get_by_role("button", name="log", exact=True).click()
    page.locator(".chip", has_text="light").click()
    report.slide(0.8)
    page.locator(".trials input").fill("seed")
    page.locator(".trials input").fill("")
    page.locator(".trials select").select_option("finished")
    page.locator(".trials thead th", has_text="seed").get_by_role("button").click()
    page.locator(".trials input").focus()
    page.evaluate("scrollTo(0, 1500)")
    html.write_html(model.build_report([everything]), report.path, refresh_s=3600)
    page.reload()  # as the browser does after `refresh_s`
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "3600"
    page.wait_for_selector("html[data-plotted]")
    assert page.evaluate("scrollY") == 1500
    assert page.get_by_role("button", name="seconds", exact=True).get_attribute("aria-pressed") == "true"
    assert page.locator(".chip", has_text="light").get_attribute("aria-pressed") == "false"
    assert page.locator(".slider output").text_content() == "0.80"
    assert page.locator(".trials select").input_value() == "finished"
    assert report.column(1) == sorted(report.column(1))
    assert page.evaluate("document.activeElement.type") == "search"
    assert report.messages == []


@pytest.mark.parametrize(("age_s", "expected"), [(30, "Running:"), (590, "Running:"), (700, "No update since")])
def test_a_page_that_is_no_longer_rewritten_says_so(opened, everything, make_run, age_s, expected):
    report = opened(everything)
    running = model.build_report([make_run(FINAL, epochs=2, endings={("light", 2): ("running", "")})])
    written = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)).isoformat(timespec="seconds")
    html.write_html(dataclasses.replace(running, written=written), report.path, refresh_s=20)
    report.page.reload()
    report.page.wait_for_selector("html[data-plotted]")
    assert report.page.locator(".live").text_content().startswith(expected)
    assert report.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_plots_follow_the_page_into_the_dark(opened, scheme):
    report = opened(color_scheme=scheme)
    paper = report.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    background = "document.querySelector('.plot').layout.paper_bgcolor"
    assert report.page.evaluate(background) == {"light": "#ffffff", "dark": "#14171b"}[scheme]
    other = {"light": "dark", "dark": "light"}[scheme]
    before = report.traces("trace.line.color")
    report.page.emulate_media(color_scheme=other)
    report.page.wait_for_selector(f"html[data-plotted={other}]")
    assert not set(before) & set(report.traces("trace.line.color"))


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_phone_and_desktop(opened, everything, width):
    report = opened(everything, viewport={"width": width, "height": 844}, has_touch=width == 390)
    report.page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    report.page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    report.until("[...document.images].every(image => image.complete)")
    assert report.page.evaluate("document.documentElement.scrollWidth") == width
    report.draw_all()
    widths = report.page.eval_on_selector_all(".plot .main-svg", "plots => plots.map(plot => plot.getBoundingClientRect().right)")
    assert max(widths) <= width
    # A caption names the data, so it must be visible even below a table that is wider than the screen.
    rights = report.page.eval_on_selector_all(".data-note", "notes => notes.map(note => note.getBoundingClientRect().right)")
    assert max(rights) <= width
    over = "span => span.getBoundingClientRect().right - span.closest('.scroll').getBoundingClientRect().right"
    assert max(report.page.eval_on_selector_all(".scroll caption > span", f"spans => spans.map({over})")) < 1
    assert report.page.eval_on_selector_all(".scroll:has(.results)", "boxes => boxes.every(box => box.scrollWidth <= box.clientWidth)")
    assert report.page.evaluate("document.documentElement.scrollWidth") == width


def test_controls_are_not_printed(opened, make_run, monkeypatch):
    monkeypatch.setattr(html, "PAGE_ROWS", 4)
    report = opened()
    controls = report.page.locator(".controls .switches, .trials .controls, .pages button")
    assert any(control.is_visible() for control in controls.all())
    report.page.emulate_media(media="print")
    assert not any(control.is_visible() for control in controls.all())
    assert report.page.locator(".trials .pages output").is_visible(), "a page of a long table says that it is one"


def test_it_prints_in_light_colours(opened):
    report = opened(color_scheme="dark")
    report.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    report.page.wait_for_selector("html[data-plotted=light]")
    assert report.page.evaluate("document.querySelector('.plot').layout.paper_bgcolor") == "#ffffff"
    report.page.evaluate("dispatchEvent(new Event('afterprint'))")
    report.page.wait_for_selector("html[data-plotted=dark]")
    assert report.page.evaluate("document.querySelector('.plot').layout.paper_bgcolor") == "#14171b"
    assert report.page.pdf().startswith(b"%PDF")


def test_a_thousand_trials_open(opened, tmp_path):
    report = opened(create_many(tmp_path / "thousand"))
    assert report.page.locator(".trials tbody tr").count() == 100
    assert report.page.locator(".results tbody tr").count() == 100
    assert report.page.locator(".chip").count() == 12
    assert report.page.locator(".parallel .line").count() == 200
    assert report.path.stat().st_size <= 15e6
    assert report.messages == []


def test_the_runs_of_a_study_are_one_page(opened, everything, make_run, tmp_path, chromium):
    path = tmp_path / "study.html"
    html.write_html(model.build_report([everything, create_agents(tmp_path / "agents"), make_run(FINAL, epochs=2)]), path)
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto(path.as_uri())
    assert page.locator(".overview tbody tr").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator(".overview a", has_text="Agents").click()
    assert page.url.endswith("#r1")
    assert abs(page.locator("#r1").bounding_box()["y"]) < 100
    page.locator("#r1 .plot").first.scroll_into_view_if_needed()
    page.locator("#r1 .plot .subplot.xy").first.wait_for(state="attached")
    page.close()
