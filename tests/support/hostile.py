"""Texts that attack whoever shows them: pages, charts, terminals, logs, headers."""

from __future__ import annotations

from itertools import product

HIT = "window.hit=(window.hit||0)+1"
# ruff: noqa: E501 - tables
_SCRIPTS = [
    f"<script>{HIT}</script>", f"<img src=x onerror='{HIT}'>", f"<svg onload={HIT}>", f"<svg/onload='{HIT}'>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>", f"<body onload={HIT}>", f"<details open ontoggle={HIT}>",
    f"<a href='javascript:{HIT}'>x</a>", f"<input autofocus onfocus={HIT}>", f"<math><mtext><script>{HIT}</script>",
    f"<style>@import'javascript:{HIT}'</style>", f"<object data='javascript:{HIT}'></object>", f"<video><source onerror={HIT}>",
    f"<marquee onstart={HIT}>", f"<form action='javascript:{HIT}'><input type=submit>", f"javascript:{HIT}",
    f"<base href='javascript:{HIT}//'>", f"<meta http-equiv=refresh content='0;javascript:{HIT}'>",
    f"<template><script>{HIT}</script></template>", f"<noscript><p title='</noscript><script>{HIT}</script>'>",
]  # fmt: skip
_BEFORE = [
    "", "'>", '">', "</title>", "</script>", "</style>", "</textarea>", "-->", "]]>", "';", '";', "`;", "\\';", "}}",
    "</pre></code>", "<!--", "<![CDATA[",
]  # fmt: skip
_AFTER = ["", "<!--", "//", "\n"]
_TEMPLATES = [
    "{{7*7}}",
    "{% for x in y %}",
    "${7*7}",
    "#{7*7}",
    "{{ config }}",
    "%(x)s",
    "%s%s%n",
    "{0}",
    "{x.__class__}",
]
_TERMINALS = [
    "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\", "\x1b[31m", "\x9b31m", "\x90q",
    "\x07", "\x08\x08\x08", "\x7f", "\r", "\r\n", "\n", "\x0b", "\x0c", "\x85", "\x1bc", "\x1b[?1049h", "\x1bP+q", "\x00",
    "\x1b]52;c;ZXZpbA==\x07", "\x1b[6n", "\x0e", "\x1b#8",
]  # fmt: skip
_TURNED = [
    "\u202e", "\u202d", "\u2066", "\u2067", "\u2068", "\u2069", "\u200e", "\u200f", "\u061c", "\u202a", "\u202b", "\u202c",
    "\u2028", "\u2029", "\ufeff", "\ufff9", "\U000e0041", "\u206a",
]  # fmt: skip
_HEADERS = ["\r\nSet-Cookie: owned=1", "\nX-Owned: 1", "%0d%0aX-Owned:1", "\r\n\r\n<html>", "\u560a\u560dX-Owned: 1"]
_FILES = ["../../etc/passwd", "C:\\con", "/dev/null", "a/../../b", "~root", "-rf", "*", "$(id)", "`id`", "; id", "| id"]
_ODD = [
    "",
    " ",
    "a" * 5000,
    "\u00e9" * 3000,
    "Z\u0351\u036b\u0343" * 50,
    "\ud800",
    "NULL",
    "null",
    "-1e999",
    "=1+1",
    "@SUM(1)",
    "+1",
]


def texts() -> list[str]:
    """Return all of them, each once."""
    scripts = ["".join(parts) for parts in product(_BEFORE, _SCRIPTS, _AFTER)]
    controls = [
        f"{before}{one}{after}" for one in _TERMINALS + _TURNED for before, after in (("", ""), ("name ", " end"))
    ]
    spelled = [text.replace("<", "\\u003c").replace(">", "\\u003e") for text in _SCRIPTS]
    encoded = [text.replace("<", "&lt;").replace(">", "&gt;") for text in _SCRIPTS]
    rest = _TEMPLATES + _HEADERS + _FILES + _ODD + spelled + encoded
    return list(dict.fromkeys(scripts + controls + rest))
