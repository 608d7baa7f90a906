"""A browser for the tests of the status page."""

import pytest
from playwright.sync_api import expect, sync_playwright

from support.browser import Visit, launch


@pytest.fixture(scope="module")
def browser():
    """One for a module: while it runs, no other event loop may run in this thread."""
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """`visit(url, **context)`: the status page, open until the test ends; the context's options are Playwright's.

    `prepare(page)` is called before anything is loaded.
    """
    visits = []

    def open_page(url, **context):
        visits.append(Visit(browser, url.rstrip("/") + "/", tmp_path, **context).__enter__())
        return visits[-1]

    yield open_page
    for each in visits:
        each.__exit__()
