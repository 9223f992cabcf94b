"""The report in a browser: tables, the confusion matrix, the map, photos, and large pages."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_pages import CLASSES, PHONE, assert_no_errors, hover, make_result, says, scale, some_jpeg, written
from selenium.webdriver import Keys
from selenium.webdriver.support.ui import WebDriverWait

from plumage.evaluation.evaluate import THUMBNAILS
from plumage.evaluation.result import EvaluationResult


def column(browser: Any, number: int) -> list[str]:
    cells = browser.find_elements("css selector", f"#classes tbody tr > :nth-child({number})")
    return [cell.text.split("\n")[0] for cell in cells if cell.is_displayed()]


def wheel(browser: Any, canvas: str, delta: int) -> None:
    """Turn the wheel over the middle of the canvas."""
    browser.execute_script(
        "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        "document.getElementById(arguments[0]).dispatchEvent(new WheelEvent('wheel', {deltaY: arguments[1], bubbles: true,"
        "cancelable: true, clientX: box.left + box.width / 2, clientY: box.top + box.height / 2}));",
        canvas, delta,
    )  # fmt: skip


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


def test_the_confusion_matrix_zooms_and_describes_cells_by_mouse_and_keyboard(page_of_many, many, browser):
    browser.get(page_of_many.as_uri())
    hover(browser, "confusion", 1.5 / 24, 0.5 / 24)
    actual, predicted = many.class_order[0], many.class_order[1]
    count, support = many.confusion[actual, predicted], many.confusion[actual].sum()
    assert (
        says(browser, "confusion")
        == f"Actual {many.classes[actual]}, predicted {many.classes[predicted]}: {count} of {support} photos"
    )
    wheel(browser, "confusion", -500)
    assert scale(browser, "confusion") == 4
    wheel(browser, "confusion", 250)
    assert scale(browser, "confusion") == 2
    buttons = (
        browser.find_element("css selector", "#confusion")
        .find_element("xpath", "ancestor::*[contains(@class, 'sheet')]")
        .find_elements("css selector", "button")
    )
    for button, expected in zip(buttons, (4, 2, 1), strict=True):
        button.click()
        assert scale(browser, "confusion") == expected
    buttons[-1].send_keys(Keys.TAB)
    canvas = browser.switch_to.active_element
    assert canvas.get_attribute("id") == "confusion"
    canvas.send_keys(Keys.ARROW_DOWN)
    row = many.class_order[1]
    assert says(browser, "confusion").startswith(f"Actual {many.classes[row]}, predicted {many.classes[predicted]}: ")
    canvas.send_keys("+")
    assert scale(browser, "confusion") == 2
    canvas.send_keys(Keys.ENTER)
    pair = many.examples.pairs[0]
    assert says(browser, "confusion").startswith(
        f"Actual {many.classes[pair.actual]}, predicted {many.classes[pair.predicted]}: {pair.num_errors} of"
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


def test_on_a_narrow_screen_the_page_does_not_scroll_sideways_and_a_tap_describes_a_cell(page_of_many, many, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(page_of_many.as_uri())
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
    tapped = many.classes[many.class_order[12]]
    assert says(browser, "confusion").startswith(f"Actual {tapped}, predicted {tapped}: ")
    assert_no_errors(browser)


@pytest.mark.slow
def test_with_400_classes_and_5840_photos_the_page_is_under_15_mb_and_works(make_sample, tmp_path, browser, capsys):
    names = [f"BLACK-THROATED GREEN WARBLER {number}" for number in range(400)]
    result = make_result(make_sample(5840, 400, skill=6.5), names)
    thumbnails = {index: some_jpeg(index, 44) for index in range(THUMBNAILS)}  # about as many bytes as a photo's WebP
    result = replace(result, thumbnails=thumbnails)
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


def test_a_photo_enlarges_by_click_and_keyboard_and_the_focus_returns(page, result, browser):
    browser.get(page.as_uri())
    dialog = browser.find_element("css selector", "#large")
    assert not dialog.is_displayed()
    first, second = (result.keys[index] for index in result.examples.mistakes[:2])
    view = browser.find_element("css selector", "#mistakes ~ .photos .view")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    view.click()
    assert dialog.is_displayed() and first in dialog.text
    pictures = browser.execute_script("return [...document.querySelectorAll('#large img')].map((image) => image.src)")
    assert pictures == [view.find_element("css selector", "img").get_attribute("src")]
    assert dialog.size["width"] > 1.5 * view.size["width"]
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert second in dialog.text and f"2 of {len(result.examples.mistakes)}" in dialog.text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed() and browser.switch_to.active_element == view
    view.send_keys(Keys.ENTER)
    assert dialog.is_displayed() and first in dialog.text
    assert_no_errors(browser)


def keys_in(result: EvaluationResult, actual: int, predicted: int) -> set[str]:
    sample = result.sample
    inside = np.flatnonzero((sample.labels == actual) & (sample.predicted == predicted))
    return {result.keys[index] for index in inside}


def opened(browser: Any) -> set[str]:
    """Keys of the photos in the dialog that a cell opened."""
    return {caption.text for caption in browser.find_elements("css selector", "#cell[open] figcaption .soft")}


def test_a_cell_of_the_matrix_opens_its_photos_in_table_and_canvas(page_of_many, many, browser):
    browser.get(page_of_many.as_uri())
    pair = many.examples.pairs[0]
    names = many.classes[pair.actual], many.classes[pair.predicted]
    rows = browser.find_elements("css selector", "#cells tbody tr")
    assert len(rows) == 20, "the classes with the most errors"
    label = f"Actual {names[0]}, predicted {names[1]}: {pair.num_errors} photos"
    (cell,) = [
        found
        for found in browser.find_elements("css selector", "#cells button")
        if found.get_attribute("title") == label
    ]
    cell.send_keys(Keys.ENTER)
    assert opened(browser) == keys_in(many, pair.actual, pair.predicted)
    thumbnail = browser.find_element("css selector", "#cell .view")
    thumbnail.click()
    assert many.keys[0].split("/")[0] in browser.find_element("css selector", "#large").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.find_element("css selector", "#cell .close").click()
    assert opened(browser) == set()
    canvas = browser.find_element("css selector", "#confusion")
    canvas.send_keys(Keys.ENTER, Keys.SPACE)
    assert opened(browser) == keys_in(many, pair.actual, pair.predicted)
    browser.find_element("css selector", "#cell .close").click()
    box = browser.find_element("css selector", "#filter")
    box.send_keys("bird 17")
    shown = [row.text.split("\n")[0] for row in browser.find_elements("css selector", "#cells tbody th")]
    number = many.classes.index("Bird 17")
    confused = np.flatnonzero(many.confusion[number] + many.confusion[:, number])
    assert sorted(shown) == sorted(many.classes[other] for other in {number, *confused})
    assert_no_errors(browser)


def test_the_map_shows_a_photo_under_the_pointer_and_its_class_by_colour(page, result, browser):
    browser.get(page.as_uri())
    points = json.loads(browser.execute_script("return document.getElementById('data').textContent"))["points"]
    colours = {chip.text: chip.find_element("css selector", "i").value_of_css_property("background-color")
               for chip in browser.find_elements("css selector", "#legend button")}  # fmt: skip
    assert len(set(colours.values())) == 6 and set(colours) == set(CLASSES)
    photo = 3
    hover(browser, "points", *(0.02 + 0.96 * points[axis][photo] / points["grid"] for axis in ("x", "y")))
    shown = int(says(browser, "points")[7:12])
    tip = browser.find_element("css selector", "#points ~ .tip")
    WebDriverWait(browser, 10).until(lambda _: tip.is_displayed())
    assert CLASSES[result.sample.labels[shown]] in tip.text
    assert tip.find_element("css selector", "img").get_property("naturalWidth") >= 72
    wanted = [int(value) for value in re.findall(r"\d+", colours[CLASSES[result.sample.labels[shown]]])[:3]]
    at = [0.02 + 0.96 * points[axis][shown] / points["grid"] for axis in ("x", "y")]
    pixel = browser.execute_script(
        "const canvas = document.getElementById('points'), [x, y] = arguments;"
        "return [...canvas.getContext('2d').getImageData(x * canvas.width, y * canvas.height, 1, 1).data]", *at,
    )  # fmt: skip
    assert np.abs(np.array(pixel[:3]) - wanted).max() < 80, "its class's colour, on light paper"
    browser.find_element("css selector", "#points").send_keys(Keys.SPACE)
    assert result.keys[shown] in browser.find_element("css selector", "#large").text
    assert_no_errors(browser)


def test_in_print_all_is_open_on_white_and_in_the_dark_the_page_is_dark(page_of_many, browser):
    def media(**emulated: Any) -> None:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)

    def style(selector: str, name: str) -> str:
        return browser.find_element("css selector", selector).value_of_css_property(name)

    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    media(features=dark)
    browser.get(page_of_many.as_uri())
    assert style("body", "background-color") == "rgba(22, 25, 28, 1)"
    assert style(".zoom", "background-color") == "rgba(255, 255, 255, 1)", "a plot for light pages has a light card"
    browser.execute_script("document.querySelector('details').open = false")
    browser.execute_cdp_cmd("Page.printToPDF", {})
    loaded = "return [...document.querySelectorAll('body > :not(dialog) .photo')].every((photo) => photo.querySelector('img'))"
    assert browser.execute_script(loaded) and browser.execute_script("return document.querySelector('details').open")
    media(media="print", features=dark)
    assert style("body", "background-color") == "rgba(255, 255, 255, 1)"
    assert style("#classes", "color") == "rgba(34, 38, 43, 1)"
    assert style(".long", "max-height") == "none" and style("nav", "display") == style(".bench", "display") == "none"
    assert_no_errors(browser)
