"""The dashboard keeps the rules of Grafana's dashboard-linter (named in each test), and asks for what there is."""

import itertools
import json
import re
import subprocess
from collections import defaultdict

import pytest

from support import dashboard
from support.every_metric import samples

DASHBOARD = dashboard.load()
PANELS = dashboard.panels()
TARGETS = [target for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIED = [variable for variable in VARIABLES.values() if variable["type"] == "query"]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "short", "s", "reqps", "bytes", "percentunit", "string"}
"""Of Grafana's value formats those that are used."""
OF_TARGET = {"job", "instance"}

by_title = pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])


def label_lists(expr: str) -> set[str]:
    """What stands in the parentheses of by, on and group_left."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expr))))


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, set[str]]]:
    """Of each metric that there is, the labels and their values."""
    found = defaultdict(lambda: defaultdict(set))
    for sample in samples():
        found[sample.name].update({})
        for name, value in sample.labels.items():
            found[sample.name][name].add(value)
    return found | {"up": {}}


# The dashboard


def test_it_has_one_uid_and_a_schema_that_grafana_10_can_read():
    """The links of the alerts would lead nowhere, or an import would fail."""
    assert DASHBOARD["uid"] == "imds-proxy"
    assert 39 <= DASHBOARD["schemaVersion"] <= 42
    assert DASHBOARD["tags"]
    assert DASHBOARD["refresh"]


def test_it_is_not_editable():
    """uneditable-dashboard: edits in the browser are lost at the next provisioning."""
    assert DASHBOARD["editable"] is False


def test_the_data_source_is_chosen():
    """template-datasource-rule: an import would ask a data source that only its author has."""
    assert [variable["name"] for variable in VARIABLES.values() if variable["type"] == "datasource"] == ["datasource"]
    assert (VARIABLES["datasource"]["query"], VARIABLES["datasource"]["label"]) == ("prometheus", "Data source")


@pytest.mark.parametrize("name", ["job", "instance", "role"])
def test_job_instance_and_role_are_chosen(name):
    """template-job-rule, template-instance-rule: nobody could look at one host, or at all of them."""
    variable = VARIABLES[name]
    assert (variable["type"], variable["datasource"]) == ("query", DATASOURCE)
    assert (variable["label"], variable["multi"]) == (name.capitalize(), True)
    assert (variable["includeAll"], variable["allValue"]) == (True, ".+")


@pytest.mark.parametrize("variable", QUERIED, ids=[variable["name"] for variable in QUERIED])
def test_a_variables_values_are_those_of_a_label_that_there_is(variable, labels):
    """template-label-promql-rule, template-on-time-change-reload-rule: a list would be empty, or miss new hosts."""
    assert variable["refresh"] == 2
    found = re.fullmatch(r"label_values\((\w+)(\{.*\})?, (\w+)\)", variable["query"]["query"])
    assert found[3] == variable["name"]
    assert found[3] in OF_TARGET | labels[found[1]].keys()
    assert set(re.findall(r"\$(\w+)", found[2] or "")) < VARIABLES.keys()


# Panels


@by_title
def test_a_panel_says_what_it_shows_and_what_to_do(panel):
    """panel-title-description-rule, panel-no-targets-rule."""
    assert panel["title"]
    assert len(panel["description"]) > 60
    assert panel["targets"]


@by_title
def test_a_panel_asks_the_chosen_data_source(panel):
    """panel-datasource-rule."""
    assert panel["datasource"] == DATASOURCE
    assert {json.dumps(target["datasource"]) for target in panel["targets"]} == {json.dumps(DATASOURCE)}


@by_title
def test_a_panel_has_a_unit(panel):
    """panel-units-rule: nobody could tell seconds from hours."""
    fields = panel["fieldConfig"]
    units = [each["value"] for rule in fields["overrides"] for each in rule["properties"] if each["id"] == "unit"]
    assert {fields["defaults"]["unit"], *units} <= UNITS


@by_title
def test_a_column_that_is_dressed_up_is_there(panel):
    """A renamed column would lose its colours, and with them the reason to look at it."""
    if panel["type"] != "table":
        assert panel["fieldConfig"]["overrides"] == []
        return
    organize = panel["transformations"][-1]["options"]
    shown = set(organize["renameByName"].values())
    dressed = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    assert dressed <= shown
    assert panel["options"]["sortBy"][0]["displayName"] in shown
    several = len(panel["targets"]) > 1
    values = {f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]}
    assert values <= organize["renameByName"].keys()


def test_titles_ids_and_names_of_queries_are_unique():
    """A link to a panel would show another one."""
    for values in (
        [panel["id"] for panel in DASHBOARD["panels"]],
        [panel["title"] for panel in DASHBOARD["panels"]],
        *([target["refId"] for target in panel["targets"]] for panel in PANELS),
    ):
        assert len(set(values)) == len(values)


def test_the_panels_fill_the_grid_and_none_lies_on_another():
    """Grafana would push it aside, and the page would look like nothing that was ever looked at."""
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x, y in itertools.product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"]))
    ]
    assert len(set(cells)) == len(cells)
    assert len(cells) == 24 * (1 + max(y for _, y in cells)), "there is a gap"


# Expressions


@pytest.mark.parametrize("expr", sorted({target["expr"] for target in TARGETS}))
def test_an_expression_is_of_the_chosen_hosts_and_roles_and_of_metrics_that_there_are(expr, labels):
    """target-job-rule, target-instance-rule: other jobs' series, or none at all, would be shown."""
    found = list(dashboard.selectors(expr))
    assert found
    assert len(found) == len(re.findall(r"\b(?:imds_proxy|process)_\w+|\bup\b", expr)), "a metric without matchers"
    for metric, matchers in found:
        has = labels[metric] if metric in labels else pytest.fail(f"there is no {metric}")
        chosen = OF_TARGET | ({"role"} & has.keys())
        assert {name: value for name, value in matchers.items() if name in chosen} == {
            name: ("=~", f"${name}") for name in chosen
        }
        for name, (how, value) in matchers.items():
            if name not in chosen:
                assert [each for each in has[name] if re.fullmatch(value if "~" in how else re.escape(value), each)]
    assert label_lists(expr) <= OF_TARGET.union(*(labels[metric] for metric, _ in found))


