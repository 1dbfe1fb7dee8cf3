"""Changes that need a fresh signature, and `grantctl change sign` for the second person.

The first person's command signs and sends; where the broker wants a second person it leaves a change file. That
person looks at it, signs it, and hands it back; the first person's command with `--cosign FILE` sends both.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict

from grantd import asking, statements, stepup, trust
from grantd.cli import signing
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, now
from grantd.cli.visible import one_line, readable
from grantd.errors import GrantdError, Invalid, StillPending
from grantd.profile import replace_file
from grantd.statements import Statement
from grantd.stepup import Change, ChangeFile
from grantd.v1.admin_pb2 import (
    AddPersonRequest,
    PutPolicyRequest,
    PutTargetRequest,
    PutTrustRequest,
    SetTargetPasswordRequest,
    SetTeamsRequest,
    SuspendIdentityRequest,
    UnfreezeRequest,
)
from grantd.v1.ca_pb2 import RotateCaRequest
from grantd.v1.glass_pb2 import MakeBreakGlassRequest, ReviewBreakGlassRequest
from grantd.v1.vault_pb2 import RotateKeyRequest

A = TypeVar("A")
# one kind of change in, the same kind out
C = TypeVar(
    "C",
    AddPersonRequest,
    PutTargetRequest,
    PutPolicyRequest,
    SetTeamsRequest,
    SuspendIdentityRequest,
    UnfreezeRequest,
    RotateCaRequest,
    MakeBreakGlassRequest,
    ReviewBreakGlassRequest,
    RotateKeyRequest,
    PutTrustRequest,
    SetTargetPasswordRequest,
)
_MAX_FILE_BYTES: Final = 1 << 20


def step_up_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--key` and `--cosign` for a command that changes something under a signature."""
    command = click.option(
        "--cosign", type=click.Path(path_type=Path), help="a change file that a second person signed"
    )(command)
    return click.option("--key", type=click.Path(path_type=Path), help="approval key, if not the profile's")(command)


def submit(
    shell: Shell,
    method: Callable[[], grpc.UnaryUnaryMultiCallable[C, A]],
    request: C,
    *,
    key: Path | None,
    cosign: Path | None,
    about: str = "",
) -> A:
    """Sign a change and send it; where a second person is needed, leave the change file and raise StillPending.

    `about` is the name that was typed, where the change carries an id that the broker gave for it.
    """
    client = shell.client
    me = client.whoami()
    if cosign is not None:
        typed, request = request, _cosigned(request, cosign, tenant=me.tenant, first=me.identity_id)
        trust.must_be_typed(client, request, typed, tenant=me.tenant, now=now(), about=about)
    trust.state(client, request, tenant=me.tenant, now=now(), about=about)
    signer = signing.find(client.profile, key)
    bare = copy.deepcopy(request)
    request.step_ups.append(stepup.step_up(request, signer.sign, tenant=me.tenant, person_id=me.identity_id, now=now()))
    try:
        return client.call(method(), request)
    except GrantdError as refused:
        if refused.code != stepup.SECOND_PERSON or cosign is not None:
            raise
        path = _leave(ChangeFile(tenant=me.tenant, change=bare))
        raise StillPending(
            stepup.SECOND_PERSON,
            f"a second person has to sign this change: {path}",
            f"they run: grantctl change sign {path}   then you: the same command with --cosign {path}",
        ) from refused


@click.group()
def change() -> None:
    """Changes that need a second person."""


@change.command("sign")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="approval key, if not the profile's")
@click.option("--yes", is_flag=True, help="you have read it already")
@click.pass_obj
def sign_change(shell: Shell, *, file: Path, key: Path | None, yes: bool) -> int:
    """Read another person's change FILE, and sign it if you agree. It then needs to be sent within minutes."""
    held = ChangeFile.parse(_read(file))
    client = shell.client
    me = client.whoami()
    if held.tenant != me.tenant:
        raise Invalid("other_tenant", f"the change is of tenant {held.tenant}, you are of {me.tenant}")
    trust.must_say(held.change, tenant=me.tenant)
    shell.say(render(held.change))
    if not yes and not _agrees():
        shell.say("not signed")
        return Exit.FAILURE
    signer = signing.find(client.profile, key)
    held.change.step_ups.append(
        stepup.step_up(held.change, signer.sign, tenant=me.tenant, person_id=me.identity_id, now=now())
    )
    replace_file(file, held.render())
    shell.say(f"signed with {signer.fingerprint}; hand {file} back")
    return Exit.OK


