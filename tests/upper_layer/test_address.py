"""`AET@host:port`, and what is said of text that does not read so."""

from __future__ import annotations

from typing import Any

import pytest

from dulcet.errors import AddressError
from dulcet.upper_layer.address import Address


@pytest.mark.parametrize(("text", "address"), [
    ("ARCHIVE@127.0.0.1:11112", Address("ARCHIVE", "127.0.0.1", 11112)),
    ("A B@host.example:104", Address("A B", "host.example", 104)),
    ("A@B@host:1", Address("A@B", "host", 1)),
    ("A@[::1]:65535", Address("A", "::1", 65535)),
    ("A@[fe80::1%eth0]:104", Address("A", "fe80::1%eth0", 104)),
])  # fmt: skip
def test_an_address_reads_and_prints(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert Address.parse(address) is address


@pytest.mark.parametrize(("text", "message"), [
    ("", "has no @"),
    ("127.0.0.1:104", "has no @"),
    ("A@host", "has no port"),
    ("A@::104", "has no port"),
    ("A@host:", "is not a TCP port"),
    ("A@host:dicom", "is not a TCP port"),
    ("A@host:-1", "is not a TCP port"),
    ("A@host:65536", "is not a TCP port"),
    ("A@host:٣", "is not a TCP port"),
    ("A@host:" + "9" * 5000, "is not a TCP port"),
    ("A@::1:104", r"stands in brackets, as in A@\[::1\]:104"),
    ("A@:104", "names no host"),
    ("A@[]:104", "names no host"),
    ("@host:104", "is blank"),
    ("SEVENTEEN LETTERS@host:104", "17 characters long"),
    ("A\\B@host:104", "may not be sent"),
])  # fmt: skip
def test_what_does_not_read_as_an_address_says_which_part(text: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        Address.parse(text)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("given", [None, ("127.0.0.1", 104), b"A@host:104"])
def test_what_is_no_text_is_no_address(given: Any) -> None:
    with pytest.raises(AddressError, match=f"AET@host:port, or an Address; not a {type(given).__name__}"):
        Address.parse(given)


@pytest.mark.parametrize("port", [-1, 65536, 70000, "104", None])
def test_a_port_that_does_not_exist_is_refused_however_the_address_is_made(port: Any) -> None:
    with pytest.raises(AddressError, match="not a TCP port"):
        Address("ARCHIVE", "localhost", port)
