"""The page, as text and in a browser."""

import base64
import re

import pytest

from report.formats import write
from report.formats.html import html
from report.model import Cell, Head, Report, Score, Table


def test_figures_are_inside(report, figures):
    image = re.search(r'src="data:image/png;base64,([^"]+)"', html(report))[1]
    assert base64.b64decode(image) == figures[0].png.read_bytes()


def test_words_are_never_markup():
    odd = Table("t", "<script>alert(1)</script>", (Head("<b>"),), (Head("&"),), {(0, 0): Cell(Score(1.0))})
    page = html(Report("<i>", (odd,)))
    assert "<script>alert" not in page and "<title>&lt;i&gt;</title>" in page


def test_a_report_of_nothing_is_a_page():
    assert "<h1>Empty</h1>" in html(Report("Empty", ()))


def test_runs_share_their_environment_on_the_page(report):
    assert html(report).count('id="environment-') == 1


# In a browser ---------------------------------------------------------------------------------------


@pytest.fixture
def open_page(browser, report, tmp_path):
    """Open the report's page; what the browser complains of and asks for is noted on it."""
    path = write(report, tmp_path / "report")[0]
    pages = []

    def open_page(**options):
        page = browser.new_page(**options)
        page.complaints, page.requests = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()


def column(page, table, number):
    """Texts of a column, from top to bottom; 0 are the rows' heads."""
    cells = page.locator(f"#{table} .sheet tbody tr:not(.group):visible > :nth-child({number + 1})")
    return [" ".join(text.split()) for text in cells.all_inner_texts()]


def head(page, table, name):
    return page.locator(f"#{table} th[aria-sort]", has=page.get_by_role("button", name=name, exact=True))


@pytest.mark.slow
def test_the_page_loads_without_errors_or_network(open_page):
    page = open_page()
    page.get_by_role("button", name="CLIPFit").first.click()
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
def test_every_table_and_figure_is_shown(open_page):
    page = open_page()
    for key in ("table1", "table1-embedded", "table9", "table7", "runs", "figure3-embedded", "figure5"):
        assert page.locator(f"#{key}").is_visible()
    assert all(table.is_visible() for table in page.locator("table").all())
    assert page.evaluate("document.querySelector('#figure3-embedded img').naturalWidth") == 1200
    assert "data/eurosat is not there" in page.inner_text("#figure5")


@pytest.mark.slow
def test_what_is_embedded_is_labelled(open_page):
    page = open_page()
    assert page.locator(".banner").is_visible()
    labelled = [
        "#table1-embedded h2",
        "#figure3-embedded figcaption",
        "#statistics-1 h3",
        "#runs .runs tr:last-child th[scope=row]",
    ]
    assert all("embedded data" in page.inner_text(place) for place in labelled)
    assert "embedded data" not in page.inner_text("#table1")


@pytest.mark.slow
def test_a_click_on_a_head_sorts(open_page):
    page = open_page()
    restored = column(page, "table1", 0)
    coop = head(page, "table1", "CoOp")
    assert coop.get_attribute("aria-sort") == "none"

    coop.get_by_role("button").click()
    assert coop.get_attribute("aria-sort") == "descending"
    assert column(page, "table1", 0) == ["EuroSAT Base", "DTD Base", "DTD New", "EuroSAT New"]  # empty: last

    coop.get_by_role("button").click()
    assert coop.get_attribute("aria-sort") == "ascending"
    assert column(page, "table1", 0) == ["DTD New", "DTD Base", "EuroSAT Base", "EuroSAT New"]

    coop.get_by_role("button").click()
    assert coop.get_attribute("aria-sort") == "none"
    assert column(page, "table1", 0) == restored == ["Base", "New", "Base", "New"]


@pytest.mark.slow
def test_sorting_tells_that_groups_are_gone(open_page):
    page = open_page()
    head(page, "table1", "CLIPFit").get_by_role("button").click()
    assert not page.locator("#table1 .group").first.is_visible()


@pytest.mark.slow
def test_numbers_sort_as_numbers_and_the_least_comes_first_where_less_is_better(open_page):
    page = open_page()
    head(page, "table7", "Parameters").get_by_role("button").click()
    assert column(page, "table7", 0) == ["CoOp", "CLIPFit"]
    head(page, "table7", "HM").get_by_role("button").click()
    assert column(page, "table7", 0) == ["CLIPFit", "CoOp"]
    assert head(page, "table7", "Parameters").get_attribute("aria-sort") == "none"


@pytest.mark.slow
def test_the_filter_keeps_rows_with_all_words(open_page):
    page = open_page()
    page.locator("#runs").get_by_role("searchbox").fill("DTD seed2")
    assert column(page, "runs", 0) == ["few_shot/dtd/seed2"]
    assert "1 of 3 rows" in page.inner_text("#runs .state")


@pytest.mark.slow
def test_notes_are_reached_without_a_pointer(open_page):
    page = open_page()
    page.locator("#table1 sup a").first.press("Enter")
    assert page.evaluate("location.hash") == "#table1-note-1"
    assert "hm implies 42.00" in page.inner_text("#table1-note-1")


@pytest.mark.slow
def test_verdicts_are_not_told_by_colour_alone(open_page):
    page = open_page()
    page.click("#print-toggle")
    marks = page.locator("#table1 td.agrees .mark, #table1 td.differs .mark")
    assert marks.count() == 5 and all(mark.is_visible() for mark in marks.all())
    assert not page.locator("#table1 .difference").first.is_visible()


@pytest.mark.slow
def test_a_phone_scrolls_tables_but_never_the_page(open_page):
    page = open_page(viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.locator("#table9 .scroll")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    wide.evaluate("box => box.scrollLeft = 200")
    assert page.locator("#table9 tbody th").first.bounding_box()["x"] >= 0  # the method's name stays


@pytest.mark.slow
def test_dark_and_light_by_the_system_and_by_the_button(open_page):
    background = "getComputedStyle(document.body).backgroundColor"
    light = open_page(color_scheme="light")
    dark = open_page(color_scheme="dark")
    assert light.evaluate(background) != dark.evaluate(background)
    dark.click("#theme-toggle")
    assert dark.evaluate(background) == light.evaluate(background)


@pytest.mark.slow
def test_the_page_reads_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert column(page, "table7", 0) == ["CoOp", "CLIPFit"]
