"""Grafana's classic dashboard JSON: a panel of each kind."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
RUNBOOK: Final = "https://runbooks.example.com/imds-proxy/RUNBOOK.md"
"""Where RUNBOOK.md is for whoever looks at the dashboard: replace it, here or in the rendered file."""
_STEP: Final = "1m"  # between two points of a graph, or more: nothing here changes faster, and fleets are large
_NAMES: Final = "ABCDEFGHIJ"

ZERO_IS_GOOD: Final = (("green", None), ("red", 1))
PLAIN: Final = (("text", None),)

Thresholds = Sequence[tuple[str, float | None]]
"""Colours, each with the value it begins at."""


def text_for(values: Mapping[int, tuple[str, str]]) -> Json:
    """A word and a colour in place of single values: `{0: ("No", "green")}`."""
    options = {str(value): {"text": text, "color": color} for value, (text, color) in values.items()}
    return {"type": "value", "options": options}


def text_from(value: float, text: str, color: str) -> Json:
    """Words and a colour in place of everything from a value on."""
    return {"type": "range", "options": {"from": value, "to": None, "result": {"text": text, "color": color}}}


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    thresholds: Thresholds = ZERO_IS_GOOD,
    mappings: Sequence[Json] = (),
    alert: str = "",
) -> Json:
    """One number of now, on its colour.

    Args:
        title: Of the panel.
        description: What it shows and what to do.
        expr: Of one number.
        unit: Of it.
        thresholds: Its colours.
        mappings: Words in its place.
        alert: Whose section of the runbook is about it.
    """
    options = {"colorMode": "background", "graphMode": "none", "textMode": "value", "justifyMode": "center"}
    panel = _panel("stat", title, description, unit, [_target(expr, instant=True)])
    panel["options"] = options | {"reduceOptions": _LAST}
    _defaults(panel).update(_colors(thresholds), **({"mappings": list(mappings)} if mappings else {}))
    if alert:
        panel["links"] = [{"title": "Runbook", "url": f"{RUNBOOK}#{alert.lower()}", "targetBlank": True}]
    return panel


def bars(
    title: str, description: str, queries: Mapping[str, str], *, unit: str = "short", thresholds: Thresholds = PLAIN
) -> Json:
    """Numbers of now as horizontal bars; the queries by their legends."""
    panel = _panel("bargauge", title, description, unit, _targets(queries, instant=True))
    panel["options"] = {"displayMode": "basic", "orientation": "horizontal", "reduceOptions": _LAST}
    _defaults(panel).update(_colors(thresholds), min=0)
    return panel


def graph(
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    unit: str,
    counts: bool = False,
    threshold: float | None = None,
    nothing: str | None = None,
) -> Json:
    """Lines over time.

    Args:
        title: Of the panel.
        description: What it shows and what to do.
        queries: By their legends.
        unit: Of all of them.
        counts: They are counts of single events: stacked bars, not lines.
        threshold: A red line.
        nothing: What is said where there is nothing to show.
    """
    panel = _panel("timeseries", title, description, unit, _targets(queries))
    panel["interval"] = _STEP
    panel["options"] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    panel["options"]["tooltip"] = {"mode": "multi", "sort": "desc"}
    custom: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if counts:
        custom |= {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal", "group": "A"}}
    if threshold is not None:
        custom["thresholdsStyle"] = {"mode": "line"}
        _defaults(panel).update(_colors((("transparent", None), ("red", threshold))))
    _defaults(panel).update({"color": {"mode": "palette-classic"}}, custom=custom)
    _say_nothing(panel, nothing)
    return panel


def heatmap(title: str, description: str, expr: str, *, unit: str) -> Json:
    """A histogram over time: counts of each bucket (`le`)."""
    panel = _panel("heatmap", title, description, unit, [_target(expr, legend="{{le}}", form="heatmap")])
    panel["interval"] = _STEP
    panel["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "yAxis": {"unit": unit},
        "tooltip": {"mode": "single", "showColorScale": True},
    }
    return panel


def states(title: str, description: str, queries: Mapping[str, str], mappings: Sequence[Json]) -> Json:
    """A strip for each series, coloured by its value."""
    panel = _panel("state-timeline", title, description, "none", _targets(queries))
    panel["interval"] = _STEP
    panel["options"] = {"mergeValues": True, "showValue": "never", "rowHeight": 0.9}
    _defaults(panel).update({"color": {"mode": "thresholds"}}, mappings=list(mappings))
    return panel


def table(
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    labels: Sequence[str],
    columns: Mapping[str, Json],
    sort: tuple[str, bool],
    nothing: str | None = None,
) -> Json:
    """Rows of now, one for each set of labels.

    Args:
        title: Of the panel.
        description: What it shows and what to do.
        queries: By the name of the column that their values fill.
        labels: The columns before those.
        columns: What `column` says of some of them.
        sort: By which column, and whether downwards.
        nothing: What is said where there are no rows.
    """
    targets = [
        _target(expr, name, instant=True, form="table") for name, expr in zip(_NAMES, queries.values(), strict=False)
    ]
    panel = _panel("table", title, description, "s", targets)
    values = {
        f"Value #{name}" if len(queries) > 1 else "Value": each for name, each in zip(_NAMES, queries, strict=False)
    }
    hidden = {"Time": True} | ({} if "job" in labels else {"job": True})
    names = {label: label.capitalize().replace("_arn", " ARN") for label in labels} | values
    organize = {
        "excludeByName": hidden,
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": names,
    }
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    panel["options"] = {"showHeader": True, "cellHeight": "sm"}
    panel["options"]["sortBy"] = [{"displayName": sort[0], "desc": sort[1]}]
    panel["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": k, "value": v} for k, v in each.items()]}
        for name, each in columns.items()
    ]
    _say_nothing(panel, nothing)
    return panel


def column(
    unit: str = "s",
    *,
    thresholds: Thresholds | None = None,
    mappings: Sequence[Json] = (),
    decimals: int | None = None,
    link: tuple[str, str] | None = None,
) -> Json:
    """How a table shows one column; `link` is a title and an address."""
    properties: Json = {"unit": unit}
    if thresholds is not None:
        properties |= {"custom.cellOptions": {"type": "color-background", "mode": "basic"}} | _colors(thresholds)
    if mappings:
        properties["mappings"] = list(mappings)
    if decimals is not None:
        properties["decimals"] = decimals
    if link is not None:
        properties["links"] = [{"title": link[0], "url": link[1]}]
    return properties


_LAST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _panel(kind: str, title: str, description: str, unit: str, targets: list[Json]) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": targets,
    }


def _defaults(panel: Json) -> Json:
    defaults: Json = panel["fieldConfig"]["defaults"]
    return defaults


def _say_nothing(panel: Json, nothing: str | None) -> None:
    if nothing is not None:
        _defaults(panel)["noValue"] = nothing


def _colors(thresholds: Thresholds) -> Json:
    steps = [{"color": color, "value": value} for color, value in thresholds]
    return {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}


def _targets(queries: Mapping[str, str], *, instant: bool = False) -> list[Json]:
    pairs = zip(_NAMES, queries.items(), strict=False)
    return [_target(expr, name, legend=legend, instant=instant) for name, (legend, expr) in pairs]


def _target(expr: str, name: str = "A", *, legend: str = "", instant: bool = False, form: str = "time_series") -> Json:
    target = {"refId": name, "datasource": DATASOURCE, "expr": expr, "format": form, "legendFormat": legend}
    return target | {"editorMode": "code", "instant": instant, "range": not instant}
