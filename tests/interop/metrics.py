"""A relay's metrics: scraped, parsed, and checked by Prometheus's own tool."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text

    def samples(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of each sample of this name."""
        for line in self.text.splitlines():
            match = SAMPLE.match(line)
            if match and match["name"] == name:
                yield dict(LABEL.findall(match["labels"] or "")), float(match["value"])

    def total(self, name: str, **labels: str) -> float:
        """Sum over all samples that carry these labels. A metric that isn't there at all is an error, not a zero."""
        assert any(self.samples(name)), f"the relay exports no metric {name}"
        return self.sum(name, **labels)

    def sum(self, name: str, **labels: str) -> float:
        """The same for a metric whose label values appear only once they have happened."""
        return sum(value for have, value in self.samples(name) if labels.items() <= have.items())


async def scrape(port: int) -> Metrics:
    """The relay's /metrics."""
    status, body = await _get(port, "/metrics")
    assert status == 200, f"/metrics answered with status {status}: {body[:200]!r}"
    return Metrics(body.decode())


async def is_ready(port: int) -> bool:
    """Whether the relay says that it is ready."""
    try:
        status, _ = await _get(port, "/ready")
    except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
        return False
    return status == 200


async def promtool_complaints(metrics: Metrics) -> str | None:
    """What `promtool check metrics` says against a scrape; empty if nothing, `None` if promtool isn't installed."""
    if not shutil.which("promtool"):
        return None
    child = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await child.communicate(metrics.text.encode())
    return output.decode() or ("" if child.returncode == 0 else f"promtool ended with exit code {child.returncode}")


async def _get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()
