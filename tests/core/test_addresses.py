"""URLs from strangers lead to public addresses, or nowhere."""

from __future__ import annotations

import ipaddress

import pytest
from retort.addresses import AddressError, resolve_public
from retort.errors import FetchError

PUBLIC = "93.184.215.14"

NOT_PUBLIC = [
    "0.0.0.1", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip

MALFORMED = {
    "http": "http://example.org/a.zip",
    "file": "file:///etc/passwd",
    "gopher": "gopher://example.org/",
    "no scheme": "//example.org/a",
    "no host": "https:///a",
    "a word": "dataset.zip",
    "capital letters of another scheme": "FILE:///etc/passwd",
    "a user": "https://me@example.org/",
    "a password": "https://me:secret@example.org/",
    "a host as a user": "https://example.org@127.0.0.1/",
    "a backslash": "https://example.org\\@127.0.0.1/",
    "a line end": "https://example.org/\r\nHost: evil",
    "a tab": "https://exa\tmple.org/",
    "a space": "https://example.org /a",
    "NUL": "https://example.org\0.evil/",
    "a fragment": "https://example.org/a#b",
    "an empty fragment": "https://example.org/a#",
    "decimal": "https://2130706433/",
    "octal": "https://0177.0.0.1/",
    "zeros before": "https://127.000.000.001/",
    "hexadecimal": "https://0x7f000001/",
    "hexadecimal parts": "https://0x7f.0.0.0x1/",
    "three parts": "https://127.0.1/",
    "two parts": "https://127.1/",
    "a part too large": "https://127.0.0.256/",
    "full-width digits": "https://\uff11\uff12\uff17.0.0.1/",
    "circled digits": "https://\u2460\u2461\u2466.0.0.1/",
    "an ideographic full stop": "https://127\u30020\u30020\u30021/",
    "letters of other alphabets": "https://ex\u0430mple.org/",
    "an encoded host": "https://%31%32%37.0.0.1/",
    "a scope": "https://[fe80::1%25eth0]/",
    "a scope as it is": "https://[fe80::1%eth0]/",
    "brackets left open": "https://[::1/",
    "a version of the future": "https://[v1.fe80::a]/",
    "port zero": "https://example.org:0/",
    "a port too large": "https://example.org:65536/",
    "a port in words": "https://example.org:https/",
    "no port behind the colon": "https://example.org:/",
    "an underscore": "https://exa_mple.org/",
    "an empty label": "https://example..org/",
    "too long": "https://example.org/" + "a" * 3000,
}


def nobody(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host}:{port} was looked up")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_spelled_out_and_behind_a_name(address: str):
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressError):
        resolve_public(f"https://{literal}/a.zip", lookup=nobody)
    with pytest.raises(AddressError, match="not a public address"):
        resolve_public("https://data.example.org/a.zip", lookup=lambda *_: [PUBLIC, address])


@pytest.mark.parametrize("case", MALFORMED)
def test_a_url_that_readers_take_differently_is_refused_before_anything_is_looked_up(case: str):
    with pytest.raises(AddressError) as caught:
        resolve_public(MALFORMED[case], lookup=nobody)
    assert caught.value.hint
    assert "secret" not in caught.value.message


def test_a_name_is_looked_up_once_and_pinned():
    asked = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    place = resolve_public("https://Data.Example.org:8443/a/b.zip?c=d", lookup=lookup)

    assert asked == [("data.example.org", 8443)]
    assert place.pinned_url == f"https://{PUBLIC}:8443/a/b.zip?c=d"
    assert place.headers == {"Host": "data.example.org:8443"}
    assert place.extensions == {"sni_hostname": "data.example.org"}


def test_public_addresses_are_taken_in_both_families():
    six = resolve_public("https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", lookup=nobody)
    assert six.pinned_url == "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443/"
    assert resolve_public(f"https://{PUBLIC}", lookup=nobody).pinned_url == f"https://{PUBLIC}:443/"


def test_networks_that_the_operator_trusts_are_taken():
    trusted = [ipaddress.ip_network("10.0.0.0/8")]
    assert resolve_public("https://hooks.lan/", trusted=trusted, lookup=lambda *_: ["10.1.2.3"]).address == "10.1.2.3"
    with pytest.raises(AddressError):
        resolve_public("https://hooks.lan/", trusted=trusted, lookup=lambda *_: ["10.1.2.3", "127.0.0.1"])


def test_a_host_without_an_address_is_a_failed_fetch():
    with pytest.raises(FetchError, match="no address"):
        resolve_public("https://nowhere.example.org/", lookup=lambda *_: [])
    with pytest.raises(FetchError, match="cannot be resolved"):
        resolve_public("https://nowhere.invalid/")
