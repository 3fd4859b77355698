"""The console in a real Chromium, driven through chromedriver: with and without scripts, wide and at phone width.

Needs the Debian packages ``chromium`` and ``chromium-driver``, and ``selenium`` from PyPI.
``CONSOLE_SHOTS=DIR`` keeps screenshots there.
"""

# ruff: noqa: E501 (tables of cases, one a line)

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from console_site import IMAGE, KEY, SCRIPT, STATUS, Canned, Official, serve
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.integration

PHONE = (360, 740)
DESKTOP = (1440, 900)


class Browser:
    """One tab, and what the tests ask of it."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        # While a page makes room for the next one, what is asked of it may not be there, or not be there any more.
        gone = (JavascriptException, StaleElementReferenceException)
        return WebDriverWait(self.driver, 20, ignored_exceptions=gone).until(lambda _: condition(), what)

    def text(self, css: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", css))

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def sign_in(self, key: str = KEY) -> None:
        self.driver.get(f"{self.url}/console")
        self.one("#key").send_keys(key, Keys.ENTER)

    def live(self) -> None:
        """Signs in and waits until the scripts have drawn the status and the tools."""
        self.sign_in()
        self.wait(lambda: self.text("#live") == "● live", "the page is live")
        self.wait(lambda: self.text("#matches"), "the tools are listed")

    def open_tool(self, name: str) -> WebElement:
        for tool in self.all(".tool"):
            if tool.find_element(By.CSS_SELECTOR, ".tool-name").text == name:
                tool.find_element(By.CSS_SELECTOR, "summary").click()
                self.wait(partial(tool.find_elements, By.CSS_SELECTOR, ".trial"), f"the form of {name}")
                return tool
        raise AssertionError(f"no tool is named {name}")

    def run_tool(self, tool: WebElement) -> None:
        tool.find_element(By.CSS_SELECTOR, ".trial .primary").click()

    def result(self, tool: WebElement) -> str:
        """What the tool answered, once it has."""

        def done() -> str:
            text = str(tool.find_element(By.CSS_SELECTOR, ".result").text)
            return "" if text.startswith("Running") else text

        return str(self.wait(done, "the tool answers"))

    def shot(self, name: str) -> None:
        if folder := os.environ.get("CONSOLE_SHOTS"):
            height = self.js("return document.documentElement.scrollHeight")
            width = self.js("return innerWidth")
            self.size(width, min(height, 6000))
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(f"{folder}/{name}.png")

    def complaints(self) -> list[str]:
        """What the browser's console holds: errors, refused loads, violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def _driver(*, scripts: bool) -> Chrome:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.fail("chromium or chromedriver is missing; apt-get install -y chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                     "--force-prefers-reduced-motion"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return Chrome(options=options, service=ChromeService(driver))


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    made = _driver(scripts=True)
    yield made
    made.quit()


@pytest.fixture
def fleet() -> Canned:
    return Canned()


@pytest.fixture
def browser(driver: Chrome, fleet: Canned) -> Iterator[Browser]:
    """A signed-out tab at the canned fleet; at the end, the browser must have had nothing to complain of."""
    with serve(fleet) as url:
        tab = Browser(driver, url)
        driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        driver.get_log("browser")
        tab.size(*DESKTOP)
        yield tab
        complaints = [one for one in tab.complaints() if "status of 401" not in one]
        assert complaints == []
        assert tab.js("return window.hacked ?? null") is None
        driver.get("about:blank")


