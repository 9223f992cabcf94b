"""The HTML report is self-contained, shows metrics and photos, and works in a browser."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys

from plumage.evaluation.example_photos import ExamplePhoto
from plumage.evaluation.examples import choose_examples
from plumage.evaluation.metric_table import HEADLINES
from plumage.evaluation.report import write_report
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.sample import Sample
from plumage.evaluation.selective import selective_metrics
from plumage.evaluation.slices import Slice, slice_table
from plumage.evaluation.summary import calibration_summary, summary

CLASSES = ["<script>window.hacked = 1</script>", 'Say "Tui" & <b>', "Æsop's jay", "Wren", "Owl", "Rook"]
PHONE = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}


def some_jpeg(seed: int, side: int = 112) -> bytes:
    """A JPEG of about as many bytes as a photo of that size."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (side // 5, side // 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=76)
    return buffer.getvalue()


def make_result(sample: Sample, classes: list[str], resamples: int = 100) -> EvaluationResult:
    """A result with everything that it can have."""
    examples = choose_examples(sample, photos=24, pairs=20, classes=400)
    heat = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    flat = sample.probabilities**0.6
    uncalibrated = Sample(sample.labels, flat / flat.sum(axis=1, keepdims=True))
    return EvaluationResult(
        title="birds & <i>more</i>",
        metrics={
            "test": {
                **summary(sample, resamples=resamples, seed=0),
                "uncalibrated": calibration_summary(uncalibrated),
                "abstain": selective_metrics(sample, 0.5, 0.95),
            },
            "temperature": 1.25,
            "val": {"accuracy": 0.4321},
        },
        split_sizes={"train": 1234, "val": 65, "test": len(sample)},
        classes=classes,
        keys=[f"folder/{i:05d} <u>.jpg" for i in range(len(sample))],
        sample=sample,
        uncalibrated=uncalibrated,
        features=np.random.default_rng(1).normal(size=(len(sample), 16)) + sample.labels[:, None] % 7,
        slices=slice_table(
            [
                Slice("brightness", 0.0, 80.0, 20, 40, 40, 50, 0.001),
                Slice("brightness", 81.0, 255.0, 36, 40, 40, 50, 1.0),
            ]
        ),
        history=pd.DataFrame({"epoch": [1], "train/loss": [1.0]}),
        examples=examples,
        example_photos={index: ExamplePhoto(some_jpeg(index), heat) for index in examples.indices()},
        model={"architecture": "efficientnet_b0"},
        params={"train.lr": 0.002, "model.weights": None, "train.flip": True},
    )


def written(result: EvaluationResult, folder: Path) -> Path:
    (folder / "plots").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(folder / "plots" / "history.png")
    write_report(folder, result)
    return folder / "report.html"


@pytest.fixture
def result(make_sample) -> EvaluationResult:
    """90 photos in six classes."""
    return make_result(make_sample(90, 6, skill=1.5), CLASSES)


@pytest.fixture
def page(result: EvaluationResult, tmp_path: Path) -> Path:
    return written(result, tmp_path)


