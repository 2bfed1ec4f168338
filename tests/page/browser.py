"""Headless Chromium for the tests of the page, and what they read from it."""

import base64
import shutil
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "no Chromium with its driver here (Debian: apt-get install chromium chromium-driver)"

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--lang=en-US",
)

FIELDS = """
const root = document.querySelector("[data-tick]");
if (!root) return null;
const fields = [...root.querySelectorAll("[data-field]")];
return {
  tick: root.dataset.tick,
  fields: fields.map((field) => [field.dataset.field, field.dataset.value, field.textContent]),
};
"""


def open_browser(profile: Path, *, width: int = 1180, height: int = 1500) -> webdriver.Chrome:
    """Start Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def set_media(browser: webdriver.Chrome, *, width: int, scheme: str = "light") -> None:
    """Show the page as on a screen of this width, dark or light."""
    metrics = {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def read_fields(browser: webdriver.Chrome) -> tuple[int, dict[str, tuple[str, str]]] | None:
    """Return the tick shown and path → (raw value, text), of one moment; None before a look."""
    found = browser.execute_script(FIELDS)
    if found is None:
        return None
    shown = {
        path: (value, text.replace("\N{NO-BREAK SPACE}", " "))
        for path, value, text in found["fields"]
    }
    return int(found["tick"]), shown


def console_errors(browser: webdriver.Chrome) -> list[str]:
    """Return what the browser complained about since the last call."""
    entries: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


def screenshot(browser: webdriver.Chrome, path: Path) -> None:
    """Keep a picture of the whole page, however tall."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(picture["data"]))
