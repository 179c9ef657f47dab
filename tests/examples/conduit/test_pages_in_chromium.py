"""The pages in a real browser, from a real server: how they look, and that they need no JavaScript, mouse or network."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.examples.conduit.in_process import HOSTS
from tests.examples.conduit.programs import ADDRESS, client_to, running
from tests.examples.conduit.visitors import Site
from tests.services import chromium

PAGES = [
    *["/", "/?page=2", "/?tag=backend", "/profiles/ann", "/profiles/chioma/favorites", "/nothing"],
    "/articles/an-answer-should-tell-the-truth-6",
]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Chromium would look for updates and for what it can do better, elsewhere.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(host: str, folder: Path) -> Iterator[str]:
    """The address of a host that serves the seed."""
    words = ["conduit.serve", "--app", host, "--port", "0", "--seed"]
    with running(folder, *words, database=f"sqlite:///{folder}/conduit.db") as program:
        yield f"http://127.0.0.1:{program.wait_for(ADDRESS)}"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("starlette", tmp_path_factory.mktemp("browser")) as address:
        yield address


@pytest.fixture(scope="module")
def unwieldy(address: str) -> str:
    """An article of long words, hostile ones among them."""
    site = Site(client_to(int(address.rpartition(":")[2])))
    ann = site.join("W" * 40)
    words = "<script>alert(1)</script> " + "unbreakable" * 18
    ann.put("/user", {"user": {"bio": words * 2, "image": "javascript:alert(1)"}})
    body = (
        f"{words}\n\n# {words}\n\n```\n{words}\n```\n\n- {words}\n\n> [{words}](javascript:alert(1))\n\n![x](/nothing)"
    )
    new = {"title": words, "description": words, "body": body, "tagList": ["t" * 50, "<b>"]}
    slug: str = ann.post("/articles", {"article": new}).json["article"]["slug"]
    ann.comment(slug, words)
    return f"/articles/{slug}"


@contextlib.contextmanager
def visiting(browser: Browser, address: str, *, expecting: str = "status of 404", **options: Any) -> Iterator[Page]:
    """A window of the browser; whatever else it complains of, or asks of anybody else, is an error."""
    complaints: list[str] = []
    context = browser.new_context(base_url=address, **options)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: request.url.startswith(address) or complaints.append(request.url))
    yield page
    context.close()
    assert [complaint for complaint in complaints if expecting not in complaint] == []


# --- How they look ----------------------------------------------------------------------------------------------------

# What stands out of the window on the right, or out of the column.
OUTSIDE = """() => [...document.querySelectorAll("body *")]
    .filter(element => !element.matches(".skip") && element.getBoundingClientRect().right > innerWidth + 1)
    .map(element => element.outerHTML)"""


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_everything_fits(browser: Browser, address: str, unwieldy: str, size: Any) -> None:
    with visiting(browser, address, viewport=size) as page:
        for path in [*PAGES, unwieldy]:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") == size["width"], path
            assert page.evaluate(OUTSIDE) == [], path


def test_a_line_of_an_article_is_as_long_as_one_likes_to_read(browser: Browser, address: str) -> None:
    with visiting(browser, address, viewport=DESK) as page:
        page.goto(PAGES[-1])
        width, size = page.evaluate(
            """() => {
                const text = document.querySelector(".prose p");
                return [text.getBoundingClientRect().width, parseFloat(getComputedStyle(text).fontSize)];
            }"""
        )
    assert 16 <= size <= 22
    assert 55 <= width / (size * 0.5) <= 80  # characters


def background(page: Page) -> float:
    """How light it is, from 0 to 1."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour))) / (3 * 255)


def test_there_is_a_light_and_a_dark_page(browser: Browser, address: str) -> None:
    with visiting(browser, address, color_scheme="light") as page:
        page.goto("/")
        assert background(page) > 0.9
        page.emulate_media(color_scheme="dark")
        assert background(page) < 0.2


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(browser: Browser, address: str, unwieldy: str, scheme: Any, size: Any) -> None:
    """By the rules of axe-core: contrast, landmarks, headings, names of links, sizes of what is tapped."""
    with visiting(browser, address, viewport=size, color_scheme=scheme) as page:
        for path in [*PAGES, unwieldy]:
            page.goto(path)
            found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
            assert found.violations_count == 0, found.generate_report()


def test_a_name_has_its_colour_where_there_is_no_picture(browser: Browser, address: str) -> None:
    with visiting(browser, address) as page:
        page.goto("/profiles/ann")
        avatar = page.locator(".person .avatar")
        assert avatar.inner_text() == "A"
        assert avatar.evaluate("avatar => getComputedStyle(avatar).backgroundColor") != "rgba(0, 0, 0, 0)"


# --- How one gets about -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_one_reads_without_javascript(browser: Browser, tmp_path: Path, host: str) -> None:
    with serving(host, tmp_path) as address, visiting(browser, address, java_script_enabled=False) as page:
        page.goto("/")
        assert page.title() == "Newest articles · Conduit"
        page.get_by_role("link", name="Older").click()
        assert page.url == f"{address}/?page=2"
        page.get_by_role("link", name="The hum was the fridge").click()
        assert page.get_by_role("heading", level=1).inner_text() == "The hum was the fridge"
        assert page.get_by_role("article").last.inner_text().endswith("Did the fridge have a name?")
        page.get_by_role("link", name="dmitri").first.click()
        page.get_by_role("link", name="Favourites").click()
        page.get_by_role("link", name="Your retry loop is a load test").click()
        page.get_by_role("link", name="databases").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Articles on databases"
        page.get_by_role("link", name="All articles").click()
        assert page.url == f"{address}/"
        page.goto("/nothing")
        page.get_by_role("link", name="Read the newest articles").click()
        assert page.url == f"{address}/"


def test_one_reads_without_a_mouse(browser: Browser, address: str) -> None:
    with visiting(browser, address, viewport=PHONE) as page:
        page.goto("/?tag=walks")
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        assert page.locator(":focus").bounding_box()["y"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")  # behind the header
        assert page.locator(":focus").get_attribute("href") == "/profiles/chioma"
        page.keyboard.press("Tab")
        assert page.locator(":focus").evaluate("link => getComputedStyle(link).outlineWidth") == "3px"
        page.keyboard.press("Enter")
        page.wait_for_url("**/articles/walking-the-river-at-low-water-8")


def test_what_slips_in_does_not_run(browser: Browser, address: str) -> None:
    refused = "violates the following Content Security Policy directive"
    with visiting(browser, address, expecting=refused) as page:
        page.goto("/")
        page.evaluate("window.ran = false")
        with page.expect_console_message(lambda message: refused in message.text):
            page.evaluate(
                """() => {
                    const script = document.createElement("script");
                    script.textContent = "window.ran = true";
                    document.body.append(script);
                }"""
            )
        assert page.evaluate("window.ran") is False
