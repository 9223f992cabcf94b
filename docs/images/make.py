"""Make the README's pictures: `python docs/images/make.py`, after `dvc repro` and two or three `dvc exp run`.

Headless Chromium takes screenshots of reports/report.html and of MLflow's runs page, saved as WebP beside this script. Commit only
pictures of the sample, which Plumage draws.
"""

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
WIDTH = 1200
"""Of the pictures, in pixels."""
REPORT_WIDTH, MLFLOW_WIDTH = 910, 1320
"""Of the windows, in CSS pixels: the narrower, the larger the text in the picture."""
MAX_BYTES = 150_000
TIMEOUT = 120
"""Seconds for a page to load; MLflow's server takes a while to start on a busy machine."""
SWITCHES = (
    "headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update",
    "disable-sync", "disable-dev-shm-usage", "hide-scrollbars",
)  # fmt: skip
MLFLOW_SETTINGS = {
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",  # else a chat panel opens over the page
    "mlflow.assistant.panelOpen_v1": "false",
    "databricks-dark-mode-pref": "light",
}
MLFLOW_STYLE = ".modebar, [data-assistant-ui] { display: none !important }"
"""Hides the charts' toolbars, which headless Chromium shows as if the mouse were over them."""


def main() -> None:
    """Take both pictures, or end with one line that says what is missing."""
    for path in ("reports/report.html", "mlflow.db"):
        if not (ROOT / path).is_file():
            sys.exit(f"error: {ROOT / path} is missing; run `dvc repro`")
    with browser() as chrome:
        save(report(chrome), FOLDER / "report.webp")
        with mlflow_ui() as runs:
            save(runs_page(chrome, runs), FOLDER / "mlflow.webp")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium with an empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        sys.exit("error: Chromium and its driver are missing; install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for switch in (*SWITCHES, f"user-data-dir={profile}"):
            options.add_argument(f"--{switch}")
        chrome = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


@contextmanager
def mlflow_ui() -> Iterator[str]:
    """Run `plumage ui` on a free port; yields the address of the first experiment's runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from plumage.cli.main import main; main()", "ui", "--port", str(port)]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("MLFLOW_TRACKING_URI", None)  # the store of this checkout
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # fmt: skip
    try:
        assert server.stdout is not None
        found = (re.search(r"http\S+/experiments/\d+/runs\S*", line) for line in server.stdout)
        address = next((match[0] for match in found if match), None)
        if address is None:
            sys.exit("error: `plumage ui` shows no experiment; run it to see why")
        wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(TIMEOUT):
        with suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return
        time.sleep(1)
    sys.exit(f"error: {address} does not answer")


def report(chrome: webdriver.Chrome) -> Image.Image:
    """The report from its head to the first mistakes."""
    resize(chrome, REPORT_WIDTH, 900)
    chrome.get((ROOT / "reports/report.html").as_uri())
    height = chrome.execute_script("return document.documentElement.scrollHeight")
    resize(chrome, REPORT_WIDTH, height)  # the whole page: nothing sticks to the window's top or loads late
    first = find(chrome, "#mistakes ~ .photos > *")
    screen, scale = screenshot(chrome), WIDTH / REPORT_WIDTH
    return screen.crop((0, 0, screen.width, round((bottom(first) + 8) * scale)))


def runs_page(chrome: webdriver.Chrome, address: str) -> Image.Image:
    """MLflow's saved view of the runs: curves and confusion matrices."""
    resize(chrome, MLFLOW_WIDTH, 1640)
    settings = f"Object.assign(localStorage, {json.dumps(MLFLOW_SETTINGS)})"
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": settings})
    chrome.get(f"{address}&compareRunsMode=CHART")
    find(chrome, ".js-plotly-plot")
    find(chrome, "img[src*=confusion]")
    chrome.execute_script(
        "const style = document.createElement('style'); style.textContent = arguments[0]; document.head.append(style)",
        MLFLOW_STYLE,
    )
    return screenshot(chrome)


def resize(chrome: webdriver.Chrome, width: int, height: int) -> None:
    """Set the window's size in CSS pixels, scaled to WIDTH pixels of the screen."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": WIDTH / width, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def find(chrome: webdriver.Chrome, selector: str) -> WebElement:
    """The first element of a CSS selector, once it is there."""
    try:
        return WebDriverWait(chrome, TIMEOUT).until(lambda page: page.find_element(By.CSS_SELECTOR, selector))
    except WebDriverException:
        sys.exit(f"error: {chrome.current_url} has no {selector}; did the page change?")


def bottom(element: WebElement) -> float:
    return element.rect["y"] + element.rect["height"]


def screenshot(chrome: webdriver.Chrome) -> Image.Image:
    """The window, once two screenshots a second apart are the same."""
    before = b""
    for _ in range(TIMEOUT):
        time.sleep(1)
        png = base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
        if png == before:
            break
        before = png
    return Image.open(io.BytesIO(png)).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a WebP file of at most MAX_BYTES."""
    for quality in range(90, 20, -5):
        picture.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= MAX_BYTES:
            break
    print(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height} pixels, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
