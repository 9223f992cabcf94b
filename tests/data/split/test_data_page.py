"""The data page reports the findings, shows the photos, and is self-contained."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import make_photo

from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.folder import FolderSource
from plumage.data.split.data_page import LISTED_REFUSED, write_data_page
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.data.split.official import Leak, split_report
from plumage.data.split.stratified import Photos

SCRIPT = "<script>window.hacked = 1"
COLORS = {
    "BLUE JAY": (60, 90, 200),
    "CARDINAL": (200, 40, 50),
    'Say "Tui" & <b>': (50, 170, 70),
    SCRIPT: (230, 140, 30),
}


def scene(seed: int, quality: int) -> bytes:
    """A picture of large shapes, which looks the same at any JPEG quality."""
    shapes = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shapes).resize((96, 80), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, list[str], dict[str, Any], dict[str, Any]]:
    """A data set with every kind of problem, its splits, and the reports of download and split."""
    folder = tmp_path_factory.mktemp("made")
    root = folder / "photos"
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for i in range(14 - 2 * number):
            shade = tuple(max(0, min(255, value + 12 * (i - 6))) for value in color)
            (root / name / f"{i:02d}.jpg").write_bytes(make_photo(shade, 100 * number + i, size=(40 + 4 * i, 48)))
    jay, cardinal = root / "BLUE JAY", root / "CARDINAL"
    (root / "blue  jay").mkdir()
    (root / "blue  jay" / "merged.jpg").write_bytes(make_photo((70, 90, 190), 901))
    (root / "README.md").write_text("not a photo")
    (jay / "empty.jpg").write_bytes(b"")
    (jay / "note <i>.jpg").write_text("no photo")
    (jay / "half.jpg").write_bytes(scene(1, 90)[:900])
    (jay / "small.jpg").write_bytes(make_photo((1, 2, 3), 902, size=(9, 7)))
    buffer = io.BytesIO()
    Image.new("L", (50, 60), 9).save(buffer, "JPEG")
    (jay / "grey.jpg").write_bytes(buffer.getvalue())
    (jay / "copy.jpg").write_bytes((jay / "00.jpg").read_bytes())
    for folder_of_conflict in (jay, cardinal):
        (folder_of_conflict / "conflict.jpg").write_bytes(make_photo((9, 99, 9), 903))
    for seed, folder_of_copy in ((10, jay), (11, cardinal)):
        (jay / f"near {seed}.jpg").write_bytes(scene(seed, 95))
        (folder_of_copy / f"near {seed} again.jpg").write_bytes(scene(seed, 60))
    source = FolderSource(root)
    about = {"source": "folder", "dataset": "owner/birds", "revision": "abc123"}
    about |= ingest(source, folder / "dataset", min_size=16, max_refused=1, processes=0)
    dataset = Dataset(folder / "dataset")
    splits = ["test" if i % 5 == 0 else "val" if i % 7 == 0 else "train" for i in range(len(dataset))]
    splits[dataset.keys.index("BLUE JAY/near 10.jpg")] = "unused"
    groups = group_near_duplicates(dataset.bytes_column("thumbnail"), 0.98)
    groups = [group for group in groups if "near" in dataset.keys[group[0]]]  # without the noisy planes
    leaks = [
        Leak([("BLUE JAY/near 10 again.jpg", "test"), ("BLUE JAY/near 10.jpg", "train")], "test"),
        Leak([("BLUE JAY/00.jpg", "val"), ("BLUE JAY/copy.jpg", "train")], "val"),
    ]
    about["refused"].append({"key": "<i></script><script>window.hacked = 1</script>", "reason": "zero bytes"})
    hashes = [row.tobytes() for row in dataset.bytes_column("sha256")]
    report = split_report(Photos(dataset.keys, dataset.labels, hashes, groups), splits, leaks)
    assert len(report["near_duplicates"]) == 2
    return dataset, splits, about, report


@pytest.fixture(scope="module")
def page(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "data.html"
    write_data_page(path, *made)
    return path


class Elements(HTMLParser):
    """The page's elements with their attributes, and the text under each heading."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.images: dict[str, int] = {}
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "h2":
            self._section = attributes["id"]
        if tag == "img":
            self.images[self._section] = self.images.get(self._section, 0) + 1
        if tag != "wbr":
            self.handle_data(" ")

    def handle_endtag(self, tag):
        self.handle_data(" ")

    def handle_data(self, data):
        self.text[self._section] = self.text.get(self._section, "") + data


