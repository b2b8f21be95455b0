"""A real Chromium without a window, and the dashboard for it to look at."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from car_classifier.embedded_broker import LOOPBACK, free_port
from tests.scripts import SECONDS, Program

Found = TypeVar("Found")

_OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",  # small in containers
]


def missing_chromium() -> list[str]:
    """Return which of the programs that the browser tests need are not on this machine."""
    return [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]


class Browser:
    """A tab of a Chromium that knows nothing of earlier ones.

    Attributes:
        driver: Selenium's.
        downloads: the folder that downloads go to.
    """

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for option in [*_OPTIONS, f"--user-data-dir={folder / 'profile'}"]:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(str(shutil.which("chromedriver")))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(SECONDS)
        self.command(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads)
        )

    def command(self, name: str, **arguments: object) -> None:
        """Send Chromium a command of its developer tools."""
        self.driver.execute_cdp_cmd(name, arguments)

    def look(self, width: int, height: int, scheme: str, *, phone: bool = False) -> None:
        """Give the page a size in pixels, and a preference: light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        preference = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[preference])

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that match a CSS selector now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return what people read in the elements that match."""
        return [element.text for element in self.all(selector)]

    def press(self, selector: str, text: str) -> None:
        """Click the element that matches and has such a text, as soon as it is there."""
        button = self.wait_for(
            lambda: next((each for each in self.all(selector) if text in each.text), None)
        )
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def wait_for(self, look: Callable[[], Found | None]) -> Found:
        """Look until something is found and return it; fail, with the page's text, if nothing is.

        The page draws itself anew meanwhile: what vanishes while it is read is read again.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(StaleElementReferenceException):
                found = look()
                if found:
                    return found
            assert time.monotonic() < deadline, self.texts("body")
            time.sleep(0.1)


@contextlib.contextmanager
def running_dashboard(environment: Mapping[str, str]) -> Iterator[str]:
    """The page's address, as `make dashboard` prints it, while its server runs."""
    port = str(free_port())
    streamlit = Path(sys.executable).with_name("streamlit")  # as in a container
    with Program(
        [streamlit, "run", "dashboard/app.py", "--server.port", port], environment
    ) as server:
        server.wait_for_line(f"URL: http://{LOOPBACK}:{port}")
        yield f"http://{LOOPBACK}:{port}"
