"""What is made of the chart: golden files, kustomize bases, the README's table of values. `make golden` writes them."""

import json

import yaml

from support.chart import CASES, CHART, KUBERNETES, ROOT, at, leaves, schema, template
from support.kustomize_bases import bases

GOLDEN = ROOT / "tests/deploy/golden"
KUSTOMIZE = KUBERNETES / "kustomize"
README = KUBERNETES / "README.md"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def table():
    """Every value in Markdown."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ["| value | default | what it does |", "|---|---|---|"]
    for path, each in leaves(schema()):
        default = json.dumps(at(defaults, path), ensure_ascii=False)
        lines.append(f"| `{'.'.join(path)}` | `{default}` | {each['description'].replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def readme():
    """README.md with the table of now."""
    before, rest = README.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def made():
    """Every file that is made of the chart, as {path: content}."""
    files = {GOLDEN / f"{name}.yaml": template(path) for name, path in CASES.items()}
    return files | {KUSTOMIZE / path: text for path, text in bases().items()} | {README: readme()}


def stale():
    """Made files that are not as they would be made now, and files among them that nothing makes."""
    wanted = made()
    left_over = {path for folder in (GOLDEN, KUSTOMIZE) for path in folder.rglob("*") if path.is_file()} - set(wanted)
    return sorted(left_over) + [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
