"""What the pages of deploy/ show as config is config."""

import re
import tomllib
from pathlib import Path

import pytest

from imds_proxy.config.reader import parse

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = sorted((DEPLOY / "runtimes").glob("*.md"))
EXAMPLES = [
    (page.name, text) for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
]
FILES = sorted((DEPLOY / "container").glob("*.toml"))


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_a_config_on_a_page_is_valid(page, text):
    """Who copies it would have a daemon that does not start."""
    parse(tomllib.loads(text), page)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_config_beside_the_compose_files_is_valid(path):
    """The same."""
    parse(tomllib.loads(path.read_text()), path.name)


def test_each_runtime_has_an_entry_says_what_was_tried_and_is_short():
    """Somebody would take what was only thought for what was seen."""
    index = (DEPLOY / "runtimes/README.md").read_text()
    runtimes = [page for page in PAGES if page.name != "README.md"]
    assert len(runtimes) >= 6
    for page in runtimes:
        text = page.read_text()
        assert f"]({page.name})" in index
        assert "*Tried*" in text
        assert "*Reasoned*" in text
        assert text.count("\n") < 60


def test_the_files_that_a_page_names_are_there():
    """A link would lead nowhere."""
    for page in PAGES:
        for target in re.findall(r"\]\((\.\./container[^)]*|[\w-]+\.md)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