def render(change: Change) -> str:
    """Method and every field of a change, escaped, long texts with their line breaks."""
    fields = MessageToDict(change, preserving_proto_field_name=True)
    fields.pop("step_ups", None)
    fields.pop("idempotency_key", None)
    fields.pop("trust", None)
    lines = [click.style(one_line(stepup.method_of(change)), bold=True)]
    for name, value in fields.items():
        if name == "sources":
            for source, text in sorted(value.items()):
                lines += [f"  {one_line(source)}", *(f"    | {line}" for line in readable(text).split("\n"))]
            continue
        lines.append(f"  {name}  {one_line(value if isinstance(value, str) else json.dumps(value))}")
    # all of the statement, not what the change repeats of it: a least number of people stands in no other field
    if (statement := getattr(change, "trust", b"")) and not isinstance(change, PutPolicyRequest):
        said = Statement.parse(statement)
        lines += [f"  the signer is told of {one_line(said.subject)}, revision {said.revision}"]
        lines += [f"    {name}  {one_line(value)}" for name, value in statements.told(said.content)]
    return "\n".join(lines)


def _agrees() -> bool:
    if not sys.stdin.isatty():
        raise Invalid("no_terminal", "signing needs a terminal to ask on", "use --yes if you have read the change")
    return click.confirm("Sign this change?", default=False, err=True)


def _cosigned(request: C, path: Path, *, tenant: str, first: str) -> C:
    """The change of the file, if it is the one that the command line describes, with the others' signatures."""
    held = ChangeFile.parse(_read(path))
    same_kind = isinstance(held.change, type(request))
    if held.tenant != tenant or not same_kind or _content(held.change) != _content(request):
        raise Invalid("other_change", f"{path} holds another change than this command makes", "repeat it exactly")
    kept = [step for step in held.change.step_ups if step.person_id != first]
    if not kept:
        raise Invalid("not_cosigned", f"nobody else signed {path} yet", f"they run: grantctl change sign {path}")
    agreed = type(request).FromString(held.change.SerializeToString())
    del agreed.step_ups[:]
    agreed.step_ups.extend(kept)
    return agreed


def _content(change: Change) -> bytes:
    """What two people must agree on: everything but keys of one try and signatures."""
    bare = copy.deepcopy(change)
    del bare.step_ups[:]
    if not isinstance(
        bare,
        (RotateCaRequest, RotateKeyRequest, PutTrustRequest, SetTargetPasswordRequest, SetTeamsRequest,
         SuspendIdentityRequest, UnfreezeRequest, MakeBreakGlassRequest, ReviewBreakGlassRequest),
    ):  # fmt: skip
        bare.idempotency_key = ""
    # which revision a statement is, and the id that it names, are not on the command line
    if "trust" in bare.DESCRIPTOR.fields_by_name:
        setattr(bare, "trust", b"")  # noqa: B010  not every kind of change has one
    if isinstance(bare, PutTargetRequest):
        bare.target.id = ""
    if isinstance(bare, AddPersonRequest):
        bare.identity_id = ""
    return bare.SerializeToString(deterministic=True)


def _leave(held: ChangeFile) -> Path:
    path = Path.cwd() / f"change-{asking.new_key()[:8]}.json"
    replace_file(path, held.render())
    return path


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise Invalid("bad_change_file", f"{path} is too large for a change file")
        return path.read_bytes()
    except OSError as missing:
        raise Invalid("no_change_file", f"{path} cannot be read: {missing.strerror}") from missing
