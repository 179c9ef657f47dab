"""The pages, in each host: what is on them, and what cannot get onto them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event

from conduit.pages.words import prose
from conduit.seed import seed
from conduit.services.articles import ArticleService
from conduit.services.layer import ConduitManager
from conduit.services.tables import TagRow
from tests.examples.conduit.in_process import HOSTS, client_of, manager_at
from tests.examples.conduit.reader import Document, Reader
from tests.examples.conduit.visitors import Site, Visitor


@pytest.fixture
def reader(site: Site) -> Reader:
    return Reader(site.client)


def publish(author: Visitor, *tags: str, **fields: str) -> str:
    """Publish an article; gives its address."""
    new = {"title": "Tea", "description": "Hot", "body": "Leaves", "tagList": tags, **fields}
    answer = author.post("/articles", {"article": new})
    assert answer.status == 201, answer
    return f"/articles/{answer.json['article']['slug']}"


# --- What is on them --------------------------------------------------------------------------------------------------


def test_the_root_lists_the_newest_articles(site: Site, reader: Reader) -> None:
    ann = site.join()
    tag = site.new_name("tag")
    older = publish(ann, tag, title="Older")
    newer = publish(ann, tag, title="Newer", description="Fresh & green")
    page = reader.follow("/")
    assert page.status == 200
    assert page.document.texts("h1") == ["Newest articles"]
    assert page.document.titles[:2] == ["Newer", "Older"]
    assert (page.document.links["Newer"], page.document.links["Older"]) == (newer, older)
    assert page.document.links[ann.username] == f"/profiles/{ann.username}"
    assert "Fresh & green" in page.document.text
    assert page.document.links[tag] == f"/?tag={tag}"


def test_a_list_has_pages(site: Site, reader: Reader) -> None:
    ann = site.join()
    tag = site.new_name("two words & ")
    for number in range(7):
        publish(ann, tag, title=f"No. {number}")
    first = reader.open("/", tag=tag).document
    assert first.titles == [f"No. {number}" for number in (6, 5, 4, 3, 2)]
    assert "Page 1 of 2" in first.text
    second = reader.follow("/" + first.links["Older →"]).document
    assert second.titles == ["No. 1", "No. 0"]
    assert "Older →" not in second.links
    assert reader.follow("/" + second.links["← Newer"]).document.titles == first.titles


def test_a_tag_leads_to_its_articles(site: Site, reader: Reader) -> None:
    ann = site.join()
    tag = site.new_name("naïve tag?&#/%")
    publish(ann, tag, title="Tagged")
    publish(ann, title="Another")
    page = reader.follow(reader.follow("/").document.links[tag])
    assert page.document.texts("h1") == [f"Articles on {tag}"]
    assert page.document.titles == ["Tagged"]
    assert page.document.texts("a", aria_current="page") == [tag]


def test_a_tag_that_nothing_has_is_an_empty_list(reader: Reader) -> None:
    page = reader.open("/", tag="nothing has it")
    assert page.status == 200
    assert "Nobody has written about that." in page.document.text


def test_an_article_shows_its_text_and_what_was_said_in_order(site: Site, reader: Reader) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    address = publish(
        ann, "tea", title="How to steep", description="Slowly", body="*Ninety* seconds.\n\n- taste\n- pour"
    )
    slug = address.rpartition("/")[2]
    bob.comment(slug, "And then?\nWhat then?")
    ann.comment(slug, "Drink.")
    bob.post(f"/articles/{slug}/favorite")
    page = reader.follow(address)
    assert page.status == 200
    assert page.document.texts("h1") == ["How to steep"]
    assert page.document.texts("em") == ["Ninety"]
    assert page.document.texts("li", inside="div") == ["taste", "pour"]
    assert page.document.texts("h2") == ["2 comments"]
    said = page.document.texts("article", inside="section")
    assert ("And then? What then?" in said[0], "Drink." in said[1]) == (True, True)
    assert "1 favourite" in page.document.text
    assert page.document.links[bob.username] == f"/profiles/{bob.username}"


def test_a_profile_shows_a_person_and_what_they_wrote(site: Site, reader: Reader) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    ann.put("/user", {"user": {"bio": "Brews tea."}})
    publish(ann, title="By Ann")
    publish(bob, title="By Bob")
    page = reader.open(f"/profiles/{ann.username}")
    assert page.status == 200
    assert page.document.texts("h1") == [ann.username]
    assert "Brews tea." in page.document.text
    assert page.document.titles == ["By Ann"]


def test_a_profile_leads_to_favourites(site: Site, reader: Reader) -> None:
    ann, bob = site.join("ann"), site.join("bob")
    slug = publish(bob, title="By Bob").rpartition("/")[2]
    ann.post(f"/articles/{slug}/favorite")
    page = reader.follow(reader.open(f"/profiles/{ann.username}").document.links["Favourites"])
    assert page.document.titles == ["By Bob"]
    assert page.document.links[bob.username] == f"/profiles/{bob.username}"


@pytest.mark.parametrize("name", ["Ann of the Hill", "ünïcödé", "安", "a.b-c_d"])
def test_a_name_leads_to_its_profile(site: Site, reader: Reader, name: str) -> None:
    ann = site.join(name)
    page = reader.follow(reader.follow(publish(ann)).document.links[ann.username])
    assert page.document.texts("h1") == [ann.username]


@pytest.mark.parametrize("title", ["ünï cödé", "安 全", "100 % & more?"])
def test_a_title_leads_to_its_article(site: Site, reader: Reader, title: str) -> None:
    publish(site.join(), title=title)
    assert reader.follow(reader.follow("/").document.links[title]).document.texts("h1") == [title]


def test_every_page_has_landmarks_one_h1_and_a_title(site: Site, reader: Reader) -> None:
    ann = site.join()
    for target in ("/", publish(ann), f"/profiles/{ann.username}", "/nothing"):
        document = reader.follow(target).document
        assert [element.attributes for element in document.elements if element.tag == "html"] == [{"lang": "en"}]
        assert [len(document.all(tag)) for tag in ("h1", "main")] == [1, 1]
        outermost = [element.tag for element in document.elements if element.parents == ("html", "body")]
        assert outermost == ["a", "header", "main", "footer"]
        assert document.all("main")[0].attributes["id"] == "content"
        assert document.texts("title", inside="head")[0].endswith(" · Conduit")
        assert document.all("a")[0].attributes["href"] == "#content"


# --- What is not there ------------------------------------------------------------------------------------------------

NOWHERE = [
    "/nothing",
    "/articles",
    "/articles/",
    "/articles/none-1000000",
    "/articles/none-9999999999999999999",
    "/profiles/nobody at all",
    "/profiles/nul\0",
    "/profiles/nobody/favorites",
    "/static/style.css",
    "/templates/page.html",
    "/site.py",
    "/apis",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_a_page_that_is_none_is_a_page_that_says_so(reader: Reader, path: str) -> None:
    page = reader.open(path)
    assert page.status == 404
    assert page.document.texts("h1") == ["There is nothing here"]
    assert page.document.links["Read the newest articles"] == "/"


def test_a_page_behind_the_last_one_is_none(reader: Reader) -> None:
    assert reader.open("/", page=10**30).status == reader.open("/", tag="nothing has it", page=2).status == 404


@pytest.mark.parametrize("query", [{"page": 0}, {"page": -1}, {"page": "x"}, {"page": ""}, {"tag": "\0"}])
def test_parameters_that_make_no_sense_are_refused(reader: Reader, query: dict[str, Any]) -> None:
    page = reader.open("/", **query)
    assert page.status == 422
    assert f"Its {next(iter(query))} is invalid." in page.document.text


def test_the_api_stays_json(reader: Reader) -> None:
    for path in ("/api/nothing", "/api/articles/none-1000000"):
        answer = reader.ask(path)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert reader.ask("/api/users/login").status == 405


def test_pages_are_only_read(reader: Reader) -> None:
    head = reader.ask("/", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert [reader.ask("/", method).status for method in ("POST", "PUT", "DELETE")] == [405] * 3


def test_a_token_does_not_matter(site: Site) -> None:
    answer = site.client("GET", "/", {"Authorization": "Token of no use"}, b"")
    assert answer.status == 200


@pytest.mark.parametrize(("path", "kind"), [("/style.css", "text/css; charset=utf-8"), ("/icon.svg", "image/svg+xml")])
def test_the_files_are_there(reader: Reader, path: str, kind: str) -> None:
    answer = reader.ask(path)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)


# --- Hostile words ----------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</title></textarea></style><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp; &#60;",
    "<!-- -- ><h1>",
    "]]><script>",
]
HOSTILE_MARKDOWN = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "![x](javascript:alert(1))",
    "![x](http://example.org/tracker.gif)",
    "![x](/api/user)",
    "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    '![x](https://example.org/" onerror="alert(1))',
    '[x](https://example.org/" onclick="alert(1))',
    '[x](https://example.org "t\\" onclick=\\"alert(1)")',
    '```html" onclick="alert(1)\n<script>alert(1)</script>\n```',
    "    <script>alert(1)</script>",
    "<div><script>alert(1)</script></div>",
    "<style>body { display: none }</style>",
    "<base href=https://example.org>",
    '<iframe srcdoc="<script>alert(1)</script>">',
]
ELEMENTS = """
    html head meta title link body a header p main div h1 h2 h3 article section footer nav span bdi time ul ol li img
    em strong code pre blockquote hr br
