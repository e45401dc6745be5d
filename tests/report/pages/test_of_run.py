"""The page of one run: its numbers, its pictures, what it leaves out; as text and in a browser."""

import base64
import io
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dassl.predictions import Counts, Prediction
from dassl.run_folder import write_start
from report.pages import of_run
from report.pages.of_run import class_rows, leave_page, matrix, page, percent, write_page
from report.pages.thumbnails import LARGEST, thumbnail
from report.pages.usage import uses
from report.run import main

PROJECT = Path(__file__).parents[3]
CLASSES = ["cat", "dog", "bird"]
NASTY = ["<script>alert(1)</script>", "</style><b>", 'x" onload="alert(2)', "‮live", "w" * 120, "{{ 7 * 7 }}"]
FACES = {"blue": (20, 40, 200), "red": (200, 30, 20)}


def drawn(classes, pictures, seed=0):
    """Predictions by chance, right half of the time."""
    chance = random.Random(seed)
    rows = []
    for number in range(pictures):
        label, other = chance.randrange(classes), chance.randrange(classes)
        first = chance.choice([label, other])
        p = chance.uniform(0.5, 1)
        rows.append(Prediction(f"{number}.jpg", label, [first, (first + 1) % classes], [p, 1 - p]))
    return rows


def words(text):
    """The text of a page without its markup."""
    body = text[text.index("<body>") : text.rindex("<script>")]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


# Numbers --------------------------------------------------------------------------------------------


def test_the_classes_are_those_of_a_slow_count_the_weakest_first():
    rows = drawn(6, 300)
    found = class_rows(Counts((row.label, row.predicted) for row in rows), list("abcdef"))
    for row in found:
        own = [one for one in rows if one.label == row.score.label]
        said = [one.predicted for one in own if one.predicted != one.label]
        assert row.score.accuracy == 100 * sum(one.right for one in own) / len(own)
        assert (
            row.times == max(said.count(other) for other in said) == said.count("abcdef".index(row.taken_for))
        )
    accuracies = [row.score.accuracy for row in found]
    assert accuracies == sorted(accuracies) and len(found) == 6


def test_a_class_that_is_never_wrong_is_taken_for_no_other():
    (row,) = class_rows(Counts({(1, 1): 4}), CLASSES)
    assert (row.taken_for, row.times) == ("", 0)


def test_the_matrix_is_that_of_a_slow_count():
    rows = drawn(5, 200)
    found = matrix(Counts((row.label, row.predicted) for row in rows))
    for label, counts in found.rows:
        for said, count in zip(found.columns, counts, strict=True):
            assert count == sum((row.label, row.predicted) == (label, said) for row in rows)
    assert sum(sum(counts) for _, counts in found.rows) == 200


