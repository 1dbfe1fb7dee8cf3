"""The HTML export as bytes: its policy, its data, and nothing of the target in its markup (F38)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re

import pytest

from recorder.errors import ExportTooLong
from recorder.export.cast import Version, cast
from recorder.export.forms import PIECE_BYTES, Form, exported
from recorder.export.html import page
from tests.peers import REPOSITORY
from tests.recorder.export.events import ABOUT, COMMAND, HOSTILE, TERMINAL

DEPENDENCIES = REPOSITORY / "docs" / "dependencies.md"
PLAYER = REPOSITORY / "recorder" / "export" / "page" / "asciinema-player-3.17.0"


def made(max_text: int = 10**6) -> str:
    """The page of the terminal recording."""
    return b"".join(page(TERMINAL, ABOUT, max_text=max_text)).decode()


def test_the_policy_names_the_two_scripts() -> None:
    """Nothing may be fetched, and only the two scripts of the page run, each by its hash."""
    text = made()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}' 'wasm-unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'"
    )


def test_the_parts_are_the_cast() -> None:
    """Unpacked, the parts hold what asciicast version 3 holds without keystrokes, marks and the exit."""
    parts = re.findall(r'<script type="text/plain" id="part-\d+">([^<]*)</script>', made())
    shown = [
        [code, data]
        for part in parts
        for _, code, data in json.loads(gzip.decompress(base64.b64decode(part)))["events"]
        if data
    ]
    lines = [json.loads(line) for line in cast(TERMINAL, ABOUT, version=Version.THREE, with_input=False)]
    assert shown == [line[1:] for line in lines[1:] if line[1] in "or"]


def test_nothing_hostile_is_markup() -> None:
    """Labels, commands and titles stand in the file escaped; the page has exactly its own five scripts."""
    text = made()
    assert "<img" not in text
    assert "owned'</script>" not in text
    assert len(re.findall(r"<script", text)) == 5
    (commands,) = re.findall(r'<script type="text/plain" id="commands">([^<]*)</script>', text)
    assert not set("<>&") & set(commands)
    assert [(each["t"], each["verdict"]) for each in json.loads(commands)] == [
        (0, "write: approved (1)"),
        (4, json.loads(commands)[1]["verdict"]),
        (9, "execute: denied"),
    ]
    assert "</script><script>" in json.loads(commands)[2]["text"]


def test_a_copy_says_whose_it_is() -> None:
    """Watermark: exporter, time, recording and root (I-33); the licence of the player goes with it."""
    text = html.unescape(made())
    for part in ("auditor (pe_1), 2026-11-22 10:00:00 UTC", bytes(range(32)).hex(), "rc_1 (final)", "Apache License"):
        assert part in text


def test_too_long_for_a_browser() -> None:
    """Beyond the bound there is an error, never half a page that passes for a whole one."""
    with pytest.raises(ExportTooLong):
        made(max_text=300)


@pytest.mark.parametrize("form", Form)
def test_every_form_comes_in_bounded_pieces(form: Form) -> None:
    """No piece is longer than a message may be, and a text export says whose it is as well."""
    pieces = list(exported(form, COMMAND, ABOUT, with_input=False))
    assert 0 < max(map(len, pieces)) <= PIECE_BYTES
    assert b"auditor (pe_1)" in b"".join(pieces)
    assert HOSTILE.encode() not in b"".join(pieces)


@pytest.mark.parametrize("form", Form)
def test_what_was_typed_is_left_out_unless_it_is_asked_for(form: Form) -> None:
    """I-33, I-36: the audit log says whether a copy holds input; text holds it no sooner than an asciicast does."""
    assert b"secret" not in b"".join(exported(form, TERMINAL, ABOUT, with_input=False))
    if form is not Form.HTML:
        assert b"secret" in b"".join(exported(form, TERMINAL, ABOUT, with_input=True))


def test_the_player_is_the_one_that_was_published() -> None:
    """The vendored files are byte for byte those whose sums docs/dependencies.md names."""
    told = dict(re.findall(r"^\| `([\w.-]+)` \| `([0-9a-f]{64})` \|$", DEPENDENCIES.read_text(), re.MULTILINE))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PLAYER.iterdir()}
    assert found == told
