"""The dashboard: what its panels have in common, and its rows in their order. `render.py` writes it."""

import json
from typing import Any, Final

from about_callers import CALLERS
from about_fleet import FLEET
from about_hosts import HOSTS, PROCESS
from about_roles import FIRST, ROLES
from grid import place
from panels import DATASOURCE, RUNBOOK, Json
from queries import of_hosts

UID: Final = "imds-proxy"
TITLE: Final = "imds-proxy"
_SCHEMA: Final = 39  # of Grafana 10.4; newer ones migrate it when they load it

_AWAY: Final = {
    "1 hour": 3600,
    "4 hours": 14400,
    "8 hours": 28800,
    "16 hours": 57600,
    "3 days": 259200,
    "7 days": 604800,
}
_AWAY_FIRST: Final = "16 hours"


def files() -> dict[str, str]:
    """The rendered dashboard, by its file's name."""
    return {"imds-proxy.json": json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"}


def dashboard() -> Json:
    """The classic JSON."""
    rows = {
        "": FIRST,
        "Roles": ROLES,
        "The fleet, if AWS went away now": FLEET,
        "Callers": CALLERS,
        "What hosts depend on": HOSTS,
        "The process": PROCESS,
    }
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Temporary AWS credentials on hosts: will anything expire before you are back?",
        "tags": ["aws", "credentials", "imds-proxy"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "annotations": {"list": [_alerts(), _restarts()]},
        "templating": {"list": _variables()},
        "panels": place(rows),
    }


def _variables() -> list[Json]:
    info, role = "imds_proxy_build_info", of_hosts("imds_proxy_role_info")
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        _of_label("job", info),
        _of_label("instance", f'{info}{{job=~"$job"}}'),
        _of_label("role", role),
        _away(),
    ]


def _of_label(name: str, series: str) -> Json:
    """A label's values, any number of them, all at first; looked up again when the time range changes."""
    query = f"label_values({series}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"{name}-variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _away() -> Json:
    """How long nobody will look, in seconds."""

    def option(text: str) -> dict[str, Any]:
        return {"selected": text == _AWAY_FIRST, "text": text, "value": str(_AWAY[text])}

    return {
        "name": "away",
        "label": "Back in",
        "description": "How long nobody will look: what ends within it is counted.",
        "type": "custom",
        "query": ", ".join(f"{text} : {seconds}" for text, seconds in _AWAY.items()),
        "options": [option(text) for text in _AWAY],
        "current": option(_AWAY_FIRST),
        "multi": False,
        "includeAll": False,
    }


def _link() -> Json:
    tip = "What each alert means, and what to do"
    return {"type": "link", "title": "Runbook", "url": RUNBOOK, "tooltip": tip, "icon": "doc", "targetBlank": True}


def _alerts() -> Json:
    """Grafana's own, which every dashboard has."""
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _restarts() -> Json:
    started = of_hosts("process_start_time_seconds")
    return {
        "name": "Daemon starts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": f"changes({started}[$__rate_interval]) > 0",
        "step": "60s",
        "titleFormat": "The daemon was started",
        "textFormat": "{{instance}}",
        "tagKeys": "instance",
    }
