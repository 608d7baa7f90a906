"""Alert and recording rules: well-formed, as rendered, explained, and held against situations on both sides of each."""

import re
from pathlib import Path

import pytest

from support import alerts_of_hosts, alerts_of_roles
from support.alerts_of_roles import LABELS
from support.promtool import GRAFANA, promtool, rules, run_test
from support.simulated_host import healthy

SITUATIONS = [*alerts_of_roles.SITUATIONS, *alerts_of_hosts.SITUATIONS]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.says)
def test_these_alerts_fire_and_no_other(situation, tmp_path):
    """Somebody would be woken for nothing, or sleep while credentials end."""
    run_test(tmp_path, situation.as_test(), situation.step)


def test_every_alert_has_a_situation_in_which_it_fires_and_one_in_which_it_has_ended():
    """A rule that no test has seen fire may never fire."""
    names = {alert.name for alert in rules.ALERTS}
    fired, ended = set(), set()
    for situation in SITUATIONS:
        ever = set().union(*(each for _, each in situation.fires))
        fired |= ever
        ended |= {name for name in ever if any(name not in each for _, each in situation.fires)}
    assert (fired, ended) == (names, names)


def test_the_rules_are_what_promtool_takes_without_a_remark():
    """Prometheus would refuse the whole file."""
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", GRAFANA / "alerts.yaml", GRAFANA / "rules.yaml")
    assert f"SUCCESS: {len(rules.ALERTS)} rules found" in said


def test_the_rendered_files_are_those_of_the_description():
    """What is loaded would not be what is tested."""
    for name, text in rules.files().items():
        assert (GRAFANA / name).read_text() == text, f"{name}: make dashboards"


def test_the_runbook_has_a_section_for_every_alert_and_no_other():
    """A page at three in the morning would lead nowhere."""
    sections = re.findall(r"^### (\w+)$", (GRAFANA / "RUNBOOK.md").read_text(), re.MULTILINE)
    assert sections == [f"ImdsProxy{alert.name}" for alert in rules.ALERTS]
    for section in re.findall(r"\]\(#(\w+)\)", (GRAFANA / "RUNBOOK.md").read_text()):
        assert section in {each.lower() for each in sections}


def test_every_section_of_the_runbook_says_what_it_means_what_to_do_and_when_it_ends():
    """Somebody would have to know the daemon to help it."""
    text = (GRAFANA / "RUNBOOK.md").read_text()
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"\*\*Meaning\.\*\*.+\*\*Impact\.\*\*.+\*\*Look.+\*\*Ends\*\*", section, re.DOTALL), section


def test_a_message_says_who_and_for_how_long_and_leads_to_runbook_and_dashboard(tmp_path):
    """The first line on a telephone is all that there is at first."""
    series = healthy(60) | {
        f"imds_proxy_credential_{name}_timestamp_seconds{{{LABELS}}}": [value] * 60
        for name, value in {"expiration": 1800.0, "renewal_due": 900.0, "renewed": 1.0}.items()
    }
    situation = alerts_of_hosts.Situation("", series, [])
    labels = {"job": "imds-proxy", "instance": "web1:9338", "role": "deploy"}
    variables = "?var-job=imds-proxy&var-instance=web1%3A9338&var-role=deploy"
    annotations = {
        "summary": "Credentials of deploy on web1:9338 end in 5m 0s",
        "description": next(each.description for each in rules.ALERTS if each.name == "CredentialsExpireSoon"),
        "runbook_url": f"{rules.RUNBOOK}#imdsproxycredentialsexpiresoon",
        "dashboard_url": f"{rules.DASHBOARD}{variables}",
    }
    expected = {"exp_labels": labels | {"severity": "critical"}, "exp_annotations": annotations}
    test = situation.as_test() | {"promql_expr_test": []}
    test["alert_rule_test"] = [
        {"eval_time": "25m", "alertname": "ImdsProxyCredentialsExpireSoon", "exp_alerts": [expected]}
    ]
    run_test(tmp_path, test)


@pytest.mark.parametrize("alert", rules.ALERTS, ids=lambda alert: alert.name)
def test_where_an_alert_speaks_of_a_duration_its_value_is_one(alert):
    """A page would say that credentials end in 55 years."""
    if "humanizeDuration" in alert.summary:
        first = rules.render(alert.expr).split("<")[0].split(">")[0]
        assert re.search(r"time\(\)|abs\(imds_proxy_clock_skew_seconds\)", first), first