@pytest.fixture(scope="module")
def elements(page: Path) -> Elements:
    return Elements(page.read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_page_is_self_contained(page, elements):
    targets = [
        value or ""
        for tag, attributes in elements.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert any(target.startswith("data:image/jpeg;base64,") for target in targets)
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"https?://|@import|url\(", page.read_text(encoding="utf-8"))
    ids = {attributes["id"] for _, attributes in elements.elements if "id" in attributes}
    assert {target[1:] for target in targets if target.startswith("#")} <= ids, "every link has a target"


def test_keys_and_labels_are_text_not_markup(elements):
    tags = [tag for tag, _ in elements.elements]
    assert tags.count("script") == 1, "the page's own"
    assert "i" not in tags
    assert tags.count("b") == 10, "the headline figures"
    assert SCRIPT in elements.text["sheets"] and 'Say "Tui" & <b>' in elements.text["classes"]


def test_the_same_inputs_give_the_same_bytes(made, page, tmp_path):
    write_data_page(tmp_path / "again.html", *made)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_headline_figures_and_the_source(made, elements):
    dataset, _, about, _ = made
    headline = words(elements.text[""])
    for expected in (
        f"Photos {len(dataset)} in the data set",
        "Classes 4 ",
        f"Refused {len(about['refused'])}",
        f"{about['bytes'] / 1e6:.1f} MB",
        "Repaired 1 ",
        "Exact duplicates 1 ",
        "Label conflicts 1 ",
        "Near-duplicates 2 groups, 1 across classes",
        "Leaks 2 ",
    ):
        assert expected in headline
    source = words(elements.text["source"])
    for expected in ("owner/birds", "abc123", ".md 1", "“BLUE JAY”, “blue jay”", f"none {len(dataset)}"):
        assert expected in source


def test_splits_overall_and_by_class(made, elements):
    dataset, splits, _, _ = made
    overall = words(elements.text["splits"])
    for split in ("train", "val", "test", "unused"):
        assert f"{split} {splits.count(split)} {100 * splits.count(split) / len(splits):.1f}%" in overall
    labels = np.array(dataset.labels)
    of_jay = [split for split, label in zip(splits, labels, strict=True) if label == "BLUE JAY"]
    row = " ".join(str(of_jay.count(split)) for split in ("train", "val", "test", "unused"))
    assert f"BLUE JAY {len(of_jay)} {row} " in words(elements.text["classes"])
    assert f"The largest is BLUE JAY ({len(of_jay)} photos), the smallest {SCRIPT}" in words(elements.text["classes"])


def test_sizes_and_brightness(made, elements):
    sizes, brightness = words(elements.text["sizes"]), words(elements.text["brightness"])
    assert "median 48" in sizes
    assert "Largest 96 × 80 BLUE JAY/near" in sizes
    assert elements.images["brightness"] == 16, "the darkest and the brightest"
    assert "BLUE JAY/grey.jpg BLUE JAY, 9" in brightness
    bars = [attributes for tag, attributes in elements.elements if tag == "rect"]
    assert max(float(bar["height"]) for bar in bars) == 100


def test_refused_photos_are_listed_by_reason_with_their_keys(made, elements):
    text = words(elements.text["refused"])
    for expected in ("zero bytes: 2", "not an image: 1", "too small: 1", "truncated: 1", "label conflict: 2"):
        assert expected in text
    for photo in made[2]["refused"]:
        assert words(f"{photo['key']} {photo['reason']}") in text
    assert "grey 1" in words(elements.text["repaired"])


def test_duplicates_near_duplicates_and_leaks_are_pictured_and_conflicts_listed(elements):
    near = words(elements.text["near-duplicates"])
    assert elements.images["near-duplicates"] == 4
    assert near.index("Suspicious: several classes") < near.index("near 11") < near.index("near 10"), (
        "groups with several classes first"
    )
    assert near.count("Suspicious") == 1
    assert elements.images["leaks"] == 4, "a left-out copy shows the kept photo"
    leaks = words(elements.text["leaks"])
    assert "Stays in test" in leaks and "train, now unused" in leaks
    assert "train, an exact copy of BLUE JAY/00.jpg" in leaks
    assert elements.images["duplicates"] == 1
    assert "BLUE JAY/copy.jpg" in elements.text["duplicates"]
    conflicts = words(elements.text["conflicts"])
    assert "BLUE JAY/conflict.jpg" in conflicts and "CARDINAL/conflict.jpg" in conflicts


def test_each_class_has_a_contact_sheet_of_photos_spread_over_it(made, elements):
    dataset = made[0]
    sheets = [attributes for tag, attributes in elements.elements if tag == "img"][-4:]
    assert [sheet["alt"] for sheet in sheets] == [
        f"{min(12, dataset.labels.count(label))} photos of {label}" for label in dataset.classes
    ]
    assert all(sheet["loading"] == "lazy" for sheet in sheets)
    assert {sheet["width"] for sheet in sheets} == {"320"}


def test_photos_of_any_format_are_shown_upright_and_cropped_to_squares(tmp_path):
    halves = Image.new("RGB", (90, 60), "red")
    halves.paste("blue", (45, 0, 90, 60))
    lying = Image.Exif()
    lying[0x0112] = 6  # rotate clockwise: red is on top
    standing = halves.rotate(-90, expand=True)
    for label in ("JAY", "OWL"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    halves.save(tmp_path / "photos" / "OWL" / "1.png")
    halves.resize((900, 600)).save(tmp_path / "photos" / "JAY" / "1.jpg", exif=lying)
    standing.save(tmp_path / "photos" / "JAY" / "2.png")
    standing.quantize(2).save(tmp_path / "photos" / "JAY" / "3.gif")
    about = ingest(FolderSource(tmp_path / "photos"), tmp_path / "dataset", min_size=16, max_refused=0, processes=0)
    dataset = Dataset(tmp_path / "dataset")
    write_data_page(tmp_path / "data.html", dataset, ["train", "val", "test", "train"], about, clean(dataset, about)[1])
    sheet = re.findall(r'src="data:image/jpeg;base64,([^"]+)" width="240"', (tmp_path / "data.html").read_text())
    image = Image.open(io.BytesIO(base64.b64decode(sheet[0])))
    assert image.size == (240, 80)
    for tile in range(3):
        red, blue = image.getpixel((80 * tile + 40, 8)), image.getpixel((80 * tile + 40, 72))
        assert red[0] > 200 > 60 > red[2] and blue[2] > 200 > 60 > blue[0]


def clean(dataset: Dataset, about: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    nothing = {"refused": [], "duplicates": [], "label_conflicts": [], "repaired": {}}
    kept = {name: about[name] for name in ("photos", "bytes", "classes", "splits", "photos_per_class")}
    return {**kept, **nothing}, {"photos": {}, "near_duplicates": [], "leaks": []}


def test_the_page_of_a_clean_data_set_reports_no_problems(made, tmp_path):
    about, report = clean(made[0], made[2])
    write_data_page(tmp_path / "data.html", made[0], ["train"] * len(made[0]), about, report)
    text = (tmp_path / "data.html").read_text(encoding="utf-8")
    for expected in ("No file was refused", "Nothing needed repair", "No photo appears twice", "No near-duplicates"):
        assert expected in text
    assert "unused" not in words(Elements(text).text["splits"])


def test_of_many_refused_photos_some_of_each_reason_are_listed_and_the_rest_counted(made, tmp_path):
    about, report = clean(made[0], made[2])
    about["refused"] = [{"key": f"JAY/{i}.jpg", "reason": "zero bytes"} for i in range(3000)]
    about["refused"] += [{"key": f"OWL/{i}.jpg", "reason": f"broken (OSError: {i})"} for i in range(5)]
    write_data_page(tmp_path / "data.html", made[0], ["train"] * len(made[0]), about, report)
    text = words(Elements((tmp_path / "data.html").read_text(encoding="utf-8")).text["refused"])
    assert "zero bytes: 3,000, 1,995 listed here, all in reports/data.json" in text
    assert text.count("OWL/") == 5
    assert text.count("JAY/") + text.count("OWL/") == LISTED_REFUSED


def visible(browser, selector: str) -> list[str]:
    return [item.text for item in browser.find_elements("css selector", selector) if item.is_displayed()]


def test_in_a_browser_lists_filter_and_sort_and_pictures_load_without_errors(page, browser):
    browser.get(page.as_uri())
    classes = "#class-table tbody th"
    assert len(visible(browser, classes)) == 4
    boxes = {box.get_attribute("aria-label"): box for box in browser.find_elements("css selector", ".filter input")}
    boxes["Filter classes"].send_keys("jay")
    assert visible(browser, classes) == ["BLUE JAY"]
    assert visible(browser, ".filter output")[:1] == ["1 of 4"]
    boxes["Filter classes"].send_keys("\ue009a\ue000\ue003")  # Control and a, Backspace
    assert len(visible(browser, classes)) == 4
    boxes["Filter by path or reason"].send_keys("too small")
    assert visible(browser, "#refused-table .kind") == ["too small: 1"]
    assert len(visible(browser, "#refused-table tbody tr:not(.kind)")) == 1
    boxes["Filter contact sheets"].send_keys("card")
    assert visible(browser, ".sheet h3") == ["CARDINAL"]

    by_class, by_count = browser.find_elements("css selector", "#class-table thead button")[:2]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", by_class)
    by_class.click()
    names = [name for name in visible(browser, classes) if name[0].isalpha()]
    assert names == sorted(names) and len(names) == 3
    by_count.click()
    counts = [int(count) for count in visible(browser, "#class-table tbody td:nth-child(3)")]
    assert counts == sorted(counts, reverse=True)

    loaded = "return [...document.images].every((image) => (image.loading = 'eager', true))"
    assert browser.execute_script(loaded)
    decoded = (
        "return Promise.all([...document.images].map((image) => image.decode())).then(() => document.images.length)"
    )
    assert browser.execute_script(decoded) == 16 + 4 + 4 + 1 + 4
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in asked if request["documentURL"] == page.as_uri()]
    assert asked[0] == page.as_uri()
    assert all(address.startswith("data:") for address in asked[1:])


def test_on_a_narrow_screen_the_page_does_not_scroll_sideways(page, browser):
    metrics_of_a_phone = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics_of_a_phone)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
