"""What an operator sees, and what nobody may: metrics, the log, no secret in anything that is written (I-45, I-53)."""

from __future__ import annotations

import base64
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.metrics import COUNTERS, GAUGES, HISTOGRAMS
from grantd.profile import Profile
from grantd.v1.action_pb2 import ActionState
from grantd.v1.session_pb2 import PlayRecordingResponse
from tests.e2e.programs import wait_until
from tests.e2e.stage import ASKS, FREE, TEAM, House
from tests.processes import descendants

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-seeing")]

UNHAPPY = {
    "audit_failures", "break_glass_used", "credential_leftovers", "credential_takebacks_failed", "freezes",
    "revocation_failures", "revocation_list_failures", "signer_restarts", "worker_restarts",
}  # fmt: skip
"""They count what goes wrong inside, sealed credentials and pulls of the kill switch: nobody does that here."""
STDIN_CANARY = b"canary-" + os.urandom(16).hex().encode()


@pytest.fixture(scope="module")
def lived(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A little of everything happened. Returns the secrets that were used on the way, by name."""
    folder = tmp_path_factory.mktemp("lived")
    secrets = {"stdin": STDIN_CANARY, "join secret": house.add_agent("canary")}
    grant = house.grant(ASKS)
    assert house.run(grant, "uname -s").finished().exit_status == 0
    running = house.run(grant, "sleep 60")
    started = running.until(ActionState.ACTION_STATE_RUNNING)
    assert next(iter(house.client("owner").watch_session(started.session_id, reason="a look"))).HasField("joined")
    house.client("builder").cancel_action(started.id)
    running.finished()
    running = house.run(grant, "tee copy", stdin=STDIN_CANARY, cwd=str(folder))
    house.decide(running.until(ActionState.ACTION_STATE_AWAITING).id)
    assert running.finished().exit_status == 0
    running = house.run(grant, f"touch {folder}/no")
    house.decide(running.until(ActionState.ACTION_STATE_AWAITING).id, yes=False)
    assert running.finished().state == ActionState.ACTION_STATE_DENIED
    secrets["grant token"] = house.client("builder").issue_token(grant).token.encode()
    files = house.ssh_files(grant)
    assert house.ssh(files, before=("-T",)).status != 0, "a shell"
    assert house.ssh(files, "uname -s", before=("-o", "User=nobody", "-l", "nobody")).status == 255
    assert house.ctl("builder", "audit", "list").status == 3, "not an agent's to read"
    house.client("owner").revoke(grant, "done")
    assert house.ctl("owner", "revoke", "--ticket", "CHG-0", "--reason", "nothing has it").status == 0
    assert house.ctl("owner", "vault", "rotate", "recordings").status == 0
    wait_until(lambda: house.metrics().get('grantd_vault_rows_moved_total{purpose="recordings"}', 0) > 0, 30, every=0.3)
    secrets["ssh key"] = _private_part(files.key.read_bytes())
    secrets["client key"] = _private_part(Profile.load(house.profile("canary")).key)
    secrets["approval key"] = _private_part((house.folder / "approver_key").read_bytes())
    secrets["root key"] = (house.data / "root.key").read_bytes()
    for path in (house.data / "signer").glob("*"):
        if b"PRIVATE" in path.read_bytes():
            secrets[f"signer's {path.name}"] = _private_part(path.read_bytes())
    house.audited("grant.revoked", lambda entry: entry["grant"] == grant)
    return secrets


def test_every_counter_moves(house: House, lived: dict[str, bytes]) -> None:
    """What the table declares is measured somewhere; what was never touched would be a promise nobody keeps."""
    seen = house.metrics()
    still = {
        name for name in COUNTERS
        if not any(key.startswith(f"grantd_{name}_total") and value > 0 for key, value in seen.items())
    }  # fmt: skip
    assert still <= UNHAPPY, still
    quiet = {
        name for name in HISTOGRAMS
        if not any(key.startswith(f"grantd_{name}_count") and value > 0 for key, value in seen.items())
    }  # fmt: skip
    assert quiet <= {"revocation_lateness_seconds", "revocation_duration_seconds"}, quiet
    assert {name for name in GAUGES if not any(key.startswith(f"grantd_{name}") for key in seen)} == set()
    assert seen['grantd_approvals_total{verdict="approve"}'] == 1
    assert seen['grantd_approvals_total{verdict="deny"}'] == 1
    assert seen['grantd_executions_total{command_class="write",state="succeeded"}'] == 1
    assert seen['grantd_grants_ended_total{reason="revoked"}'] == 1


def test_gauges_follow_what_runs(house: House, lived: dict[str, bytes]) -> None:
    """Sessions and grants in use, as an operator looks at them."""
    grant = house.grant()
    running = house.run(grant, "sleep 30")
    running.until(ActionState.ACTION_STATE_RUNNING)
    wait_until(lambda: house.metrics()["grantd_sessions_active"] == 1, 10, every=0.2)
    assert house.metrics()["grantd_grants_active"] >= 1
    house.client("builder").revoke(grant, "done")
    running.finished()
    wait_until(lambda: house.metrics()["grantd_sessions_active"] == 0, 10, every=0.2)
    assert house.metrics()["grantd_revocation_duration_seconds_count"] >= 1


def test_no_label_names_anybody(house: House, lived: dict[str, bytes]) -> None:
    """No tenant, team, person, agent, host, login, id or address: labels come from closed sets (I-45)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{house.ports[3]}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    values = set(re.findall(r'="([^"]*)"', text)) - set(re.findall(r'le="([^"]*)"', text))
    names = {"main", TEAM, "builder", "approver", "second", "canary", "nobody", ASKS, FREE, house.sshd.login}
    assert not values & (names - {"owner"}), values & names
    assert not [value for value in values if re.search(r"[a-z]{2}_[a-z2-7]{26}|\d+\.\d+\.\d+\.\d+", value)]


def test_nothing_but_metrics_is_served_there(house: House) -> None:
    """One path; no index, no profiler, no file."""
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"http://127.0.0.1:{house.ports[3]}/", timeout=30)
    assert missing.value.code == 404
    missing.value.close()


