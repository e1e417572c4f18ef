"""Headless Chromium of the distribution, by its own driver; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_PATIENCE_S: Final = 15.0
_RUN: Final = """
const done = arguments[arguments.length - 1];
(async () => { %s })().then((value) => done({ value }), (error) => done({ error: `${error}` }));
"""


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser with one jar; every tab shares it."""

    driver: webdriver.Chrome

    def open(self, url: str) -> None:
        """Load a page in this tab, as somebody who types its address."""
        self.driver.get(url)

    def run(self, script: str) -> Any:
        """What an async function body returns on the page; an exception there is one here."""
        said = self.driver.execute_async_script(_RUN % script)
        assert "error" not in said, said["error"]
        return said["value"]

    def text(self) -> str:
        """What the page says."""
        return str(self.driver.execute_script("return document.body.innerText")).strip()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that the page brings about by itself."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def tab(self) -> str:
        """Open another tab, and turn to it."""
        self.driver.switch_to.new_window("tab")
        return str(self.driver.current_window_handle)

    def turn_to(self, tab: str) -> None:
        """Make a tab the one that is spoken to."""
        self.driver.switch_to.window(tab)

    def cookies(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """The whole jar by name, domain (a leading dot: not host-only) and path."""
        found = self.driver.execute_cdp_cmd("Network.getAllCookies", {})["cookies"]
        return {(each["name"], each["domain"], each["path"]): each for each in found}

    def names(self) -> list[str]:
        """The names in the jar, one for each copy."""
        return sorted(name for name, _, _ in self.cookies())

    def put(self, name: str, value: str, url: str, **given: Any) -> None:
        """A cookie as if an answer from `url` had set it; host-only unless `domain` has a dot."""
        cookie = {"name": name, "value": value, "url": url, **given}
        assert self.driver.execute_cdp_cmd("Network.setCookie", cookie)["success"]

    def forget(self, *origins: str) -> None:
        """A new visitor: empty jar, cache and storage, one empty tab."""
        first, *more = self.driver.window_handles
        for tab in more:
            self.turn_to(tab)
            self.driver.close()
        self.turn_to(first)
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        for origin in origins:
            everything = {"origin": origin, "storageTypes": "all"}
            self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)


@contextmanager
def chromium(spki: str) -> Iterator[Browser]:
    """A browser, for the length of the block; it trusts the certificate with that key."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")
    options.add_argument("--disable-gpu")
    # Not `--ignore-certificate-errors`: what came with an error is never cached.
    options.add_argument(f"--ignore-certificate-errors-spki-list={spki}")
    options.add_argument("--host-resolver-rules=MAP *.test 127.0.0.1")
    if os.geteuid() == 0:  # Chromium's sandbox will not start as root
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    try:
        driver.set_script_timeout(_PATIENCE_S)
        driver.set_page_load_timeout(_PATIENCE_S)
        yield Browser(driver)
    finally:
        driver.quit()


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: apt install chromium chromium-driver"
    return found
