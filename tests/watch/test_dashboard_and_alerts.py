"""Dashboard, alerts and runbook lead to one another."""

import re
from pathlib import Path

import yaml

from support import dashboard

GRAFANA = Path(__file__).parents[2] / "grafana"
DASHBOARD = dashboard.load()
ANNOTATIONS = [
    rule["annotations"]
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = DASHBOARD["links"][0]["url"]


def test_a_panel_leads_to_a_section_of_the_runbook():
    """Who sees a red number would have to look for what to do."""
    titles = re.findall(r"^### (\w+)$", (GRAFANA / "RUNBOOK.md").read_text(), re.MULTILINE)
    links = {link["url"] for panel in dashboard.panels() for link in panel.get("links", [])}
    assert links
    assert links <= {f"{RUNBOOK}#{title.lower()}" for title in titles}


def test_dashboard_and_alerts_know_the_same_runbook():
    """Whoever puts it in its place would mend one of the two."""
    assert {annotations["runbook_url"].partition("#")[0] for annotations in ANNOTATIONS} == {RUNBOOK}


def test_an_alert_opens_the_dashboard_with_what_it_is_about():
    """Who is paged would see the fleet, and look for the host in it."""
    urls = [annotations["dashboard_url"] for annotations in ANNOTATIONS]
    assert {url.partition("?")[0].rpartition("/")[2] for url in urls} == {DASHBOARD["uid"]}
    variables = {f"var-{variable['name']}" for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"[?&](var-\w+)=", " ".join(urls))) <= variables
