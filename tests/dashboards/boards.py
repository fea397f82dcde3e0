"""The files of dashboards/, read: panels with their queries, rules, runbook sections, and the metrics that the sources declare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "dashboards"
RULES = FOLDER / "fedmux.rules.yml"
RULE_TESTS = FOLDER / "fedmux.rules.test.yml"
BOARDS = sorted(FOLDER.glob("*.json"))
DECLARED = re.compile(r'\b(counter|gauge|seconds)\("([a-z_]+)"')
METRIC = re.compile(r"\b(?:fedmux|process)[_:][a-z0-9_:]+")
STRING = re.compile(r'"[^"]*"')
DURATION = re.compile(r"(?P<before>\[|offset |for: )(?P<number>\d+)m\b")
# What Prometheus makes of one histogram.
SERIES = ("_bucket", "_sum", "_count")
PROMETHEUS_OWN = {"up", "ALERTS"}


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    board: str
    panel: str
    ref: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.board}/{self.panel}/{self.ref}"

    def filled(self, values: dict[str, str]) -> str:
        """With what Grafana puts in place of its variables."""
        text = self.text
        for name, value in values.items():
            text = text.replace(f"${name}", value)
        assert "$" not in text, f"{self.name}: a variable that nobody fills: {text}"
        return text


def panels(board: Path) -> Iterator[dict]:
    """The panels that show something."""
    return (panel for panel in json.loads(board.read_text())["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """All of both dashboards."""
    return [
        Query(board.stem, panel["title"], target["refId"], target["expr"])
        for board in BOARDS
        for panel in panels(board)
        for target in panel["targets"]
    ]


def hurried(rules: str) -> str:
    """The same rules with each minute a second: what they say of rates and figures stays."""
    return DURATION.sub(r"\g<before>\g<number>s", rules)


def alerts() -> list[str]:
    return re.findall(r"alert: (\w+)", RULES.read_text())


def declared() -> set[str]:
    """The names under which src/metrics/catalogue.rs has Prometheus see its metrics."""
    names = set()
    for kind, name in DECLARED.findall((PROJECT / "src/metrics/catalogue.rs").read_text()):
        names |= {name + suffix for suffix in SERIES} if kind == "seconds" else {name}
    assert len(names) > 50, f"src/metrics/catalogue.rs can't be read any more: {names}"
    return names


def complaints() -> list[str]:
    """What is wrong with the files, without anything running."""
    wrong = []
    known = declared() | set(re.findall(r"record: (\S+)", RULES.read_text()))
    expressions = {query.name: query.text for query in queries()}
    # In the rules whole lines are looked at: their comments and texts name no metric that isn't there either.
    expressions |= {f"{RULES.name}:{number}": line for number, line in enumerate(RULES.read_text().splitlines(), 1)}
    for place, text in expressions.items():
        named = set(METRIC.findall(STRING.sub("", text)))
        wrong += [f"{place}: no metric {name} is declared" for name in sorted(named - known)]
    for board in BOARDS:
        whole = json.loads(board.read_text())
        variables = {variable["name"] for variable in whole["templating"]["list"]}
        wrong += [f"{board.name}: no variable {name}" for name in {"datasource", "instance"} - variables]
        identities = [panel["id"] for panel in whole["panels"]]
        wrong += [f"{board.name}: two panels have one id"] * (len(set(identities)) != len(identities))
        for panel in panels(board):
            place = f"{board.name}, {panel['title']}"
            wrong += [f"{place}: no description"] * (len(panel.get("description", "")) < 10)
            wrong += [f"{place}: no unit"] * (not panel["fieldConfig"]["defaults"].get("unit"))
            for target in panel["targets"]:
                wrong += [f"{place}: a data source of its own"] * (target["datasource"]["uid"] != "$datasource")
                wrong += [f"{place}: a range that Grafana doesn't choose"] * bool(re.search(r"\[(?!\$__rate_interval\])[^]]*\]", STRING.sub("", target["expr"])))
    sections = set(re.findall(r"^## (\w+)$", (FOLDER / "README.md").read_text(), re.MULTILINE))
    wrong += [f"{RULES.name}: {alert} has no section in README.md" for alert in alerts() if alert not in sections]
    wrong += [f"README.md: no alert {section}" for section in sections if section not in alerts()]
    runbooks = re.findall(r"runbook: (\S+)", RULES.read_text())
    wrong += [f"{RULES.name}: runbooks are {runbooks}"] * (runbooks != [f"dashboards/README.md#{alert.lower()}" for alert in alerts()])
    tested = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
    wrong += [f"{RULE_TESTS.name}: {alert} isn't tested" for alert in alerts() if alert not in tested]
    return wrong
