"""What a peer speaks that does not speak DICOM, from its first bytes, and what to change then.

Rule: a guess for a message to people; nothing else depends on it.  No PDU type is a letter (PS3.8 section 9.3.1).
"""

from __future__ import annotations

from typing import Final

__all__ = ["stranger"]

STRANGERS: Final = {
    b"\x15\x03": "the peer sent a TLS alert: that port wants TLS",
    b"\x16\x03": "the peer speaks TLS to a port without TLS",
    b"HTTP/": "the peer speaks HTTP: that is a web server, choose its port for DICOM",
    b"SSH-": "the peer speaks SSH: that is a server for logins, choose its port for DICOM",
    b"220 ": "the peer is a mail or FTP server, choose its port for DICOM",
    b"220-": "the peer is a mail or FTP server, choose its port for DICOM",
    b"PROXY ": "a load balancer speaks the PROXY protocol: switch that off there",
    b"\r\n\r\n\0\r\nQUIT": "a load balancer speaks the PROXY protocol: switch that off there",
    b"GET ": "the peer speaks HTTP to a port for DICOM",
    b"HEAD ": "the peer speaks HTTP to a port for DICOM",
    b"POST ": "the peer speaks HTTP to a port for DICOM",
    b"OPTIONS ": "the peer speaks HTTP to a port for DICOM",
    b"CONNECT ": "the peer speaks HTTP to a port for DICOM",
    b"PRI * HTTP/2": "the peer speaks HTTP to a port for DICOM",
}
"""By how it begins."""


def stranger(head: bytes) -> str:
    """Who begins with these bytes, of which there may be one alone; empty where nobody knows."""
    for begin, sentence in STRANGERS.items():
        if head.startswith(begin) or (len(head) < len(begin) and begin.startswith(head) and head[0] < 0x20):
            return sentence
    return "the peer speaks HTTP or other text, not DICOM" if head[0] in PRINTABLE else ""


PRINTABLE: Final = range(0x20, 0x7F)