def test_the_recorded_series_are_what_their_names_say(tmp_path):
    """The fleet's row would show a host as alive whose role is dark."""
    series = {
        'imds_proxy_credential_expiration_timestamp_seconds{job="j",instance="i",role="a"}': [0.0] * 9,
        'imds_proxy_credential_expiration_timestamp_seconds{job="j",instance="i",role="b"}': [900.0] * 9,
        'imds_proxy_credential_expiration_timestamp_seconds{job="j",instance="k",role="b"}': [900.0] * 9,
        'imds_proxy_credential_renewal_due_timestamp_seconds{job="j",instance="i",role="a"}': [60.0] * 9,
        'imds_proxy_credential_renewal_due_timestamp_seconds{job="j",instance="i",role="b"}': [400.0] * 9,
        'imds_proxy_renewals_total{job="j",instance="i",role="b",outcome="denied"}': [float(each) for each in range(9)],
        'imds_proxy_requests_total{job="j",instance="i",protocol="imds_v2",document="a",status="200"}': [
            30.0 * each for each in range(9)
        ],
    }
    expected = {
        "instance:imds_proxy_credential_life_left_seconds:min": [({"instance": "i"}, 0), ({"instance": "k"}, 660)],
        "instance:imds_proxy_credential_renewal_overdue_seconds:max": [({"instance": "i"}, 180)],
        "instance_outcome:imds_proxy_renewals:increase1h": [({"instance": "i", "outcome": "denied"}, 8)],
        "instance_protocol_status:imds_proxy_requests:rate5m": [
            ({"instance": "i", "protocol": "imds_v2", "status": "200"}, 0.8)
        ],
    }
    assert expected.keys() == rules.RECORDS.keys()
    test = alerts_of_hosts.Situation("", series, []).as_test()
    test["promql_expr_test"] = [_recorded(name, values) for name, values in expected.items()]
    run_test(tmp_path, test)


def _recorded(name: str, values: list) -> dict:
    samples = []
    for labels, value in values:
        said = ", ".join(f'{key}="{each}"' for key, each in ({"job": "j"} | labels).items())
        samples.append({"labels": f"{name}{{{said}}}", "value": value})
    return {"expr": name, "eval_time": "4m", "exp_samples": samples}


def test_the_files_hold_no_name_of_a_machine_or_an_account():
    """An operator would have to look for what to replace; the two addresses are example domains (RFC 2606)."""
    for file in (*GRAFANA.glob("*.yaml"), Path(GRAFANA / "RUNBOOK.md")):
        addresses = re.findall(r"https?://([^/\s):]+)", file.read_text())
        known = {"runbooks.example.com", "grafana.example.com", "127.0.0.1", "sts.REGION.amazonaws.com"}
        assert set(addresses) <= known, file


def test_the_example_of_a_route_names_alerts_and_severities_that_there_are():
    """A matcher that fits nothing pages nobody, and says nothing."""
    text = (GRAFANA / "alertmanager.yaml").read_text()
    names = {f"ImdsProxy{alert.name}" for alert in rules.ALERTS}
    matchers = re.findall(r'alertname=~?"([^"]+)"', text)
    assert len(matchers) > 5
    for matcher in matchers:
        assert [name for name in names if re.fullmatch(matcher, name)], matcher
    severities = {alert.severity for alert in rules.ALERTS}
    assert severities == {"critical", "warning"}
    assert set(re.findall(r'severity="(\w+)"', text)) <= severities


def test_every_label_by_which_one_alert_silences_another_is_on_both():
    """Alertmanager takes two labels that are missing for equal: one host would silence another."""
    text = (GRAFANA / "alertmanager.yaml").read_text()
    labels = {"role": {"job", "instance", "role"}, "host": {"job", "instance"}, "job": {"job"}}
    for rule in re.split(r"- source_matchers: ", text)[1:]:
        source, target = re.findall(r'alertname=~?"([^"]+)"', rule)[:2]
        equal = set(re.search(r"equal: \[(.*)\]", rule)[1].split(", "))
        for alert in rules.ALERTS:
            if re.fullmatch(source, f"ImdsProxy{alert.name}"):
                assert equal <= labels[alert.about], alert.name
            # What is about a whole job is silenced by no host.
            if re.fullmatch(target, f"ImdsProxy{alert.name}") and alert.name != "NoTargets":
                assert equal <= labels[alert.about], alert.name