@by_title
def test_a_legend_names_labels_that_are_left(panel):
    """Lines would be told apart by nothing."""
    for target in panel["targets"]:
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= label_lists(target["expr"])


@pytest.mark.parametrize("expr", [target["expr"] for target in TARGETS if "_total{" in target["expr"]])
def test_a_counter_is_seen_by_its_growth(expr):
    """target-counter-agg-rule: a restart would look like a fall, and an old count like a new one."""
    counters = re.findall(r"\w+_total\{", expr)
    assert len(counters) == len(re.findall(r"\b(?:rate|increase)\(\w+_total\{[^}]*\}\[", expr))


@pytest.mark.parametrize("expr", [target["expr"] for target in TARGETS if "rate(" in target["expr"]])
def test_a_rate_is_over_grafanas_interval(expr):
    """target-rate-interval-rule: a graph of a week would show a minute of each hour."""
    ranges = re.findall(r"\bi?rate\([^[]*\[([^]]*)\]", expr)
    assert ranges
    assert set(ranges) == {"$__rate_interval"}


def test_a_difference_of_times_comes_before_its_comparison():
    """`a < time() + 60` has a timestamp as its value: it would be shown as half a century."""
    assert [target["expr"] for target in TARGETS if re.search(r"[<>] *\(?time\(\)", target["expr"])] == []


def test_prometheus_can_read_every_expression(tmp_path):
    """target-promql-rule, and the expressions of annotations."""
    exprs = [expr for _, _, expr in dashboard.expressions()]
    annotations = [each["expr"] for each in DASHBOARD["annotations"]["list"] if "expr" in each]
    values = {"job": "x", "instance": "x", "__rate_interval": "1m"}
    exprs += [dashboard.substitute(expr, values) for expr in annotations]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(exprs)} rules found" in done.stdout


def test_the_panels_that_need_something_special_are_panels():
    """A renamed panel would be taken for one that always shows something, or the other way round."""
    assert dashboard.NEEDS.keys() < {panel["title"] for panel in PANELS}
