"""A component (XEP-0114) that answers everybody, on whose machine it runs: bot.py DOMAIN SERVER PORT SECRET"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from component import Component  # noqa: E402


async def main() -> None:
    domain, _server, port, secret = sys.argv[1:]
    bot = await Component(domain, secret, int(port)).come()
    print("accepted", flush=True)
    await bot.ended


asyncio.run(main())
