"""Who talks, on the machine's network: what is asked of it on the command line, it does, and fails if that doesn't work.

    talker.py talk          a message from the server of a.example through the relay of the package and another one to b.example, a
                            component, and its answer back
    talker.py certificate   print the certificate that the relay of the package shows by Direct TLS, as PEM
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import sys

SERVERS = ("127.0.0.1", 5266)
DIRECT_TLS = ("127.0.0.1", 5270)
COMPONENTS = ("127.0.0.1", 6347)
SECRET = "opensesame"
PATIENCE_SECONDS = 20
STREAM = "<stream:stream xmlns='{namespace}' xmlns:stream='http://etherx.jabber.org/streams' {attributes}>"
BIDI = "<bidi xmlns='urn:xmpp:bidi'/>"
AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>"


class Stream:
    """Octets to and from one end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, PATIENCE_SECONDS)
        self._heard = ""

    def say(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def hear(self, pattern: str) -> re.Match[str]:
        """Up to what matches; what comes behind it waits for the next call."""
        while not (match := re.search(pattern, self._heard, re.DOTALL)):
            octets = self._socket.recv(65536)
            assert octets, f"the stream ended without {pattern}: {self._heard}"
            self._heard += octets.decode()
        self._heard = self._heard[match.end() :]
        return match


def component() -> Stream:
    """b.example, at its relay (XEP-0114)."""
    stream = Stream(COMPONENTS)
    stream.say(STREAM.format(namespace="jabber:component:accept", attributes="to='b.example'"))
    number = stream.hear(r"id=['\"]([^'\"]+)['\"][^>]*>")[1]
    stream.say(f"<handshake>{hashlib.sha1((number + SECRET).encode()).hexdigest()}</handshake>")
    stream.hear("<handshake")
    return stream


def server() -> Stream:
    """a.example, whose server opens a stream to its relay and proves itself by where it comes from."""
    stream = Stream(SERVERS)
    header = STREAM.format(namespace="jabber:server", attributes="from='a.example' to='b.example' version='1.0'")
    stream.say(header)
    stream.hear("</stream:features>")
    stream.say(BIDI + AUTH)
    stream.hear("<success")
    stream.say(header)
    stream.hear(r"</stream:features>|<stream:features/>")
    return stream


def talk() -> None:
    bob, alice = component(), server()
    alice.say("<message from='juliet@a.example' to='romeo@b.example' type='chat'><body>Wherefore?</body></message>")
    heard = bob.hear(r"<message .*?<body>([^<]*)</body></message>")
    assert heard[1] == "Wherefore?" and "juliet@a.example" in heard[0], heard[0]
    bob.say("<message from='romeo@b.example' to='juliet@a.example' type='chat'><body>Henceforth.</body></message>")
    heard = alice.hear(r"<message .*?<body>([^<]*)</body></message>")
    assert heard[1] == "Henceforth." and "romeo@b.example" in heard[0], heard[0]


def certificate() -> str:
    """Whatever is shown for a.example, good or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["xmpp-server"])
    with socket.create_connection(DIRECT_TLS, PATIENCE_SECONDS) as connection:
        with context.wrap_socket(connection, server_hostname="a.example") as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))


if __name__ == "__main__":
    if sys.argv[1] == "talk":
        talk()
    else:
        print(certificate())
