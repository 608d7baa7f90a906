"""A browser as a person uses it, and what it reports of a page."""

import os
import shutil
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP web-1.example 127.0.0.1",
]
SCREENSHOTS = "IMDS_PROXY_SCREENSHOTS"
"""A folder that gets the screenshots too, for somebody to look at."""


def launch(playwright):
    """Chromium without a window."""
    path = shutil.which("chromium")
    assert path, "the tests of the page need chromium"
    return playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)


class Visit:
    """One page of the status page, open in a browser; everything that it asks for or complains of is kept."""

    def __init__(self, browser, url, folder, prepare=None, **context):
        self.url, self.folder = url, folder
        context = {"viewport": DESK, "locale": "en-GB", "timezone_id": "UTC"} | context
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        if prepare is not None:
            prepare(self.page)
        self.requests, self.console, self.errors = [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))

    def __enter__(self):
        self.page.goto(self.url)
        self.page.locator("#headline").wait_for()
        return self

    def __exit__(self, *_):
        self.context.close()

    def card(self, role):
        heading = self.page.get_by_role("heading", name=role, exact=True)
        return self.page.locator("li.card").filter(has=heading)

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def screenshot(self, name, *, whole=True):
        """Into the test's folder, and into that of whoever looks."""
        folders = [self.folder, *([Path(os.environ[SCREENSHOTS])] if SCREENSHOTS in os.environ else [])]
        picture = self.page.screenshot(full_page=whole, animations="disabled")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(picture)

    def check(self, *, unanswered=False):
        """Nothing was asked of anywhere else, and the console is empty but for requests that went unanswered."""
        assert [url for url in self.requests if not url.startswith(self.url)] == []
        assert self.errors == []
        said = self.console
        if unanswered:
            said = [text for text in said if "Failed to load resource" not in text]
        assert said == []

    def check_accessibility(self):
        """axe-core finds nothing at all."""
        found = Axe().run(self.page)
        assert found.violations_count == 0, found.generate_report()
