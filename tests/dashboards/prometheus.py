"""A real Prometheus, and its HTTP API."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from processes import Process, free_ports, listens, until  # noqa: E402

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: fedmux
    static_configs: [{{targets: {targets}}}]
"""
START_SECONDS = 20


class Prometheus:
    """Scrapes once a second, with these rules."""

    def __init__(self, folder: Path, rules: str) -> None:
        self.folder = folder
        self.rules = folder / "rules.yml"
        self.rules.write_text(rules)
        self.port = free_ports(1)[0]
        self.process: Process | None = None

    async def start(self, targets: list[str]) -> None:
        self.configure(targets)
        binary = shutil.which("prometheus")
        assert binary, "prometheus is not installed"
        command = [binary, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        # By default it looks for new targets every 5 s.
        command.append("--scrape.discovery-reload-interval=500ms")
        self.process = Process("prometheus", command, self.folder / "prometheus.log", self.folder)
        await self.process.start()

        async def ready() -> bool:
            if not await listens(self.port):
                return False
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10):
                    return True
            except urllib.error.HTTPError:
                return False

        await until("Prometheus is ready", ready, seconds=START_SECONDS, watch=[self.process])

    def configure(self, targets: list[str]) -> None:
        text = CONFIGURATION.format(rules=json.dumps(str(self.rules)), targets=json.dumps(targets))
        (self.folder / "prometheus.yml").write_text(text)

    def reload(self, targets: list[str]) -> None:
        """Scrape these instead."""
        self.configure(targets)
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def query(self, text: str) -> list[dict]:
        """The samples of an instant query that have a number; a query that Prometheus refuses is an error."""
        samples = self.ask("query", query=text)["result"]
        return [sample for sample in samples if sample["value"][1] != "NaN"]

    def series(self, text: str, seconds: int = 120) -> list[dict]:
        """The same as Grafana asks for a panel: how it was in the last `seconds`. Series without a number are left out."""
        now = time.time()
        found = self.ask("query_range", query=text, start=str(now - seconds), end=str(now), step="1")["result"]
        for one in found:
            one["values"] = [(float(at), float(value)) for at, value in one["values"] if value != "NaN"]
        return [one for one in found if one["values"]]

    def ask(self, what: str, **parameters: str) -> dict:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode(errors='replace')}") from None

    def firing(self) -> dict[str, list[dict]]:
        """The alerts that fire, by name."""
        found: dict[str, list[dict]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found