def test_sign_in_and_out(browser: Browser) -> None:
    browser.sign_in("wrong key")
    browser.wait(lambda: browser.all(".problem"), "the refusal")
    assert "not known" in browser.text(".problem")
    assert KEY not in browser.driver.page_source
    browser.shot("login")
    browser.sign_in()
    browser.wait(lambda: browser.all("#matrix"), "the console")
    assert browser.text(".principal") == "alice"
    assert KEY not in browser.driver.page_source
    assert browser.js("return document.cookie") == "", "cookies are out of the reach of scripts"
    [cookie] = [one for one in browser.driver.get_cookies() if one["name"] == "mcp_console_session"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    browser.one(".who button").click()
    browser.wait(lambda: browser.all("#key"), "the sign-in form")
    browser.driver.get(f"{browser.url}/console")
    assert browser.all("#key")


def test_the_matrix_shows_each_replica(browser: Browser) -> None:
    browser.live()
    row = browser.one('tr[data-server="ai_memory"]').text
    for part in ("degraded", "2025-11-25", "10.0.1.23:8000", "ejected", "breaker open", "probation", "breaker half-open",
                 "16 / 16", "9 of 128 waiting", "p99 12 s", "37 failed", "set aside"):  # fmt: skip
        assert part in row
    assert "–" in browser.one('tr[data-server="spare"]').text
    assert "2 d 4 h" in browser.text("#summary")
    assert "no replica of notion answers" in browser.text("#error-list")
    browser.scheme("light")
    browser.shot("desktop-light")
    browser.scheme("dark")
    browser.shot("desktop-dark")
    browser.scheme("light")


def test_the_page_follows_the_fleet(browser: Browser, fleet: Canned) -> None:
    browser.live()
    kept = browser.one('tr[data-server="ai_memory"]')
    fleet.state["servers"][0]["replicas"][1].update(state="ejected", healthy=False)
    fleet.state["servers"][0]["latency_ms"]["p50"] = 9.87
    browser.wait(lambda: "time is now degraded." in browser.text("#changes"), "the change is told")
    assert "9.9 ms" in browser.one('tr[data-server="time"]').text
    assert browser.one('tr[data-server="time"] .spark polyline').get_attribute("points")
    assert kept.is_displayed(), "rows that did not change are left alone"
    fleet.state["servers"].pop()
    fleet.state["draining"] = True
    browser.wait(lambda: len(browser.all("#matrix tr")) == len(fleet.state["servers"]), "a server that is gone")
    assert "draining" in browser.text("#summary")


def test_a_withdrawn_key_ends_the_page(browser: Browser, fleet: Canned) -> None:
    browser.live()
    fleet.keys.clear()
    fleet.keys["another"] = "bob"
    browser.wait(lambda: "Signed out" in browser.text("#live"), "the page says so")


def test_tools_are_found_as_one_types(browser: Browser) -> None:
    browser.live()
    assert len(browser.all(".tool")) == 6
    browser.one("#search").send_keys("forget EVERY")
    browser.wait(lambda: len(browser.all(".tool")) == 1, "the filter")
    assert browser.text("#matches") == "1 of 6"
    assert [one.text for one in browser.all(".badge.bad")] == ["destructive"]
    browser.one("#search").send_keys(" nothing")
    browser.wait(lambda: "No tool matches" in browser.text("#tool-list"), "the empty list")


def test_a_tool_is_tried(browser: Browser, fleet: Canned) -> None:
    browser.live()
    tool = browser.open_tool("time__get_time")

    def field(name: str) -> WebElement:
        return tool.find_element(By.CSS_SELECTOR, f'[data-name="{name}"]')

    def wrong() -> list[str]:
        return [one.text for one in tool.find_elements(By.CSS_SELECTOR, ".wrong") if one.text]

    browser.run_tool(tool)
    assert wrong() == ["timezone: required"]
    assert browser.driver.switch_to.active_element == field("timezone")
    field("timezone").send_keys("Europe/Zurich")
    field("digits").send_keys("12")
    field("more").send_keys("{x}")
    browser.run_tool(tool)
    assert len(wrong()) == 2
    assert wrong()[0] == "digits: at most 9"
    assert wrong()[1].startswith("more: no valid JSON")
    field("digits").send_keys(Keys.BACKSPACE, Keys.BACKSPACE, "3")
    field("more").clear()
    field("more").send_keys('{"x": 1}')
    field("offset").send_keys("-1.5")
    field("style").send_keys("long")
    field("utc").send_keys("true")
    tool.find_element(By.CSS_SELECTOR, ".list > button").click()
    browser.driver.switch_to.active_element.send_keys("one")
    browser.shot("tool-form")
    assert fleet.calls == []
    field("timezone").send_keys(Keys.CONTROL, Keys.ENTER)
    assert "2026-11-23T21:00:00+01:00" in browser.result(tool)
    arguments = {
        "timezone": "Europe/Zurich", "digits": 3, "offset": -1.5, "style": "long", "utc": True, "labels": ["one"], "more": {"x": 1},
    }  # fmt: skip
    assert fleet.calls == [("alice", {"name": "time__get_time", "arguments": arguments})]
    assert re.search(r"● Done\s+[\d.,]+ ms", browser.result(tool))


def test_results_of_each_kind(browser: Browser) -> None:
    browser.live()
    picture = browser.open_tool("time__picture")
    browser.run_tool(picture)
    browser.wait(lambda: picture.find_elements(By.CSS_SELECTOR, ".result img"), "the picture")
    browser.wait(lambda: browser.js("return document.querySelector('.result img').naturalWidth") == 24, "its pixels")
    failing = browser.open_tool("ai_memory__fail")
    browser.run_tool(failing)
    assert "✕ The tool reports an error" in browser.result(failing)
    assert "the store is read-only" in browser.result(failing)
    down = browser.open_tool("notion__create_page")
    browser.run_tool(down)
    for part in ("✕ Error -31001", "no replica of notion answers", '"retryAfterMs": 800'):
        assert part in browser.result(down)
    browser.shot("results")


def test_a_destructive_tool_asks_first(browser: Browser, fleet: Canned) -> None:
    browser.live()
    tool = browser.open_tool("ai_memory__wipe")
    browser.run_tool(tool)
    browser.wait(lambda: browser.one("#confirm").is_displayed(), "the question")
    assert "may destroy" in browser.text("#confirm-text")
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.wait(lambda: not browser.one("#confirm").is_displayed(), "the answer no")
    assert fleet.calls == []
    browser.run_tool(tool)
    browser.wait(lambda: browser.one("#confirm").is_displayed(), "the question again")
    browser.one("#confirm button[value=yes]").click()
    assert "all forgotten" in browser.result(tool)
    assert [params["name"] for _, params in fleet.calls] == ["ai_memory__wipe"]


def test_configurations_are_copied(browser: Browser) -> None:
    grant = {"origin": browser.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.live()
    read = "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))"
    browser.one('[data-client="claude-code"] .copy').click()
    browser.wait(lambda: browser.text('[data-client="claude-code"] .copy') == "Copied", "the button says so")
    command = f"claude mcp add --transport http fleet {browser.url}/mcp --header 'Authorization: Bearer YOUR_API_KEY'"
    assert browser.driver.execute_async_script(read) == command
    browser.one("#endpoint").send_keys("Only time")
    browser.wait(lambda: browser.text("#url").endswith("/servers/time/mcp"), "the other endpoint")
    browser.one('[data-client="cursor"] .copy').click()
    browser.wait(lambda: browser.text('[data-client="cursor"] .copy') == "Copied", "the button says so")
    copied = json.loads(browser.driver.execute_async_script(read))
    assert copied["mcpServers"]["time"]["url"] == f"{browser.url}/servers/time/mcp"


def test_text_of_servers_stays_text(browser: Browser) -> None:
    """Server name, tool, description, schema, errors and results hold markup; none of it becomes any."""
    browser.live()
    tool = browser.open_tool(f"time__{SCRIPT}")
    browser.run_tool(tool)
    shown = browser.result(tool)
    assert SCRIPT + IMAGE in shown
    for css, texts in {
        "#matrix": [SCRIPT, IMAGE],
        "#error-list": [SCRIPT, IMAGE],
        "#tool-list": [SCRIPT, IMAGE],
    }.items():
        assert all(text in browser.text(css) for text in texts), css
    assert browser.all("main script, main img[src=x], main [onerror]") == []
    assert browser.js("return window.hacked ?? null") is None


def _overflow(browser: Browser) -> list[str]:
    script = """
      return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('pre, .unseen, .skip')
        && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML.slice(0, 120));"""
    return (
        [] if browser.js("return document.documentElement.scrollWidth <= innerWidth") else browser.js(script) or ["?"]
    )


def test_phone(browser: Browser) -> None:
    browser.size(*PHONE)
    browser.driver.get(f"{browser.url}/console")
    assert _overflow(browser) == []
    browser.live()
    assert browser.js("return innerWidth") == 360
    assert _overflow(browser) == []
    browser.shot("phone")
    browser.size(*PHONE)
    tool = browser.open_tool("time__get_time")
    browser.run_tool(tool)
    browser.open_tool(f"time__{SCRIPT}")
    assert _overflow(browser) == []
    small = browser.js("""
      return [...document.querySelectorAll('button, input, select, textarea, summary, nav a')]
        .filter((e) => e.checkVisibility() && e.type !== 'checkbox' && e.getBoundingClientRect().height < 40)
        .map((e) => e.outerHTML.slice(0, 120));""")
    assert small == []
    browser.shot("phone-tool")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Browser, scheme: str) -> None:
    """Every text has at least 4.5:1 against the ground behind it (WCAG 2.2, 1.4.3, level AA)."""
    browser.scheme(scheme)
    browser.live()
    tool = browser.open_tool("notion__create_page")
    browser.run_tool(tool)
    browser.result(tool)
    poor = browser.js("""
      const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
      const found = [];
      for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.checkVisibility() || e.closest('noscript, svg')) continue;
        const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
        const ratio = (a + .05) / (b + .05);
        if (ratio < 4.5) found.push([ratio.toFixed(2), e.outerHTML.slice(0, 100)]);
      }
      return found;""")
    browser.scheme("light")
    assert poor == []


def test_controls_are_named_and_reached_by_keyboard(browser: Browser) -> None:
    browser.live()
    browser.open_tool("time__get_time")
    unnamed = [
        one.get_attribute("outerHTML")
        for one in browser.all("button, input, select, textarea, a, summary, [role=img]")
        if one.is_displayed() and not one.accessible_name
    ]
    assert unnamed == []
    assert {one.aria_role for one in browser.all("header, main, nav")} == {"banner", "main", "navigation"}
    browser.driver.refresh()
    browser.one("body").send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to content"
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_polling_rests_while_the_tab_is_hidden(browser: Browser) -> None:
    browser.live()
    first = browser.driver.current_window_handle
    seen = "return performance.getEntriesByName(location.origin + '/console/api/status').length"
    browser.driver.switch_to.new_window("tab")
    browser.driver.switch_to.window(first)
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    slow = """const real = fetch; window.fetch = async (...given) => {
        window.begun = true; await new Promise((done) => setTimeout(done, 1000)); return real(...given) };"""
    browser.js(slow)
    browser.wait(lambda: browser.js("return window.begun"), "a request is under way")
    browser.js(hide + "document.dispatchEvent(new Event('visibilitychange'))", True)
    assert browser.text("#live") == "paused"
    browser.driver.execute_async_script("setTimeout(arguments[0], 2000)")
    assert browser.text("#live") == "paused", "what was under way has ended"
    before = browser.js(seen)
    browser.driver.execute_async_script("setTimeout(arguments[0], 4500)")
    assert browser.js(seen) == before, "nothing is asked"
    browser.js(hide + "document.dispatchEvent(new Event('visibilitychange'))", False)
    browser.wait(lambda: browser.text("#live") == "● live", "it goes on")
    [other] = [one for one in browser.driver.window_handles if one != first]
    browser.driver.switch_to.window(other)
    browser.driver.close()
    browser.driver.switch_to.window(first)


def test_an_official_server_is_tried(driver: Chrome) -> None:
    with serve(Official()) as url:
        browser = Browser(driver, url)
        driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        browser.live()
        tool = browser.open_tool("add")
        tool.find_element(By.CSS_SELECTOR, '[data-name="a"]').send_keys("40")
        browser.run_tool(tool)
        browser.wait(lambda: browser.one("#confirm").is_displayed(), "a tool without annotations may destroy")
        browser.one("#confirm-always").click()
        browser.one("#confirm button[value=yes]").click()
        assert '"result": 42' in browser.result(tool)
        tool = browser.open_tool("divide")
        for name in ("a", "b"):
            tool.find_element(By.CSS_SELECTOR, f'[data-name="{name}"]').send_keys("0")
        browser.run_tool(tool)
        browser.wait(lambda: browser.one("#confirm").is_displayed(), "the question")
        browser.one("#confirm button[value=yes]").click()
        assert "The tool reports an error" in browser.result(tool)
        driver.get("about:blank")


@pytest.fixture(scope="module")
def plain() -> Iterator[Chrome]:
    """A Chromium that runs no scripts of pages."""
    made = _driver(scripts=False)
    yield made
    made.quit()


def test_without_scripts(plain: Chrome, driver: Chrome) -> None:
    """The page is complete, and what scripts draw later is what the server drew."""
    with serve(Canned()) as url:
        page = Browser(plain, url)
        page.size(*DESKTOP)
        page.sign_in()
        page.wait(lambda: page.all("#matrix"), "the console")
        assert page.one(".hint").is_displayed()
        source = plain.page_source
        for part in ("10.0.1.23:8000", "half-open", "no replica of notion answers", "claude mcp add", "time__get_time"):
            assert part in source
        assert len(page.all("#matrix tr")) == len(STATUS["servers"])
        tool = page.one(".tool")
        tool.find_element(By.CSS_SELECTOR, "summary").click()
        assert "Europe/Zurich" in tool.text
        page.shot("no-scripts")
        page.size(*PHONE)
        page.one("#search").send_keys("forget", Keys.ENTER)
        page.wait(lambda: len(page.all(".tool")) == 1, "the search")
        page.driver.get(f"{url}/console?server=time")
        assert page.one("#url").text == f"{url}/servers/time/mcp"
        plain.get(f"{url}/console")
        drawn = {css: page.one(css).get_attribute("innerHTML") for css in ("#matrix", "#error-list", "#summary")}

        live = Browser(driver, url)
        driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        live.live()
        live.js("document.querySelectorAll('.spark').forEach((one) => one.remove())")
        for css, markup in drawn.items():
            assert live.one(css).get_attribute("innerHTML") == markup
        page.one(".who button").click()
        page.wait(lambda: page.all("#key"), "signed out")
        driver.get("about:blank")