class Elements(HTMLParser):
    """The page's tags, and the targets of its links and sources."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_page_is_self_contained_and_reproducible(result, page, tmp_path):
    html = page.read_text(encoding="utf-8")
    targets = Elements(html).targets
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"https?://|@import|url\(", html)
    before = page.read_bytes()
    assert written(result, tmp_path).read_bytes() == before


def test_class_names_keys_and_title_are_escaped(page):
    tags = Elements(page.read_text(encoding="utf-8")).tags
    assert tags.count("script") == 2, "the page's code and its data"
    assert "u" not in tags
    assert tags.count("b") == len(HEADLINES) + 2, "the headline metrics, ECE and val accuracy"
    assert tags.count("i") == 6, "the interval bars of six classes"


def test_the_page_shows_metrics_photos_model_and_parameters(page):
    text = page.read_text(encoding="utf-8")
    for expected in (
        "43%", "1234", "null", "0.002", "true", "efficientnet_b0", "90 test photos in 6 classes", "temperature of 1.25",
        "with a confidence threshold of 0.500 it answers", "<strong>worse</strong>",
    ):  # fmt: skip
        assert expected in text


def test_a_perfect_model_of_two_photos_has_a_page(tmp_path):
    page = written(make_result(Sample(np.array([0, 1]), np.eye(2)), ["a", "b"]), tmp_path)
    assert "No test photo is misclassified" in page.read_text(encoding="utf-8")


def test_a_model_that_is_always_wrong_and_classes_without_photos_have_a_page(tmp_path):
    probabilities = np.array([[0.1, 0.6, 0.3], [0.7, 0.2, 0.1]])
    page = written(make_result(Sample(np.array([0, 1]), probabilities), ["a", "b", "c"]), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "No test photo is correct" in text and "no photo of it is correct" in text


def column(browser: Any, number: int) -> list[str]:
    cells = browser.find_elements("css selector", f"#classes tbody tr > :nth-child({number})")
    return [cell.text.split("\n")[0] for cell in cells if cell.is_displayed()]


def assert_no_errors(browser: Any) -> None:
    """The browser logged nothing, and no name ran as code."""
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []


def says(browser: Any, canvas: str) -> str:
    return browser.find_element("css selector", f"#{canvas}-says").text


def scale(browser: Any, canvas: str) -> float:
    return float(browser.find_element("css selector", f"#{canvas}").get_attribute("data-scale"))


def wheel(browser: Any, canvas: str, delta: int) -> None:
    """Turn the wheel over the middle of the canvas."""
    browser.execute_script(
        "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        "document.getElementById(arguments[0]).dispatchEvent(new WheelEvent('wheel', {deltaY: arguments[1], bubbles: true,"
        "cancelable: true, clientX: box.left + box.width / 2, clientY: box.top + box.height / 2}));",
        canvas, delta,
    )  # fmt: skip


def hover(browser: Any, canvas: str, x: float, y: float) -> None:
    """Move the pointer to (x, y), each 0 to 1, of the area that the canvas shows beside its names."""
    element = browser.find_element("css selector", f"#{canvas}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    size, inset = element.size["width"], float(element.get_attribute("data-inset"))
    across, down = inset + x * (size - inset), y * (size - inset)
    move = ActionChains(browser).move_to_element_with_offset(element, round(across - size / 2), round(down - size / 2))
    move.perform()


def test_the_class_table_sorts(page, browser):
    browser.get(page.as_uri())
    f1 = [float(value) for value in column(browser, 5)]
    assert f1 == sorted(f1), "worst class first"
    photos = browser.find_elements("css selector", "#classes thead button")[1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", photos)
    photos.click()
    counts = [int(value) for value in column(browser, 2)]
    assert counts == sorted(counts)
    photos.send_keys(Keys.ENTER)
    assert [int(value) for value in column(browser, 2)] == sorted(counts, reverse=True)
    assert [head.text for head in browser.find_elements("css selector", "th[aria-sort]")] == [photos.text]
    browser.find_element("css selector", "#classes thead button").send_keys(Keys.SPACE)
    assert set(column(browser, 1)) == set(CLASSES)
    assert_no_errors(browser)


def test_the_confusion_matrix_zooms_and_describes_cells_by_mouse_and_keyboard(page, result, browser):
    browser.get(page.as_uri())
    hover(browser, "confusion", 1.5 / 6, 0.5 / 6)
    actual, predicted = result.class_order[0], result.class_order[1]
    count, support = result.confusion[actual, predicted], result.confusion[actual].sum()
    assert (
        says(browser, "confusion")
        == f"Actual {CLASSES[actual]}, predicted {CLASSES[predicted]}: {count} of {support} photos"
    )
    wheel(browser, "confusion", -500)
    assert scale(browser, "confusion") == 4
    wheel(browser, "confusion", 250)
    assert scale(browser, "confusion") == 2
    buttons = (
        browser.find_elements("css selector", "#confusion")[0]
        .find_element("xpath", "..")
        .find_elements("css selector", "button")
    )
    for button, expected in zip(buttons, (4, 2, 1), strict=True):
        button.click()
        assert scale(browser, "confusion") == expected
    buttons[-1].send_keys(Keys.TAB)
    canvas = browser.switch_to.active_element
    assert canvas.get_attribute("id") == "confusion"
    canvas.send_keys(Keys.ARROW_DOWN)
    row = result.class_order[1]
    assert says(browser, "confusion").startswith(f"Actual {CLASSES[row]}, predicted {CLASSES[predicted]}: ")
    canvas.send_keys("+")
    assert scale(browser, "confusion") == 2
    canvas.send_keys(Keys.ENTER)
    pair = result.examples.pairs[0]
    assert says(browser, "confusion").startswith(
        f"Actual {CLASSES[pair.actual]}, predicted {CLASSES[pair.predicted]}: {pair.num_errors} of"
    )
    canvas.send_keys("0")
    assert scale(browser, "confusion") == 1
    assert_no_errors(browser)


def test_the_map_describes_photos_by_mouse_and_keyboard(page, result, browser):
    browser.get(page.as_uri())
    points = json.loads(browser.execute_script("return document.getElementById('data').textContent"))["points"]
    for photo in (3, 41):
        x, y = (0.02 + 0.96 * points[axis][photo] / points["grid"] for axis in ("x", "y"))
        hover(browser, "points", x, y)
        near = says(browser, "points")
        assert re.match(r"folder/\d{5} <u>\.jpg: .+, predicted .+", near)
        shown = int(near[7:12])
        assert np.hypot(*(points[axis][shown] - points[axis][photo] for axis in ("x", "y"))) < 40
        assert near.split(": ", 1)[1].startswith(CLASSES[result.sample.labels[shown]] + ", predicted")
    canvas = browser.find_element("css selector", "#points")
    canvas.send_keys(Keys.ENTER)
    wrong = int(says(browser, "points")[7:12])
    assert result.sample.labels[wrong] != result.sample.predicted[wrong]
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert says(browser, "points")[7:12] != f"{wrong:05d}"
    assert_no_errors(browser)


def test_the_class_filter_applies_to_tables_photos_and_map(page, result, browser):
    browser.get(page.as_uri())
    box = browser.find_element("css selector", "#filter")
    box.send_keys("oWl")
    assert column(browser, 1) == ["Owl"]
    assert browser.find_element("css selector", "#filtered").text == "1 of 6 classes"
    owl = CLASSES.index("Owl")
    for photo in browser.find_elements("css selector", ".photos .photo"):
        classes = [int(number) for number in photo.get_attribute("data-classes").split(",")]
        assert photo.is_displayed() == (owl in classes)
    assert [title.text for title in browser.find_elements("css selector", ".class h3") if title.text] == ["Owl"]
    canvas = browser.find_element("css selector", "#points")
    browser.execute_script("arguments[0].focus()", canvas)
    for _ in range(5):
        canvas.send_keys(Keys.ARROW_RIGHT)
        photo = int(says(browser, "points")[7:12])
        assert owl in (result.sample.labels[photo], result.sample.predicted[photo])
    box.clear()
    box.send_keys("<script>")
    assert column(browser, 1) == [CLASSES[0]]
    box.send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    assert len(column(browser, 1)) == 6
    assert_no_errors(browser)


def test_photos_load_lazily_and_heat_maps_can_be_overlaid(page, result, browser):
    browser.set_window_size(900, 500)
    browser.get(page.as_uri())
    photos = browser.find_elements("css selector", ".photo")
    indices = {int(photo.get_attribute("data-photo")) for photo in photos}
    assert indices == set(result.example_photos)
    assert len(browser.find_elements("css selector", ".photo img")) < len(photos), "the lower ones are not decoded yet"
    for photo in photos:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", photo)
        browser.execute_async_script(
            "const [photo, done] = arguments; const wait = () => photo.querySelector('canvas') ?"
            "photo.querySelector('img').decode().then(() => done()) : requestAnimationFrame(wait); wait();",
            photo,
        )
    seen = "return getComputedStyle(arguments[0].querySelector('canvas')).opacity"
    button = browser.find_element("css selector", "#heat")
    assert browser.execute_script(seen, photos[0]) == "0"
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "true"
    assert browser.execute_script(seen, photos[0]) == "1"
    pixels = "return [...arguments[0].querySelector('canvas').getContext('2d').getImageData(0, 0, 7, 7).data]"
    drawn = np.reshape(browser.execute_script(pixels, photos[0]), (7, 7, 4))
    assert drawn[0, 0, 3] == 0 and drawn[6, 6].tolist() == [255, 0, 0, 191]
    assert (np.diff(drawn[..., 3].ravel()) > 0).all(), "the hotter, the less transparent"
    assert_no_errors(browser)


def test_on_a_narrow_screen_the_page_does_not_scroll_sideways_and_a_tap_describes_a_cell(page, result, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.find_element("css selector", "#heat").click()
    canvas = browser.find_element("css selector", "#confusion")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    middle = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect(), inset = Number(arguments[0].dataset.inset);"
        "const half = (box.width - inset) / 2; return [box.left + inset + half, box.top + half]",
        canvas,
    )
    point = {"x": middle[0] + 2, "y": middle[1] + 2}
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tapped = CLASSES[result.class_order[3]]
    assert says(browser, "confusion").startswith(f"Actual {tapped}, predicted {tapped}: ")
    assert_no_errors(browser)


@pytest.mark.parametrize(
    ("threshold", "target", "told"),
    [
        (0.5, 0.1, "With a confidence threshold of 0.500"),
        (0.5, 1.0, "miss the target"),
        (None, 0.9, "No threshold reaches"),
    ],
)
def test_the_page_says_whether_selective_prediction_reaches_the_target(make_sample, tmp_path, threshold, target, told):
    result = make_result(make_sample(90, 6, skill=1.5), CLASSES)
    result.metrics["test"]["abstain"] = selective_metrics(result.sample, threshold, target)
    text = written(result, tmp_path).read_text(encoding="utf-8")
    assert [what in text for what in ("With a confidence threshold", "miss the target", "No threshold reaches")].count(
        True
    ) == 1
    assert told in text


@pytest.mark.slow
def test_with_400_classes_and_5840_photos_the_page_is_under_15_mb_and_works(make_sample, tmp_path, browser, capsys):
    names = [f"BLACK-THROATED GREEN WARBLER {number}" for number in range(400)]
    result = make_result(make_sample(5840, 400, skill=6.5), names)
    page = written(result, tmp_path)
    megabytes = page.stat().st_size / 1e6
    assert len(result.examples.extremes) > 380 and len(result.example_photos) > 700
    assert megabytes < 15
    browser.get(page.as_uri())
    loaded = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    with capsys.disabled():
        print(f"\nreport of 400 classes, 5,840 photos: {megabytes:.1f} MB, loaded after {loaded:.2f} s")
    assert len(browser.find_elements("css selector", "#classes tbody tr")) == 400
    canvas = browser.find_element("css selector", "#confusion")
    canvas.send_keys(Keys.ENTER)
    pair = result.examples.pairs[0]
    assert says(browser, "confusion").startswith(f"Actual {names[pair.actual]}, predicted {names[pair.predicted]}:")
    canvas.send_keys("+++++")
    assert scale(browser, "confusion") == 32
    browser.find_element("css selector", "#filter").send_keys("warbler 39")
    assert browser.find_element("css selector", "#filtered").text == "11 of 400 classes"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    assert_no_errors(browser)
