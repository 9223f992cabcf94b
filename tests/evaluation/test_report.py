"""One page that stands alone, says what the figures say, and works in a browser."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from plumage.evaluation import metrics
from plumage.evaluation.report import write_report

CLASSES = ["<script>window.hacked = 1</script>", 'Say "Tui" & <b>', "Æsop's jay", "Wren", "Owl", "Rook"]


@pytest.fixture
def page(guesses, tmp_path):
    """The path of a report on 90 photos of six classes."""
    probabilities, labels = guesses(90, 6, skill=1.5)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "picture.png")
    write_report(
        tmp_path / "report.html",
        title="birds & <i>more</i>",
        metrics={"test": metrics.summary(probabilities, labels), "val": {"accuracy": 0.4321}},
        parts={"train": 1234, "val": 65, "test": 90},
        classes=CLASSES,
        confusion=metrics.confusion_matrix(labels, probabilities.argmax(axis=1), 6),
        pictures={"Confusion matrix": tmp_path / "picture.png"},
        model={"architecture": "efficientnet_b0"},
        params={"train.lr": 0.002, "model.weights": None, "train.flip": True},
    )
    return tmp_path / "report.html"


class Elements(HTMLParser):
    """Counts the page's elements and collects what its attributes point at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_page_needs_nothing_but_itself(page):
    html = page.read_text(encoding="utf-8")
    targets = Elements(html).targets
    assert targets
    assert all(target.startswith("data:") for target in targets)
    assert not re.search(r"https?://|@import|url\(", html)


def test_class_names_and_title_are_text_and_never_markup(page):
    tags = Elements(page.read_text(encoding="utf-8")).tags
    assert tags.count("script") == 1, "the page's own"
    assert "i" not in tags
    assert tags.count("b") == 6, "the six headline figures"


def test_the_page_says_the_figures_the_photos_the_model_and_the_parameters(page):
    text = page.read_text(encoding="utf-8")
    for expected in ("43.2%", "1,234", "null", "0.002", "true", "efficientnet_b0", "90 test photos of 6 classes"):
        assert expected in text


def test_a_model_without_errors_has_a_page(tmp_path):
    write_report(
        tmp_path / "report.html",
        title="perfect",
        metrics={"test": metrics.summary(np.eye(2), np.array([0, 1])), "val": {"accuracy": 1.0}},
        parts={"test": 2},
        classes=["a", "b"],
        confusion=np.eye(2, dtype=np.int64),
        pictures={},
        model={},
        params={},
    )
    assert "No test photo was taken for another class" in (tmp_path / "report.html").read_text(encoding="utf-8")


def column(browser, number: int) -> list[str]:
    cells = browser.find_elements("css selector", f"#classes tbody tr > :nth-child({number})")
    return [cell.text for cell in cells]


def test_in_a_browser_the_class_table_sorts_the_picture_grows_and_nothing_complains(page, browser):
    browser.get(page.as_uri())
    f1 = [float(value) for value in column(browser, 5)]
    assert f1 == sorted(f1), "worst class first"
    photos = browser.find_elements("css selector", "#classes thead button")[1]
    photos.click()
    counts = [int(value) for value in column(browser, 2)]
    assert counts == sorted(counts)
    photos.click()
    assert [int(value) for value in column(browser, 2)] == sorted(counts, reverse=True)
    assert [head.text for head in browser.find_elements("css selector", "th[aria-sort]")] == [photos.text]
    browser.find_element("css selector", "#classes thead button").click()
    assert set(column(browser, 1)) == set(CLASSES)

    picture = browser.find_element("css selector", ".zoom")
    picture.click()
    assert picture.get_attribute("aria-pressed") == "true"
    assert browser.execute_script("return document.querySelector('.zoom img').naturalWidth") == 40
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []


def test_on_a_narrow_screen_the_page_does_not_scroll_sideways(page, browser):
    metrics_of_a_phone = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics_of_a_phone)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
