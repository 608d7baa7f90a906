"""The README says what is true."""

import re
import tomllib
from pathlib import Path

import pytest

from imds_proxy.cli.main import parser
from imds_proxy.config.grants import GrantConfig, ServiceAccountsConfig
from imds_proxy.config.model import BaseKeyConfig, Config, InstanceConfig
from imds_proxy.config.output_files import OutputFileConfig
from imds_proxy.config.reader import parse
from imds_proxy.config.roles import ROLE_TABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_config_examples_are_valid(example):
    parse(tomllib.loads(example), "README.md")


def test_the_config_examples_name_every_key_and_every_source():
    models = [
        Config,
        OutputFileConfig,
        InstanceConfig,
        BaseKeyConfig,
        GrantConfig,
        ServiceAccountsConfig,
        *ROLE_TABLES.values(),
        *(field.annotation for field in Config.model_fields.values()),
    ]
    text = "".join(EXAMPLES)
    keys = {key for model in models for key in getattr(model, "model_fields", {})}
    assert {key for key in keys if not re.search(rf"\b{key.rstrip('_')}\b", text)} == set()
    assert [source for source in ROLE_TABLES if f'"{source}"' not in text and f"`{source}`" not in README] == []


def test_every_verb_it_shows_exists():
    verbs = set(parser()._subparsers._group_actions[0].choices)
    shown = set(re.findall(r"(?:`|bin/|\$\()imds-proxy ([a-z-]+)", README))
    assert len(shown) > 4
    assert shown <= verbs


def test_it_leads_to_the_metrics():
    """Who runs this looks for what to alert on here first."""
    assert "(grafana/README.md)" in README
    assert (ROOT / "grafana/README.md").exists()