def test_each_call_is_one_json_line(house: House, lived: dict[str, bytes]) -> None:
    """Every line of the log is an object; every RPC is one `rpc.served` with method, code, time and who."""
    before = len(_served(house, "IdentityService/WhoAmI"))
    for _ in range(5):
        house.client("builder").whoami()
    wait_until(lambda: len(_served(house, "IdentityService/WhoAmI")) >= before + 5, 5)
    lines = _served(house, "IdentityService/WhoAmI")
    assert len(lines) == before + 5
    assert {"method", "code", "reason", "duration_ms", "identity", "tenant", "timestamp", "level"} <= lines[-1].keys()
    refused = house.ctl("builder", "audit", "list")
    assert refused.status == 3
    assert (
        _served(house, "AuditService/ListEvents")[-1] | {"code": "PERMISSION_DENIED", "reason": "not_permitted"}
        == (_served(house, "AuditService/ListEvents")[-1])
    )


def test_no_secret_is_written_anywhere(house: House, lived: dict[str, bytes]) -> None:
    """Not in the log, the database, its WAL, recordings, checkpoints, nor in what the kernel shows of us (I-53)."""
    house.run(house.grant(), "uname -s").finished()
    found = [
        (name, str(place))
        for place, content in _written(house)
        for name, secret in lived.items()
        for form in _forms(secret)
        if form in content
    ]
    assert not found, found
    places = {place.suffix for place, _ in _written(house)}
    assert {".log", ".db", ".db-wal", ".grec"} <= places, "it looked where it says"


def test_the_canary_would_be_found(house: House, lived: dict[str, bytes], tmp_path: Path) -> None:
    """The search itself: each secret is there, in some form, where it belongs."""
    assert lived["stdin"] in b"".join(event.payload for event in _all_played(house))
    assert any(form in (house.data / "root.key").read_bytes() for form in _forms(lived["root key"]))
    assert len(lived) >= 10, sorted(lived)


def test_a_session_is_found_and_taken_away(house: House, tmp_path: Path) -> None:
    """By a word that it printed, before and after its filter is made; the page says who took it (I-33)."""
    # long enough for a filter: a short recording is read as quickly without one
    house.run(house.grant(), "seq 20000; printf 'a %s here' haystack-needle").finished()
    for _ in range(2):
        answers = house.ctl("owner", "sessions", "grep", "haystack-needle", "--reason", "looking", "-o", "json").json()
        (found,) = [answer["session"]["id"] for answer in answers if "session" in answer]
        wait_until(lambda: any(house.data.rglob("words.grwf")), 10)
    page = tmp_path / "session.html"
    assert (
        house.ctl("owner", "sessions", "export", found, "--reason", "a test", "--html", "--out", str(page)).status == 0
    )
    assert b"default-src 'none'; script-src 'sha256-" in page.read_bytes()
    assert b"exported by</dt><dd>owner (pe_" in page.read_bytes()
    cast = house.ctl("owner", "sessions", "export", found, "--reason", "a test", "--cast", "v3", "--out", "-").out
    assert "a haystack-needle here" in cast


def _all_played(house: House) -> Iterator[PlayRecordingResponse]:
    for session in house.ctl("owner", "sessions", "list", "-o", "json").json():
        yield from house.played(session["id"])


def _served(house: House, method: str) -> list[dict[str, object]]:
    return [
        line for line in house.logged() if line["event"] == "rpc.served" and line["method"] == f"grantd.v1.{method}"
    ]


def _written(house: House) -> Iterator[tuple[Path, bytes]]:
    """Everything the broker wrote, but for the files that are keys; and what /proc shows of broker and signer."""
    keys = {house.data / "owner", house.data / "signer", house.data / "root.key"}
    yield house.log, house.log.read_bytes()
    yield house.data / "signer/journal.log", (house.data / "signer/journal.log").read_bytes()
    for path in house.data.rglob("*"):
        if path.is_file() and not keys & {path, *path.parents}:
            yield path, path.read_bytes()
    for pid in (house.pid, *descendants(house.pid)):
        for name in ("cmdline", "environ"):
            place = Path(f"/proc/{pid}/{name}")
            yield place, place.read_bytes()


def _private_part(pem: bytes) -> bytes:
    """The decoded body of a PEM file: an OpenSSH key's last part is the secret one, as are most bytes of PKCS #8."""
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    raw = base64.b64decode(body)
    marker = raw.rfind(b"\x00\x00\x00\x40")  # OpenSSH: 64 bytes, seed and public key
    if b"openssh-key-v1" in raw and marker > 0:
        return raw[marker + 4 : marker + 36]
    return raw[36:68] if len(raw) > 68 else raw[-32:]


def _forms(secret: bytes) -> Iterator[bytes]:
    """As it is, in hex, in base64 (at any offset) and url-safe."""
    yield secret
    yield secret.hex().encode()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret)[(4 if offset else 0) : -4]
        yield encoded
        yield encoded.replace(b"+", b"-").replace(b"/", b"_")
