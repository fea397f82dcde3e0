#!/usr/bin/python3
"""In the place of certbot on the machines of a page: the authority is the test's own, and vouches only for names that lead to this
machine, as a public one does. It takes the options that the pages use, and no others."""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

AUTHORITY = Path("/usr/local/lib/authority")
LIVE = Path("/etc/letsencrypt/live")


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def own_addresses() -> str:
    return subprocess.run(["ip", "-brief", "address"], check=True, capture_output=True, text=True).stdout


def issue(domains: list[str], lineage: Path) -> None:
    lineage.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        request, extensions = f"{folder}/request.pem", f"{folder}/extensions"
        names = ",".join(f"DNS:{domain}" for domain in domains)
        Path(extensions).write_text(f"subjectAltName = {names}\nextendedKeyUsage = serverAuth\n")
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{lineage}/privkey.pem"]
        openssl("req", "-new", *key, "-subj", f"/CN={domains[0]}", "-out", request)
        signing = ["-CA", f"{AUTHORITY}/ca.pem", "-CAkey", f"{AUTHORITY}/ca.key", "-extfile", extensions, "-days", "90"]
        openssl("x509", "-req", "-in", request, *signing, "-out", f"{lineage}/fullchain.pem")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["certonly"])
    parser.add_argument("--standalone", action="store_true", required=True)
    parser.add_argument("--deploy-hook", metavar="COMMAND")
    parser.add_argument("-d", dest="domains", action="append", required=True, metavar="DOMAIN")
    options = parser.parse_args()
    here = own_addresses()
    for domain in options.domains:
        try:
            address = socket.gethostbyname(domain)
        except OSError as error:
            sys.exit(f"{domain} has no address record: {error}")
        if f" {address}/" not in here:
            sys.exit(f"{domain} leads to {address}, and that isn't here")
    lineage = LIVE / options.domains[0]
    issue(options.domains, lineage)
    print(f"Successfully received certificate.\nCertificate is saved at: {lineage}/fullchain.pem")
    if options.deploy_hook:
        variables = os.environ | {"RENEWED_LINEAGE": str(lineage), "RENEWED_DOMAINS": " ".join(options.domains)}
        subprocess.run(options.deploy_hook, shell=True, check=True, env=variables)


if __name__ == "__main__":
    main()
