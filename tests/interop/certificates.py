"""Certificates for a provider, made by `fedmux certs dev`: one authority, one certificate with all its domains. And one as
public authorities make them now, with serverAuth alone."""

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


async def make_server_certificate(folder: Path, domains: Sequence[str], days: int = 30) -> None:
    """A certificate for `domains` with serverAuth and without clientAuth, by the authority that `folder` holds. With no day it
    is over a second later."""
    live = folder / "live" / domains[0]
    live.mkdir(parents=True)
    names = ",".join(f"DNS:{domain}" for domain in domains)
    (live / "extensions").write_text(f"subjectAltName = {names}\nextendedKeyUsage = serverAuth\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", live / "privkey.pem"]
    await _openssl("req", "-new", *key, "-subj", "/CN=serverAuth alone", "-out", live / "request.pem")
    authority = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-extfile", live / "extensions"]
    await _openssl("x509", "-req", "-in", live / "request.pem", *authority, "-days", str(days), "-out", live / "fullchain.pem")
    for file in ("extensions", "request.pem"):
        (live / file).unlink()


async def make_self_signed_certificate(folder: Path, domain: str) -> None:
    """A certificate for `domain` that no authority vouches for."""
    live = folder / "live" / domain
    live.mkdir(parents=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", live / "privkey.pem"]
    await _openssl("req", "-x509", *key, "-subj", f"/CN={domain}", "-addext", f"subjectAltName = DNS:{domain}", "-days", "30", "-out", live / "fullchain.pem")


async def _openssl(*arguments: str | Path) -> None:
    child = await asyncio.create_subprocess_exec("openssl", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await child.communicate()
    if child.returncode != 0:
        raise StageError(f"openssl {arguments[0]} failed (exit code {child.returncode}): {output.decode(errors='replace').strip()}")
