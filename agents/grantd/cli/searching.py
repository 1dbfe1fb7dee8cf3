"""`grantctl sessions grep`: where a word was printed, asked for or decided on."""

from __future__ import annotations

import re

import click

from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.cli.visible import one_line
from grantd.v1.session_pb2 import RecordingHit, SearchRecordingsRequest, SearchRecordingsResponse


@click.command()
@click.argument("word")
@click.option("--reason", required=True, help="why you search; kept in the audit log, as the word is")
@click.pass_obj
def grep(shell: Shell, word: str, reason: str) -> int:
    """Find a whole word in every recording that you may see, newest first. Exit code 1: it is in none."""
    client = shell.client
    found = 0
    request = SearchRecordingsRequest(word=word, reason=reason)
    for answer in client.stream(client.sessions.SearchRecordings, request):
        if shell.as_json:
            shell.show_all([answer], (), lambda _: ())
        if answer.HasField("looked"):
            if not shell.as_json:
                _tell(shell, answer)
            continue
        found += 1
        if not shell.as_json:
            _print(answer, word)
    return Exit.OK if found else Exit.FAILURE


def _print(answer: SearchRecordingsResponse, word: str) -> None:
    session = answer.session
    head = f"{session.id}  {session.identity_name} as {session.login} on {session.target_name}"
    click.echo(click.style(one_line(head), bold=True))
    for hit in answer.hits:
        click.echo(f"  {_clock(hit)}  {_lit(one_line(hit.line), word)}")


def _lit(line: str, word: str) -> str:
    """The line with the word marked; both escaped alike."""
    shown = re.compile(re.escape(one_line(word.strip())), re.IGNORECASE)
    return shown.sub(lambda match: click.style(match[0], fg="yellow", bold=True), line)


def _clock(hit: RecordingHit) -> str:
    seconds = hit.t_us // 1_000_000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _tell(shell: Shell, answer: SearchRecordingsResponse) -> None:
    looked = answer.looked
    shell.say(f"{looked.recordings} recordings searched")
    if looked.unreadable:
        shell.say(f"{looked.unreadable} of them could not be read: nothing is known about these")
