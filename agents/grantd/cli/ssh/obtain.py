"""Key and certificate for one login on one target: what lies there, else by a grant, else by asking for one.

Safe among processes: whoever holds the place's lock asks the broker, the others find what came of it, so that many ssh
at once make one request. The lock is never held while a person is waited for.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from grantd import asking
from grantd.cli import sshfiles
from grantd.cli.shell import Shell, span
from grantd.cli.ssh import kept
from grantd.cli.ssh.kept import State, Wish
from grantd.cli.ssh.place import Place
from grantd.cli.ssh.waiting import Patience, decided
from grantd.cli.sshfiles import SshFiles
from grantd.cli.visible import one_line
from grantd.errors import GrantdError, Invalid, NotFound, StillPending, Unreachable
from grantd.profile import replace_file
from grantd.v1.access_pb2 import AccessRequest, Grant, GrantState, IssueCredentialResponse, RequestState

_USABLE: Final = (GrantState.GRANT_STATE_ACTIVE, GrantState.GRANT_STATE_APPROVED)
_NEWS: Final = (RequestState.REQUEST_STATE_DENIED, RequestState.REQUEST_STATE_EXPIRED)
_NEWS_SECONDS: Final = 600
_LOOKED_AT: Final = 400
"""Grants that are looked at, newest first, before a new one is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked for where there is no grant, and what an existing one has to be good for."""

    wish: Wish
    """Only what somebody named; a grant that exists has to cover it."""
    ceiling: str
    ttl: timedelta
    reason: str


class Obtaining:
    """One login on one target, for one invocation."""

    def __init__(self, shell: Shell, place: Place, ask: Asking) -> None:
        self._shell, self._place, self._ask = shell, place, ask
        self._profile = shell.client.profile.directory
        self._directory = kept.directory_of(self._profile, place)

    def files(self, patience: Patience) -> SshFiles:
        """Files that open the gateway now.

        Raises:
            StillPending: an approver has to decide, and the patience is over.
            GrantdError: refused, expired, denied by policy, unreachable.
        """
        while True:
            with kept.locked(self._directory):
                step = self._kept() or self._by_a_grant() or self._request()
                if isinstance(step, AccessRequest) and asking.is_decided(step):
                    step = self._by_request(step)
            if isinstance(step, SshFiles):
                return step
            answer = decided(self._shell, step, patience)
            if not asking.is_decided(answer):
                raise StillPending(
                    "request_pending", f"{answer.id} waits for an approver", "the same command again goes on with it"
                )
            self._told(answer)

    # --- what lies there

    def _kept(self) -> SshFiles | None:
        state, now = kept.state_in(self._directory), kept.now()
        if state is None or not state.is_usable(self._ask.wish, now):
            return None
        if not state.is_fresh(self._ask.wish, now) and not self._still_stands(state):
            return None
        gateway = kept.gateway_of(self._profile)
        if gateway is None:
            return None
        return sshfiles.files_in(self._directory, user=self._place.user, host=gateway[0], port=gateway[1])

    def _still_stands(self, state: State) -> bool:
        try:
            stands = self._shell.client.grant(state.grant).state in _USABLE
        except NotFound:
            return False
        except Unreachable:
            return True  # whether it opens anything is the gateway's to say
        if stands:
            kept.touch(self._directory)
        return stands

    # --- by a grant

    def _by_a_grant(self) -> SshFiles | None:
        grant = best_grant(self._shell, self._place, self._ask.wish)
        return None if grant is None else self._issued(grant)

    def _by_request(self, request: AccessRequest) -> SshFiles:
        self._forget()
        return self._issued(self._shell.client.grant(asking.require_grant(request)))

    def _issued(self, grant: Grant) -> SshFiles:
        client, told = self._shell.client, list[IssueCredentialResponse]()

        def issue(public_key: bytes) -> IssueCredentialResponse:
            told.append(client.issue_ssh(grant.id, public_key))
            if told[-1].gateway_user != self._place.user:
                raise Invalid("bad_gateway", "the broker's certificate is for another login or target")
            return told[-1]

        files = sshfiles.write(self._directory, issue)
        self._keep_gateway(files, sshfiles.host_cas(told[-1].gateway_known_hosts))
        now = kept.now()
        state = {
            "grant": grant.id,
            "ceiling": asking.class_word(grant.ceiling),
            "flags": list(grant.flags),
            "renew_at": kept.renewal_of(told[-1].not_after.ToDatetime(tzinfo=UTC).timestamp(), now),
        }
        replace_file(self._directory / "state.json", json.dumps(state).encode())
        return files

    def _keep_gateway(self, files: SshFiles, host_cas: list[str]) -> None:
        root = kept.root_of(self._profile)
        for name, content in (
            ("gateway.json", json.dumps({"host": files.host, "port": files.port})),
            ("gateway.conf", f"# made by grantctl ssh-cert\nHostKeyAlias {files.host}\n"),
            ("known_hosts", "".join(f"@cert-authority {files.host} {ca}\n" for ca in host_cas)),
        ):
            replace_file(root / name, content.encode())

    # --- by asking

    def _request(self) -> AccessRequest:
        """The request that waits already, or a new one. A no that nobody here heard yet is told first."""
        waits = kept.pending_in(self._directory)
        if waits and self._ask.wish.is_covered(str(waits.get("ceiling")), list(map(str, waits.get("flags", ())))):
            with contextlib.suppress(NotFound):
                earlier = self._shell.client.get_request(str(waits.get("request")))
                if not asking.is_decided(earlier):
                    return earlier
                self._forget()
                if earlier.state in _NEWS and _is_news(earlier):
                    asking.require_grant(earlier)
        ask = self._ask
        if self._on_terminal():
            self._say_what(ask)
        made = self._shell.client.request_access(
            self._place.target, self._place.login, ceiling=ask.ceiling, ttl=ask.ttl, reason=ask.reason,
            flags=ask.wish.flags,
        )  # fmt: skip
        waits = {"request": made.id, "ceiling": ask.ceiling, "flags": list(ask.wish.flags)}
        replace_file(self._directory / "pending.json", json.dumps(waits).encode())
        return made

    def _told(self, answer: AccessRequest) -> None:
        """An answer that is a no is told once; asking again is then a new request."""
        try:
            asking.require_grant(answer)
        except GrantdError:
            with kept.locked(self._directory):
                if kept.pending_in(self._directory).get("request") == answer.id:
                    self._forget()
            raise

    def _forget(self) -> None:
        (self._directory / "pending.json").unlink(missing_ok=True)

    def _say_what(self, ask: Asking) -> None:
        flags = f", with {' '.join(ask.wish.flags)}" if ask.wish.flags else ""
        self._shell.say(
            f"grantctl: asking for {self._place.login} on {self._place.target}: commands up to {ask.ceiling}{flags}, "
            f"for {span(ask.ttl)}; reason: {one_line(ask.reason)}"
        )

    @staticmethod
    def _on_terminal() -> bool:
        return Patience.of_streams(None).on_terminal


def best_grant(shell: Shell, place: Place, wish: Wish) -> Grant | None:
    """The caller's own grant there that is enough and has time left: the widest, among those the one that ends last."""
    client, now = shell.client, kept.now()
    me = client.whoami().identity_id
    fitting = [
        grant
        for grant in islice(client.grants(), _LOOKED_AT)
        if grant.identity_id == me
        and (grant.login, grant.target_name) == place
        and grant.state in _USABLE
        and wish.is_covered(asking.class_word(grant.ceiling), grant.flags)
        and has_time(grant, now)
    ]
    return max(fitting, key=lambda grant: (grant.ceiling, _end(grant)), default=None)


