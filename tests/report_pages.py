"""Reports with everything that they can have, and what tests do with their pages in a browser."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from selenium.webdriver import ActionChains

from plumage.evaluation.example_photos import ExamplePhoto
from plumage.evaluation.examples import choose_examples
from plumage.evaluation.provenance import Provenance
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


def some_webp(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (72, 72), (seed * 37 % 256, seed * 11 % 256, 90)).save(buffer, "WEBP")
    return buffer.getvalue()


def make_result(sample: Sample, classes: list[str], resamples: int = 100, **changes: Any) -> EvaluationResult:
    """A result with everything that it can have, but label errors; with `changes` of its fields."""
    examples = choose_examples(sample, photos=24, pairs=20, classes=400)
    heat = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    flat = sample.probabilities**0.6
    uncalibrated = Sample(sample.labels, flat / flat.sum(axis=1, keepdims=True))
    made = EvaluationResult(
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
        train_counts=np.full(len(classes), 12),
        typical_side=96,
        thumbnails={index: some_webp(index) for index in range(len(sample))},
        provenance=Provenance(
            "c0ffee" * 6, "2026-11-27 01:45 UTC", True, "", "885135d64b136c0e", "da7a" * 8, "5917" * 8
        ),
    )
    return replace(made, **changes)


def written(result: EvaluationResult, folder: Path) -> Path:
    (folder / "plots").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(folder / "plots" / "history.png")
    write_report(folder, result)
    return folder / "report.html"


def assert_no_errors(browser: Any) -> None:
    """The browser logged nothing, and no name ran as code."""
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []


def says(browser: Any, canvas: str) -> str:
    return browser.find_element("css selector", f"#{canvas}-says").text


def scale(browser: Any, canvas: str) -> float:
    return float(browser.find_element("css selector", f"#{canvas}").get_attribute("data-scale"))


def hover(browser: Any, canvas: str, x: float, y: float) -> None:
    """Move the pointer to (x, y), each 0 to 1, of the area that the canvas shows beside its names."""
    element = browser.find_element("css selector", f"#{canvas}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    size, inset = element.size["width"], float(element.get_attribute("data-inset"))
    across, down = inset + x * (size - inset), y * (size - inset)
    move = ActionChains(browser).move_to_element_with_offset(element, round(across - size / 2), round(down - size / 2))
    move.perform()