@pytest.mark.parametrize(
    "p, said",
    [
        (0.5, "50.0 %"),
        (0.0, "0.0 %"),
        (1e-9, "< 0.1 %"),
        (0.0012, "0.1 %"),
        (0.99999, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_a_probability_never_reads_as_certain_by_rounding(p, said):
    assert percent(p) == said


# The page -------------------------------------------------------------------------------------------


def test_the_page_says_accuracy_interval_and_counts(finished, tmp_path):
    rows = [Prediction(f"{n}.jpg", n % 3, [n % 3 if n < 7 else (n + 1) % 3], None) for n in range(10)]
    said = words(page(finished(tmp_path, rows, CLASSES)))
    assert "70.00 %" in said and "7 of 10 pictures are right" in said
    assert "39.68 to 89.22 %" in said  # Wilson, by an independent calculator


def test_wrong_pictures_stand_in_the_page_with_both_probabilities_the_most_confident_first(
    finished, tmp_path
):
    for name, colour in FACES.items():
        Image.new("RGB", (400, 300), colour).save(tmp_path / f"{name}.png")
    rows = [
        Prediction("red.png", 0, [1, 0], [0.6, 0.375]),
        Prediction("blue.png", 1, [2, 0], [0.9, 0.04]),
        Prediction("right.png", 1, [1, 0], [0.99, 0.01]),
        Prediction("gone.png", 2, [0, 2], [0.55, 0.45]),
    ]
    text = page(finished(tmp_path / "run", rows, CLASSES, root=tmp_path))
    cards = re.findall(r"<li>\s*(?:<img|<p class).*?</li>", text, re.DOTALL)
    assert [re.search(r"<code><bdi>(.*?)</bdi>", card)[1] for card in cards] == [
        "blue.png",
        "red.png",
        "gone.png",
    ]
    said = [re.findall(r"<bdi>(\w+)</bdi> <b>(.*?)</b>", card) for card in cards]
    assert said[0] == [("bird", "90.0 %"), ("dog", "at most 4.0 %")]
    assert said[1] == [("dog", "60.0 %"), ("cat", "37.5 %")]
    for card, colour in zip(cards, ("blue", "red"), strict=False):
        image = picture_in(re.search(r'src="([^"]+)"', card)[1])
        assert image.format == "JPEG" and image.size == (160, 120)
        assert all(abs(a - b) < 12 for a, b in zip(image.getpixel((80, 60)), FACES[colour], strict=True))
    assert "the picture is gone" in cards[2] and "1 of them is shown without its picture" in words(text)


def picture_in(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def test_thumbnails_are_upright_and_small(tmp_path):
    image = Image.new("RGB", (600, 200), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # a camera that was turned
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert picture_in(thumbnail(tmp_path / "turned.jpg")).size == (round(LARGEST / 3), LARGEST)
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    small = picture_in(thumbnail(tmp_path / "clear.png"))
    assert small.size == (40, 30) and small.getpixel((5, 5)) == (255, 255, 255)


def test_a_picture_that_cannot_be_read_is_said(finished, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    text = page(finished(tmp_path / "run", [Prediction("text.jpg", 0, [1], None)], CLASSES, root=tmp_path))
    assert "the picture cannot be read" in text and "<img" not in text


def test_names_are_never_markup(finished, tmp_path):
    rows = [Prediction(f"<i>{n}.jpg", n, [(n + 1) % len(NASTY)], None) for n in range(len(NASTY))]
    folder = finished(tmp_path, rows, NASTY, dataset="<b>", trainer="<u>")
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "batch": 1, "</svg><script>": 1.0}\n')
    text = page(folder)
    assert (
        "<script>alert" not in text
        and 'onload="' not in text
        and "<title>&lt;u&gt; on &lt;b&gt;</title>" in text
    )
    assert text.count("<script>") == 1 and text.count("</style>") == 1 and "<i>" not in text
    assert "{{ 7 * 7 }}" in words(text)


def test_a_name_that_is_no_text_is_shown_escaped(finished, tmp_path):
    write_page(finished(tmp_path, [Prediction("caf\udce9.jpg", 0, [1], None)], CLASSES))
    assert "caf\\udce9.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_with_a_thousand_classes_the_page_is_small_and_says_what_it_leaves_out(finished, tmp_path):
    classes = [f"a class with a rather long name, the one of number {n}" for n in range(1000)]
    rows = drawn(1000, 6000)
    noise = Image.effect_noise((500, 400), 90)
    noise.save(tmp_path / "noise.jpg")
    rows = [row._replace(image="noise.jpg") for row in rows]
    path = write_page(finished(tmp_path / "run", rows, classes, root=tmp_path))
    said = words(path.read_text(encoding="utf-8"))
    errors = sum(not row.right for row in rows)
    assert path.stat().st_size < 1_500_000
    assert "A confusion matrix of so many classes would not be readable and is left out" in said
    assert re.search(r"The 20 most confused of [\d,]+ pairs of classes; the others are left out", said)
    assert f"60 of {errors:,} wrong pictures, the most confident first; the others are left out" in said


def test_of_more_classes_the_weakest_are_shown(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(of_run, "CLASSES", 2)
    rows = [Prediction("x", label, [said], None) for label, said in ((0, 0), (0, 1), (1, 1), (2, 0))]
    text = page(finished(tmp_path, rows, CLASSES))
    table = text[text.index('<table class="sortable by-class">') :].partition("</table>")[0]
    assert re.findall(r'<th scope="row"><bdi>(\w+)', table) == ["bird", "cat"]
    assert "The 2 weakest classes; 1 better ones are left out." in words(text)


def test_what_was_trained_and_read_is_said(finished, tmp_path):
    result = {
        "trainable_params": 46080,
        "inputs": {"lists": {"test": {"images": 6000, "digest": "f00d" * 16}}},
    }
    folder = finished(tmp_path, drawn(3, 9), CLASSES, **result)
    (folder / "config.yaml").write_text(
        "# python train.py --trainer CLIPFit\n"
        "RUN: {EVAL_ONLY: false, PROTOCOL: ''}\nSEED: 3\nOPTIM: {LR: 0.002}\n"
        "TRAINER: {CLIPFIT: {BETA: 8.0, UNFREEZE: [text.ffn_proj_bias]}, COOP: {N_CTX: 16}}\n"
    )
    write_start(folder, {"time": "T1", "commit": "aaa", "python": "3.11", "packages": {"torch": "2.9"}})
    said = words(page(folder))
    for fact in (
        "trained parameters 46,080",
        "TRAINER.CLIPFIT.BETA 8",
        "TRAINER.CLIPFIT.UNFREEZE text.ffn_proj_bias",
        "OPTIM.LR 0.002",
        "test list 6,000 images, sha256 f00df00df00d",
        "start T1, commit aaa, torch 2.9",
        "packages torch 2.9",
    ):
        assert fact in said
    assert "N_CTX" not in said  # of another method
    assert f"--eval-only --model-dir {folder}" in said and f"report.run {folder}" in said


def test_predictions_of_another_test_are_a_warning(finished, tmp_path):
    said = words(page(finished(tmp_path, drawn(3, 9), CLASSES, macro_f1=1.0)))
    assert "Warning. macro_f1 is" in said and "the two are not of one test" in said


def test_a_run_that_was_not_tested_and_an_old_one_have_a_page_too(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"accuracy": None, "trainer": "CLIPFit"}))
    assert "This run was not tested." in words(page(tmp_path))
    old = tmp_path / "seed1"
    shutil.copytree(
        PROJECT / "tests/fixtures/run_folders/v0.1/base2new/train_base/demo/shots_16/CLIPFit/demo/seed1", old
    )
    said = words(page(old))
    assert "This run left no predictions.jsonl" in said and f"--model-dir {old}" in said
    assert "Embedded data." in said


# The commands ---------------------------------------------------------------------------------------


def test_report_run_prints_and_writes_the_page(finished, tmp_path, capsys):
    folder = finished(tmp_path / "run", drawn(3, 9), CLASSES)
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Confusion matrix" in printed and f"The page of this run is {folder}/report.html" in printed
    assert (folder / "report.html").read_text(encoding="utf-8") == page(folder)
    assert main([str(folder), "--page", str(tmp_path / "elsewhere.html")]) == 0
    assert (tmp_path / "elsewhere.html").is_file()


def test_a_page_that_cannot_be_written_is_one_line(finished, tmp_path, capsys):
    folder = finished(tmp_path, drawn(3, 9), CLASSES)
    (folder / "metrics.jsonl").write_text("{")
    leave_page(folder)
    assert "No page of this run: " in capsys.readouterr().out and not (folder / "report.html").exists()


def test_the_page_needs_neither_torch_nor_a_plotting_library(finished, tmp_path):
    folder = finished(tmp_path, drawn(3, 9), CLASSES)
    code = (
        "import sys; from report.pages.of_run import write_page; write_page(sys.argv[1]); "
        "sys.exit(bool({'torch', 'matplotlib', 'sklearn'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=PROJECT, check=True)


# In a browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown_run(finished, tmp_path_factory):
    """A run with nasty names, long names, a matrix, curves, and a picture."""
    folder = tmp_path_factory.mktemp("page")
    rows = drawn(18, 900)
    Image.new("RGB", (640, 300), "teal").save(folder / "0.jpg")
    rows = [row._replace(image="0.jpg" if n % 2 else f"a/{'long' * 30}{n}.jpg") for n, row in enumerate(rows)]
    classes = [*NASTY, *(f"a class of number {n}" for n in range(12))]
    inputs = {"lists": {"test": {"images": 900, "digest": "f00d" * 16}}}
    finished(folder / "run", rows, classes, root=folder, inputs=inputs, trainable_params=46080)
    (folder / "run/metrics.jsonl").write_text(
        "".join(
            json.dumps({"epoch": 1, "batch": n, "lr": 1 / n, "loss": 3 - n / 9}) + "\n" for n in range(1, 9)
        )
    )
    (folder / "run/config.yaml").write_text(
        f"# python train.py --trainer CLIPFit --root /{'deep/' * 40}\n"
        "RUN: {EVAL_ONLY: false, PROTOCOL: ''}\nSEED: 3\nTRAINER: {CLIPFIT: {BETA: 8.0}}\n"
    )
    return write_page(folder / "run")


@pytest.fixture
def opened(browser, shown_run):
    """Open the page; what the browser complains of and asks for is noted on it."""
    pages = []

    def open_page(**options):
        one = browser.new_page(**options)
        one.complaints, one.requests = [], []
        one.on("console", lambda message: one.complaints.append(message.text))
        one.on("pageerror", lambda error: one.complaints.append(str(error)))
        one.on("dialog", lambda dialog: (one.complaints.append(dialog.message), dialog.dismiss()))
        one.on("request", lambda request: one.requests.append(request.url))
        one.goto(shown_run.as_uri())
        pages.append(one)
        return one

    yield open_page
    for one in pages:
        one.close()


PHONE = {"width": 360, "height": 780}
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colours) => {
    canvas.fillStyle = "#fff";
    canvas.fillRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => rgb.map((c) => linear(c / 255))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const low = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const holder = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !holder.getClientRects().length) continue;
    if (holder.closest("script, .unseen")) continue;
    const layers = [];
    for (let at = holder; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(holder);
    const ink = holder.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(over(layers)), light(over([...layers, ink]))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push([texts.currentNode.data.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return low;
}"""


@pytest.mark.slow
def test_it_loads_without_complaints_or_network(opened):
    one = opened()
    one.get_by_role("button", name="Accuracy").click()
    assert one.complaints == []
    assert [url for url in one.requests if not url.startswith(("file:", "data:"))] == []
    assert one.evaluate("document.querySelector('.wrong-pictures img').naturalWidth") == 160


@pytest.mark.slow
def test_it_has_a_title_a_language_and_headings_without_gaps(opened):
    one = opened()
    assert one.title() == "CLIPFit" and one.evaluate("document.documentElement.lang") == "en"
    levels = [
        int(tag[1])
        for tag in one.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => h.tagName)")
    ]
    assert levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    links = one.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert len(links) == 8 and all(one.locator(link).count() == 1 for link in links)
    without_name = "[...document.querySelectorAll('img:not([alt]), svg:not([aria-label])')].length"
    assert one.evaluate(without_name) == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 360, 1280])
def test_the_page_itself_never_scrolls_sideways(opened, width):
    one = opened(viewport={"width": width, "height": 780})
    one.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    outside = """width => [...document.querySelectorAll('main *')]
      .filter(one => !one.closest('.scroll, .unseen, svg') && one.getBoundingClientRect().right > width + 1)
      .map(one => one.outerHTML.slice(0, 80))"""
    assert one.evaluate(outside, width) == []


@pytest.mark.slow
def test_on_a_phone_the_matrix_scrolls_in_its_box_and_names_stay(opened):
    one = opened(viewport=PHONE)
    box = one.locator(".matrix-sheet .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => box.scrollLeft = 150")
    assert one.locator(".matrix tbody th").first.bounding_box()["x"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened, scheme):
    one = opened(color_scheme=scheme)
    one.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert one.evaluate(CONTRAST) == []


@pytest.mark.slow
def test_what_scrolls_and_folds_is_reached_by_the_keyboard(opened):
    one = opened(viewport=PHONE)
    reached = set()
    for _ in range(60):
        one.keyboard.press("Tab")
        here = (
            "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
        )
        reached.add(one.evaluate(here))
    assert {"Classes", "Confusion matrix", "Confused pairs", "Contents", "Dark", "48 more"} <= reached
    one.locator(".more summary").press("Enter")
    assert one.locator(".more .wrong-pictures").is_visible()


@pytest.mark.slow
def test_classes_sort_and_filter(opened):
    one = opened()
    one.locator("#classes").get_by_role("button", name="Class", exact=True).click()
    names = one.locator("#classes tbody th:visible").all_inner_texts()
    assert names.index("a class of number 2") < names.index("a class of number 10")
    one.locator("#classes").get_by_role("searchbox").fill("script")
    assert "<script>alert(1)</script>" in one.locator("#classes tbody tr:visible").first.inner_text()


@pytest.mark.slow
def test_on_paper_it_is_light_whole_and_says_what_is_not_printed(opened):
    one = opened(color_scheme="dark", viewport={"width": 690, "height": 1000})
    one.emulate_media(media="print", color_scheme="dark")
    assert one.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert one.evaluate("document.documentElement.scrollWidth") <= 690
    assert not one.locator("nav").is_visible() and "On paper: the first 12." in one.inner_text("#wrong")
    cut = """[...document.querySelectorAll('.scroll')]
      .filter(box => box.scrollHeight > box.clientHeight + 1).length"""
    assert one.evaluate(cut) == 0
    assert one.evaluate(CONTRAST) == []


@pytest.mark.slow
def test_it_reads_without_scripts(opened):
    one = opened(java_script_enabled=False)
    assert one.locator("#classes tbody tr").count() == 18 and one.locator("#confusions .matrix").is_visible()


# What it says of a real run -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["CLIPFit", "ZeroshotCLIP"])
def test_every_command_of_the_page_can_be_pasted(method, run_train, result, tmp_path, monkeypatch):
    short = ["OPTIM.MAX_EPOCH", 1, "OPTIM.WARMUP_EPOCH", 0]
    assert (
        run_train("--trainer", method, "--seed", 1, "--shots", 1, "--output-dir", tmp_path / "run", *short)
        is None
    )
    commands = [shlex.split(use.command) for use in uses(tmp_path / "run")]
    assert len(commands) == {"CLIPFit": 4, "ZeroshotCLIP": 3}[method]  # nothing changed in zero-shot CLIP
    (tmp_path / "new_photos").mkdir()
    Image.new("RGB", (60, 50), (200, 30, 30)).save(tmp_path / "new_photos/a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    for name in ("train.py", "configs"):
        (tmp_path / name).symlink_to(PROJECT / name)
    for program, *words in commands:
        module = ["-m", "clipfit"] if program == "clipfit" else []
        subprocess.run([sys.executable, *module, *words], check=True, capture_output=True)
    (again,) = (tmp_path / "tested").rglob("result.json")
    assert result(again.parent)["correct"] == result(tmp_path / "run")["correct"]
    assert (tmp_path / "classes.csv").is_file() and (tmp_path / "run/report.html").is_file()
