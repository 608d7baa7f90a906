"""The status page on the wire: who gets it, and what keeps it from doing anything else."""

import re

import pytest

from support.control_plane import REMOTE, control_plane

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = ["page.css", "page.js", "poll.js", "verdict.js", "roles.js", "details.js", "timeline.js", "host.js", "words.js"]
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@pytest.fixture
async def plane():
    async with control_plane(allowed_addresses=["192.0.2.9"]) as made:
        yield made


def policy(headers):
    """The directives of the Content-Security-Policy."""
    directives = (each.split() for each in headers["content-security-policy"].split(";"))
    return {name: values for name, *values in directives}


async def test_a_browser_gets_the_page_and_a_program_a_list(plane):
    """Who types curl would get markup, or a person a list of paths."""
    status, headers, body = await plane.get("/", **BROWSER)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith("<!doctype html>")
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "text/plain"}):
        status, headers, body = await plane.get("/", **accept)
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert "/status.json" in body
        assert headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
async def test_nothing_of_the_page_can_load_or_send_elsewhere(plane, path):
    """An error text of somebody else's would become a script that reads what the operator sees."""
    status, headers, _ = await plane.get(path, **BROWSER)
    assert status == 200
    directives = policy(headers)
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == ["'self'"]
    assert directives["img-src"] == ["data:"]
    assert directives["frame-ancestors"] == directives["form-action"] == directives["base-uri"] == ["'none'"]
    assert directives["require-trusted-types-for"] == ["'script'"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_everything_else_keeps_the_stricter_policy(plane):
    """A document that is no page has no use for a script."""
    for path in ("/status.json", "/metrics", "/nothing", "/page/nothing"):
        _, headers, _ = await plane.get(path, **BROWSER)
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("name", FILES)
async def test_a_file_of_the_page_has_its_type(plane, name):
    """With nosniff a browser runs no script and applies no style of another type."""
    status, headers, body = await plane.get(f"/page/{name}")
    assert (status, headers["content-type"]) == (200, TYPES[name.rpartition(".")[2]])
    assert int(headers["content-length"]) == len(body.encode()) > 500


async def test_every_file_that_the_page_names_is_there(plane):
    """A page without its script says for ever that it asks the daemon."""
    _, _, page = await plane.get("/", **BROWSER)
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page))
    for name in FILES:
        if name.endswith(".js"):
            _, _, script = await plane.get(f"/page/{name}")
            named |= {f"page/{each}" for each in re.findall(r'from "\./([^"]+)"', script)}
    assert {"page/page.css", "page/page.js"} < named
    for path in named:
        assert (await plane.get(f"/{path}"))[0] == 200


async def test_nothing_in_the_page_comes_from_elsewhere(plane):
    """A host without internet would show it without style, and another site would learn who looks."""
    for path in ("/", *(f"/page/{name}" for name in FILES)):
        _, _, text = await plane.get(path, **BROWSER)
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|@import", text)
        assert not re.search(r"<style|<script>|\son\w+=|\sstyle=", text)


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
async def test_head_tells_the_length_and_sends_nothing(plane, path):
    """A probe by HEAD would wait for a body, or see an error."""
    _, expected, body = await plane.get(path, **BROWSER)
    status, headers, nothing = await plane.get(path, method="HEAD", **BROWSER)
    assert (status, nothing) == (200, "")
    assert int(headers["content-length"]) == int(expected["content-length"]) == len(body.encode())
    for method in ("POST", "PUT", "DELETE"):
        assert (await plane.get(path, method=method, **BROWSER))[0] == 405


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/page.css"])
async def test_another_host_does_not_get_it_before_it_is_named(plane, path):
    """It would show a form of the daemon to the whole network."""
    status, _, body = await plane.get(path, REMOTE, **BROWSER)
    assert status == 403
    assert "allowed_addresses" in body
    assert (await plane.get(path, "127.0.1.9", **BROWSER))[0] == 200


@pytest.mark.parametrize("path", ["/page/", "/page", "/page/../app.py", "/page/%2e%2e/app.py", "/page/__init__.py"])
async def test_only_the_files_of_the_page_are_served(plane, path):
    """A path that leads out of the folder would show whatever the daemon can read."""
    assert (await plane.get(path, **BROWSER))[0] == 404


async def test_pages_of_others_cannot_use_it(plane):
    """Another site's page would run the script, or show the page within itself."""
    for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        for path in ("/", "/page/page.js"):
            assert (await plane.get(path, **BROWSER, **headers))[0] == 403
    own = {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Origin": "http://127.0.0.1:9338"}
    assert (await plane.get("/page/page.js", **own))[0] == 200
