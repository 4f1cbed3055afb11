"""A real Chromium, without a window, that asks nobody but this machine for anything."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_AXE: Final = Path(__file__).parents[1] / "browser/vendor/axe.js"
_SWITCHES: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars"),
)
WITHIN: Final = 60.0  # seconds: the machine may be busy


class Page:
    """One window. Not thread-safe."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, link: str) -> None:
        self.driver.get("about:blank")  # another token alone would be the same page
        self.driver.get(link)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def find(self, selector: str) -> WebElement:
        found: list[WebElement] = self.until(lambda: self.every(selector))
        return found[0]

    def every(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, is_so: Callable[[], Any], within: float = WITHIN) -> Any:
        try:
            return WebDriverWait(self.driver, within, poll_frequency=0.1).until(lambda _: is_so())
        except Exception as error:
            raise AssertionError(f"not so within {within:.0f} s:\n{self.text()[:3000]}") from error

    def says(self, *words: str) -> None:
        self.until(lambda: all(word in self.text() for word in words))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def size(self, width: int, height: int) -> None:
        """Of what is inside the window."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, wanted: Literal["dark", "light"]) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": wanted}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def picture(self) -> bytes:
        """Of the window, as PNG."""
        return bytes(self.driver.get_screenshot_as_png())

    def heap(self) -> float:
        """MiB of what its scripts hold, after what is not needed any more is gone."""
        self.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        held = self.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})
        return float(held["usedSize"]) / 2**20

    def faults(self) -> list[str]:
        """What axe finds that is serious or worse, in one line each."""
        found = self.driver.execute_async_script(
            f"{_AXE.read_text()};\nconst done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(done);"
        )
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    def errors(self) -> list[str]:
        """What the browser itself found fault with since the last look."""
        return [one["message"] for one in self._log("browser")]

    def asked(self) -> list[str]:
        """The addresses of everything that was asked for since the last look."""
        logged = (json.loads(one["message"])["message"] for one in self._log("performance"))
        return [
            one["params"]["request"]["url"]
            for one in logged
            if one["method"] == "Network.requestWillBeSent"
        ]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return held


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for switch in (*_SWITCHES, f"--user-data-dir={folder}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = ChromeService(executable_path="/usr/bin/chromedriver")
        driver = Chrome(options=options, service=service)
        try:
            driver.set_script_timeout(WITHIN)
            yield Page(driver)
        finally:
            driver.quit()
