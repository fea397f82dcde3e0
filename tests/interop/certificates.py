"""Certificates for a provider, made by `fedmux certs dev`: one authority, one certificate with all its domains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from processes import StageError


async def make_certificates(fedmux: Path, folder: Path, domains: Sequence[str]) -> None:
    """Fill `folder` with `ca.pem` and a certificate and key for `domains`."""
    child = await asyncio.create_subprocess_exec(
        fedmux, "certs", "dev", "--out", folder, *domains, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await child.communicate()
    if child.returncode != 0 or not (folder / "ca.pem").is_file():
        raise StageError(f"fedmux certs dev left no {folder}/ca.pem (exit code {child.returncode}): {output.decode(errors='replace').strip()}")