"""
ATTRIBUTES = """
    lang charset name content rel href type class id dir datetime aria-hidden aria-labelledby aria-label aria-current
    src alt title loading decoding
"""


def assert_harmless(document: Document) -> None:
    """Nothing on a page runs, frames, styles or loads but what the templates put there."""
    for element in document.elements:
        assert element.tag in ELEMENTS.split(), element
        assert element.attributes.keys() <= set(ATTRIBUTES.split()), element
        if element.tag == "img":
            assert element.attributes["src"].startswith("https://"), element
        if element.tag == "link":
            assert element.attributes["href"] in ("/style.css", "/icon.svg"), element
        if element.tag == "a":
            assert element.attributes["href"].startswith(("/", "?", "#", "https://", "http://", "mailto:")), element


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_are_words(site: Site, reader: Reader, words: str) -> None:
    ann = site.join()
    assert ann.put("/user", {"user": {"bio": words, "image": words}}).status == 200
    address = publish(ann, words[:50], title=words, description=words, body=words)
    ann.comment(address.rpartition("/")[2], words)
    shown = " ".join(words.split())
    article = reader.follow(address)
    assert article.document.texts("h1") == [shown]
    assert article.document.texts("p", class_="said") == [shown]
    assert article.document.texts("title", inside="head") == [f"{shown} · Conduit"]
    profile = reader.follow(f"/profiles/{ann.username}")
    assert shown in profile.document.text
    tagged = reader.open("/", tag=words[:50])
    assert tagged.document.texts("h1") == [f"Articles on {' '.join(words[:50].split())}"]
    assert tagged.document.titles == [shown]
    for page in (article, profile, tagged, reader.follow("/"), reader.open(f"/{words}"), reader.open("/", page=words)):
        assert_harmless(page.document)


@pytest.mark.parametrize("body", HOSTILE_MARKDOWN)
def test_hostile_markdown_is_harmless(body: str) -> None:
    assert_harmless(Document(f"<body>{prose(body)}</body>"))


def test_hostile_markdown_is_harmless_in_every_host(site: Site, reader: Reader) -> None:
    page = reader.follow(publish(site.join(), body="\n\n".join(HOSTILE_MARKDOWN)))
    assert page.status == 200
    assert_harmless(page.document)


IMAGES = [
    "javascript:alert(1)",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "http://example.org/a.png",
    "//example.org/a.png",
    "/api/user",
    "https:javascript:alert(1)",
    " https://example.org/a.png",
    "nonsense",
]


@pytest.mark.parametrize("image", IMAGES)
def test_a_picture_that_is_not_loaded_over_https_is_none(site: Site, reader: Reader, image: str) -> None:
    ann = site.join()
    ann.put("/user", {"user": {"image": image}})
    document = reader.follow(f"/profiles/{ann.username}").document
    assert document.all("img") == []
    assert document.texts("span", aria_hidden="true") == ["A"]


def test_a_picture_over_https_covers_the_initials(site: Site, reader: Reader) -> None:
    ann = site.join()
    ann.put("/user", {"user": {"image": 'https://example.org/a.png?"><script>'}})
    page = reader.follow(f"/profiles/{ann.username}")
    assert [image.attributes["src"] for image in page.document.all("img", inside="span")] == [
        'https://example.org/a.png?"><script>'
    ]
    assert_harmless(page.document)


def test_nothing_is_allowed_to_run_or_load_on_any_page(site: Site, reader: Reader) -> None:
    for target in ("/", publish(site.join()), "/nothing", "/?page=x", "/style.css", "/icon.svg"):
        headers = reader.ask(target).headers
        rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert rules == {
            "default-src": "'none'",
            "style-src": "'self'",
            "img-src": "'self' https:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


# --- The database -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=HOSTS)
def hosted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ConduitManager, Site]]:
    dm = manager_at(f"sqlite:///{tmp_path_factory.mktemp(request.param)}/conduit.db")
    with client_of(request.param, dm) as client:
        yield dm, Site(client)
    dm.close()


@contextlib.contextmanager
def statements(dm: ConduitManager) -> Iterator[list[str]]:
    """What is asked of the database."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    engine = dm.get_client("db")
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_page_takes_as_many_statements_however_much_is_on_it(hosted: tuple[ConduitManager, Site]) -> None:
    dm, site = hosted
    reader = Reader(site.client)
    ann, bob = site.join("ann"), site.join("bob")
    address = publish(ann, "tea")
    slug = address.rpartition("/")[2]
    targets = ["/", "/?tag=tea", address, f"/profiles/{ann.username}", f"/profiles/{ann.username}/favorites"]

    def counts() -> list[int]:
        found = []
        for target in targets:
            with statements(dm) as seen:
                assert reader.follow(target).status == 200
            found.append(len([statement for statement in seen if statement.startswith("SELECT")]))
        return found

    ann.post(f"/articles/{slug}/favorite")
    bob.comment(slug)
    few = counts()
    for _ in range(5):
        eve = site.join("eve")
        other = publish(ann, "tea", "milk", eve.username).rpartition("/")[2]
        ann.post(f"/articles/{other}/favorite")
        eve.post(f"/articles/{slug}/favorite")
        eve.comment(slug)
    assert counts() == few == [4, 4, 5, 4, 4]


