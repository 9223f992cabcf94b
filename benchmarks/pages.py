"""How soon MLflow's pages and the report can be used: 50 runs of 100 epochs, 5 versions, 400 classes, in headless Chromium.

Plumage's own tracking code makes the store. Screenshots go beside it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROUNDS, Rows  # isort: split

from mlflow import MlflowClient
from mlflow_servers import free_port
from registering import NAME, TEST, TRAIN, hits, make_model, make_photos, write_predictions
from report_pages import make_result
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from plumage.common.class_names import ClassNames
from plumage.common.files import write_json
from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.evaluation.report import write_report
from plumage.evaluation.sample import Sample
from plumage.evaluation.write_plots import write_plots
from plumage.evaluation.write_tables import write_tables
from plumage.models.description import read_description
from plumage.registry.candidate import Candidate
from plumage.registry.gate import Gate
from plumage.registry.head_to_head import TestPhotos
from plumage.registry.model_card import ModelCardData, model_card
from plumage.registry.register import register
from plumage.registry.training_photos import write_training_photos
from plumage.tracking.open_run import training_run
from plumage.tracking.resume import log_evaluation_files
from plumage.tracking.run import Run
from plumage.tracking.saved_view import MODELS_PATH, NAVIGATION, view_path
from plumage.tracking.store import use_store

RUNS, EPOCHS, VERSIONS = 50, 100, 5
CLASSES, TEST_PHOTOS = 400, 4_000
COMPARED = 5
SECONDS = 20
"""After which a page counts as unusable."""

NOTE = (
    f"Seconds until a page can be used, with {RUNS} runs of {EPOCHS} epochs, {VERSIONS} versions and a report of {TEST_PHOTOS:,} "
    f"photos in {CLASSES} classes. A page is usable when what people come for is displayed, loaded and under the pointer. "
    "Headless Chromium with an empty cache and a window of 1,600 x 1,000 pixels; MLflow draws charts when they are scrolled to. "
    "`plumage ui` from its start to its first page."
)


def measure(parent: Path, photos: Path | None) -> Rows:
    """Time each page ROUNDS times, and look at each once: pages/*.png below `parent`."""
    root = store_of(parent)
    pages = pages_of(root)
    seconds: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        with served(root) as (address, answered):
            seconds.setdefault("`plumage ui` answers", []).append(answered)
            with chromium(parent / "profile") as browser:
                for name, (path, usable) in pages.items():
                    url = path if path.startswith(("file:", "document.")) else f"{address}/{path}"
                    seconds.setdefault(name, []).append(seconds_until(browser, url, usable))
                    if not number:
                        time.sleep(1)  # what still moves
                        browser.save_screenshot(str(root / f"{len(seconds):02d}.png"))
    return [
        {"page": name, "seconds": _figure(statistics.median(values)), "slowest": _figure(max(values))}
        for name, values in seconds.items()
    ]


def _figure(seconds: float) -> float | str:
    """A number, or text for a page that never became usable: JSON can't hold infinity."""
    return seconds if seconds < float("inf") else f"over {SECONDS}"


def pages_of(root: Path) -> dict[str, tuple[str, str]]:
    """Address, after the UI's, and what makes it usable, as JavaScript, of each page; or what to do on the page before it."""
    use_store(root)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("plumage").experiment_id
    runs = [run.info.run_id for run in client.search_runs([experiment], max_results=COMPARED)]
    compared = f"#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps([experiment])}&{NAVIGATION}"
    run, view = f"#/experiments/{experiment}/runs/{runs[0]}", view_path(experiment)
    matrices = "document.querySelectorAll('img[src*=confusion]')"
    model = f"#/models/{NAME}"
    return {
        "runs table": (view, f"reachable({_links('/runs/')}) && says('test/accuracy') && says('train.recipe')"),
        "charts of 10 runs": (
            f"{view}&compareRunsMode=CHART",
            "document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 30 && "
            "reachable('.js-plotly-plot')",
        ),
        "their confusion matrices, from scrolling there": (
            "document.querySelectorAll('div').values().filter((part) => part.innerText.startsWith('Confusion matrices'))"
            ".next().value.scrollIntoView()",
            f"{matrices}.length >= 10 && [...{matrices}].every((img) => img.complete && img.naturalWidth)",
        ),
        f"comparison of {COMPARED} runs": (
            compared,
            "says('val/accuracy') && says('Run details') && reachable('button')",
        ),
        "run": (f"{run}?{NAVIGATION}", "says('test/accuracy') && says('train.recipe') && reachable('[role=tab]')"),
        "run's charts": (f"{run}/model-metrics?{NAVIGATION}", "reachable('.js-plotly-plot')"),
        "run's confusion matrix": (
            f"{run}/artifacts/plots/confusion.png?{NAVIGATION}",
            "says('confusion.png') && [...document.images].some((img) => "
            "/confusion|blob:|artifact/.test(img.src) && img.naturalWidth > 400)",
        ),
        "run's report": (
            f"{run}/artifacts/report.html?{NAVIGATION}",
            "[...document.querySelectorAll('iframe')].some((frame) => frame.srcdoc || frame.src)",
        ),
        "registered models": (MODELS_PATH, f"reachable({_links('/models/')}) && says('{NAME}')"),
        "registered model": (
            f"{model}?{NAVIGATION}",
            f"says('Version {VERSIONS}') && says('champion') && reachable({_links('/versions/')})",
        ),
        "version": (f"{model}/versions/{VERSIONS}?{NAVIGATION}", "says('Intended use') && says('Gate:')"),
        "report": (
            (root / "reports" / "report.html").as_uri(),
            "document.readyState === 'complete' && reachable('h1') && "
            "[...document.images].slice(0, 8).every((img) => img.complete)",
        ),
    }


def _links(part: str) -> str:
    return json.dumps(f"a[href*='{part}']")


HELPERS = """
const says = (text) => document.body.innerText.includes(text);
const reachable = (selector) => [...document.querySelectorAll(selector)].some((element) => {
  const box = element.getBoundingClientRect();
  const top = box.width && document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  return top && (element.contains(top) || top.contains(element));
});
"""


def seconds_until(browser: Any, url: str, usable: str) -> float:
    """Seconds from asking for a page, or doing something on it, until the JavaScript `usable` is true of it."""
    action = browser.execute_script
    if not url.startswith("document."):
        action = browser.get
        browser.get("about:blank")
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    start = time.perf_counter()
    action(url)
    while time.perf_counter() < start + SECONDS:
        if browser.execute_script(f"{HELPERS} return document.body && ({usable})"):
            return time.perf_counter() - start
        time.sleep(0.05)
    return float("inf")


@contextmanager
def served(root: Path) -> Iterator[tuple[str, float]]:
    """The address of `plumage ui` for the store below `root`, and the seconds until it answered."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = time.perf_counter()
    command = [sys.executable, "-c", "from plumage.cli.main import main; main()", "ui", "--port", str(port)]
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not answers(f"http://127.0.0.1:{port}"):
            assert server.poll() is None, "the server ended"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    """Whether a server sends its page."""
    with suppress(OSError), urllib.request.urlopen(address, timeout=10):
        return True
    return False


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    switches = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
    for switch in (*switches, "disable-dev-shm-usage", f"user-data-dir={profile}", "window-size=1600,1000"):
        options.add_argument(f"--{switch}")
    browser = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield browser
    finally:
        browser.quit()
        shutil.rmtree(profile, ignore_errors=True)


def store_of(parent: Path) -> Path:
    """A folder with the store, kept for the next run."""
    root = parent / "pages"
    if not root.is_dir():
        draft = parent / "pages-draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            os.environ.pop(name, None)
        before = Path.cwd()
        os.chdir(draft)
        try:
            fill(draft)
        finally:
            os.chdir(before)
        draft.rename(root)
    return root


def fill(root: Path) -> None:
    """Write a report, log the runs with it, and register the last ones."""
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("{}\n")
    write_reports(root / "reports")
    dataset = make_photos(root / "dataset")
    for number in range(RUNS):
        params = {"data.source": "folder", "train.lr": (number + 1) / 1000, "train.recipe": ("probe", "finetune")[number % 2],
                  "model.name": "efficientnet_b0", "split.seed": 0}  # fmt: skip
        with training_run(root, "plumage", f"{number:x}", params) as run:
            rows = [{"epoch": epoch, **curves(epoch, number)} for epoch in range(1, EPOCHS + 1)]
            pd.DataFrame(rows).to_csv(root / "history.csv", index=False)
            run.log_history(root / "history.csv")
            log_evaluation_files(run)
            if number >= RUNS - VERSIONS:
                add_version(root, run, number, dataset)


def curves(epoch: int, number: int) -> dict[str, float]:
    """Metrics of an epoch."""
    loss = 3 * np.exp(-epoch / (20 + number)) + 0.01 * np.sin(epoch)
    names = ("train/loss", "val/loss", "train/lr", "train/seconds", "train/accuracy", "val/accuracy")
    return dict(zip(names, (loss, loss + 0.1, 0.001, 20.0, np.exp(-loss), np.exp(-loss - 0.1)), strict=True))


def write_reports(reports: Path) -> None:
    """What the evaluate stage leaves of many photos in many classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(TEST_PHOTOS) % CLASSES
    odds = np.exp(rng.normal(size=(TEST_PHOTOS, CLASSES)) + 6 * np.eye(CLASSES)[labels])
    sample = Sample(labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))
    result = make_result(sample, [f"Bird {number:03d}" for number in range(CLASSES)])
    write_tables(reports, result)
    write_plots(reports, result)
    write_report(reports, result)
    write_json(reports / "metrics.json", {"test": result.metrics["test"]})  # `val` would end the curves
    (reports / "label_errors.csv").write_text("key,label,suggested,score,split\n")


def add_version(root: Path, run: Run, number: int, dataset: Dataset) -> None:
    """Register a model of the run; each is better than the one before."""
    folder = root / f"models-{number}"
    models = make_model(folder / "models", number)
    metrics = json.loads((root / "reports" / "metrics.json").read_text())
    card = ModelCardData(
        name=NAME,
        description=read_description(models / "model.json"),
        parameters=3_400_000,
        params={"train.recipe": "probe", "model.weights": "imagenet", "split.strategy": "stratified"},
        data={"source": "folder", "photos_per_class": {"a": 30, "b": 50}},
        split_sizes={"train": 36_000, "val": 2_000, "test": TEST_PHOTOS},
        metrics=metrics,
        per_class=[],
        slices=[],
        lineage={"run": run.id, **run.lineage},
        machine={"processor": "any", "gpu": "none", "system": "Linux"},
    )
    (folder / "MODEL_CARD.md").write_text(model_card(card))
    correct = hits(20 + 8 * (number - RUNS + VERSIONS))
    write_predictions(folder / "predictions.csv", dataset, TEST, correct)
    write_training_photos(folder / "training_photos.parquet", dataset, TRAIN)
    candidate = Candidate(
        models, EPOCHS, metrics, folder / "predictions.csv", folder / "training_photos.parquet", folder / "MODEL_CARD.md",
        from_sample=False, provenance=[root / "params.yaml"],
    )  # fmt: skip
    register(root, run, candidate, Gate(Register(), TestPhotos(dataset, TEST, None, ClassNames({}))))
