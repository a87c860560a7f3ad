"""List addresses that lead a server to itself, or that readers take differently."""

from __future__ import annotations

from core.test_addresses import MALFORMED, NOT_PUBLIC
from malicious.cases import add_all

OF_CVES = {
    "metadata of a cloud (CVE-2023-47116)": "https://169.254.169.254/latest/meta-data/",
    "a fragment that skips a check (CVE-2024-3848)": "https://data.example.org/a#/../../etc/passwd",
    "a file (CVE-2026-2614)": "file:///etc/passwd",
    "IPv4 in IPv6": "https://[::ffff:169.254.169.254]/",
    "IPv4 in NAT64": "https://[64:ff9b::169.254.169.254]/",
    "6to4": "https://[2002:a9fe:a9fe::]/",
    "this machine by its number": "https://2852039166/",
}
add_all("address", {**MALFORMED, **OF_CVES})
add_all("host behind a name", {f"a name that leads to {found}": ["93.184.215.14", found] for found in NOT_PUBLIC})