class Careless(ArticleService):
    def tags(self) -> list[str]:
        self._ctx.db.execute(delete(TagRow))
        return []


def test_a_page_cannot_write_by_mistake(hosted: tuple[ConduitManager, Site]) -> None:
    dm, site = hosted
    tag = site.new_name("kept")
    publish(site.join(), tag)
    with dm.override(services={"articles": Careless()}):
        assert site.client("GET", "/", {}, b"").status == 500
    assert tag in Reader(site.client).follow("/").document.links


def test_the_same_pages_come_from_all_hosts(tmp_path: Path) -> None:
    dm = manager_at(f"sqlite:///{tmp_path}/conduit.db")
    seed(dm)
    targets = [
        *["/", "/?page=2", "/?tag=radio", "/?page=x", "/profiles/ann", "/profiles/chioma/favorites", "/nothing"],
        *["/articles/an-answer-should-tell-the-truth-6", "/style.css", "/icon.svg"],
    ]
    pages = []
    for host in HOSTS:
        with client_of(host, dm) as client:
            pages.append([(answer.status, answer.body) for answer in map(Reader(client).ask, targets)])
    dm.close()
    first, *others = pages
    assert [status for status, _ in first] == [200, 200, 200, 422, 200, 200, 404, 200, 200, 200]
    for other in others:
        assert other == first


def test_an_empty_site_says_so(tmp_path: Path) -> None:
    dm = manager_at(f"sqlite:///{tmp_path}/conduit.db")
    with client_of("flask", dm) as client:
        document: Document = Reader(client).follow("/").document
    dm.close()
    assert "Nobody has written anything yet." in document.text
    assert document.all("nav") == []