def has_time(grant: Grant, now: float) -> bool:
    """Whether something new may be begun under it."""
    if not grant.HasField("not_after"):
        return now < grant.must_start_by.seconds
    return now < kept.renewal_of(grant.not_after.seconds, grant.not_after.seconds - grant.ttl.seconds)


def _is_news(request: AccessRequest) -> bool:
    return kept.now() < request.expires_at.seconds + _NEWS_SECONDS


def _end(grant: Grant) -> int:
    return grant.not_after.seconds or grant.must_start_by.seconds


def own_logins(shell: Shell, target: str) -> set[str]:
    """Logins on a target for which the caller has a grant that can be used."""
    client, now = shell.client, kept.now()
    me = client.whoami().identity_id
    return {
        grant.login
        for grant in islice(client.grants(), _LOOKED_AT)
        if grant.identity_id == me and grant.target_name == target and grant.state in _USABLE and has_time(grant, now)
    }


def as_answer(files: SshFiles, directory: Path) -> IssueCredentialResponse:
    """What lies there, in the form in which the broker told it; without what only the broker knows."""
    return IssueCredentialResponse(
        ssh_certificate=(directory / files.certificate.name).read_text().strip(),
        gateway_user=files.user,
        gateway_address=f"[{files.host}]:{files.port}" if ":" in files.host else f"{files.host}:{files.port}",
        gateway_known_hosts=files.known_hosts.read_text().strip(),
    )
