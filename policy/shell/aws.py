"""aws: a service, an operation, and then options that never run a program on this machine. Runs nothing.

The names of operations are regular, so the verb they begin with tells what they do; the few that do
otherwise are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.rules import hinted
from policy.shell.words import Word


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FLAGS = _names("--debug --no-verify-ssl --no-paginate --no-sign-request --no-cli-pager --no-cli-auto-prompt --version")
_VALUES = _names(
    """--profile --region --output --query --color --ca-bundle --cli-read-timeout --cli-connect-timeout
    --cli-binary-format --endpoint-url"""
)
_READS = _names(
    """describe list get head lookup search query scan filter select validate estimate preview simulate check count view
    compare detect wait help"""
)
_WRITES = _names(
    """create delete update put add remove set unset attach detach modify authorize revoke register deregister enable
    disable tag untag associate disassociate copy publish import export restore rotate cancel release allocate apply
    change accept reject purchase reset promote confirm replace request transfer assign unassign provision deprovision
    upload download move merge increase decrease assume generate subscribe unsubscribe terminate rebuild renew lock
    unlock upgrade deploy package suspend resume verify admin post archive unarchive activate deactivate"""
)
_RUNS = _names(
    "start stop run invoke send restart rollback failover submit retry pause signal trigger rerun execute test"
)
_NOT_SHOWN = frozenset({"run", "invoke", "execute", "send", "submit"})  # what they run is not in the text

# Operations that write what they get into a file.
_TO_A_FILE = _names(
    """get-export get-sdk get-configuration get-hosted-configuration-version get-latest-configuration
    get-code-binding-source get-introspection-schema get-connection-function get-function get-package-version-asset
    get-profile get-media get-lineage-event get-snapshot-block get-glyphs get-sprites get-static-map
    get-style-descriptor get-tile get-job-output get-thing-shadow get-position-estimate get-resource-position get-clip
    get-media-for-fragment-list get-work-unit-results get-map-glyphs get-map-sprites get-map-style-descriptor
    get-map-tile describe-input-device-thumbnail get-object get-object-torrent get-image-frame
    get-image-set-metadata get-read-set get-reference get-raw-message-content get-sol-function-package-content
    get-sol-function-package-descriptor get-sol-network-package-content get-sol-network-package-descriptor
    get-game-session-log select-object-content"""
)
_SECRETS = _names(
    """get-secret-value batch-get-secret-value get-login-password get-login get-session-token get-federation-token
    get-authorization-token export-credentials get-credentials-for-identity get-password-data get-role-credentials
    get-token get-parameter get-parameters get-parameters-by-path"""
)
# What a service does under its own names.
_OF_SERVICE: Mapping[str, Mapping[CommandClass, str]] = {
    "s3": {CommandClass.READ: "ls presign", CommandClass.WRITE: "cp mv sync rm mb rb website"},
    "configure": {
        CommandClass.READ: "list list-profiles get export-credentials",
        CommandClass.WRITE: "set import sso sso-session add-model",
    },
    "logs": {CommandClass.READ: "tail start-live-tail", CommandClass.WRITE: "start-query stop-query"},
    "history": {CommandClass.READ: "list show"},
    "eks": {CommandClass.WRITE: "update-kubeconfig"},
    "sso": {CommandClass.WRITE: "login logout"},
    "emr": {CommandClass.EXECUTE: "ssh socks get put"},
    "cognito-identity": {CommandClass.WRITE: "get-id get-open-id-token-for-developer-identity"},
}
_SENDS = frozenset({"publish", "upload", "cp", "sync", "mv", "put", "send"})


def by_operation(words: Sequence[Word]) -> Effect:
    """The effect of an `aws` call; what is not read as SERVICE OPERATION is opaque."""
    path, rest = _path(words)
    if path is None:
        return opaque("aws.unknown", "which operation of aws runs is not known", floor=hinted(words[1:]))
    service, operation = [*path, "", ""][:2]
    if not service and words[1:] and words[-1].text == "--version":
        return plain(CommandClass.READ, "aws --version", "shows a version")
    if "help" in path or (len(rest) == 1 and rest[0].text == "help"):
        return plain(CommandClass.READ, "aws help", "shows a manual")
    rule = f"aws {service} {operation}"
    level = _level(service, operation)
    if level is None or not operation:
        return opaque(f"{rule}.unknown", f"what {rule} does is not known", floor=hinted(words[1:]))
    texts = {word.text for word in rest}
    if _only_tries(service, operation, texts):
        return plain(CommandClass.READ, f"{rule}.dry", f"{rule} only tries it out")
    said = "shows a secret" if operation in _SECRETS else f"is {level.phrase} command"
    verb = operation.partition("-")[0]
    return replace(
        plain(level, rule, f"{rule} {said}"), egress=verb in _SENDS or _leaves(words[1:]), opaque=verb in _NOT_SHOWN
    ).at_least(hinted(words[1:]), rule, "installs or restarts something")


def _path(words: Sequence[Word]) -> tuple[list[str] | None, Sequence[Word]]:
    """Service and operation, and the words behind them; None if an option or an open word is in the way."""
    path: list[str] = []
    index = 1
    while index < len(words) and len(path) < len(("SERVICE", "OPERATION")):
        word = words[index]
        name, equals, _ = word.head.partition("=")
        if name in _VALUES and (equals or (index + 1 < len(words) and words[index + 1].single)):
            index += 1 if equals else 2
            continue
        if not word.fixed or (word.text.startswith("-") and word.text not in _FLAGS):
            return None, ()
        if not word.text.startswith("-"):
            path.append(word.text)
        index += 1
    return path, words[index:]


def _level(service: str, operation: str) -> CommandClass | None:
    for level, names in _OF_SERVICE.get(service, {}).items():
        if operation in names.split():
            return level
    if operation in _TO_A_FILE:
        return CommandClass.WRITE
    if service in ("s3", "configure", "history"):
        return None
    verb, _, rest = operation.partition("-")
    if verb in ("batch", "admin"):  # batch-get-item, admin-delete-user
        verb = rest.partition("-")[0]
    if verb == "reboot":
        return CommandClass.REBOOT
    levels = ((_READS, CommandClass.READ), (_WRITES, CommandClass.WRITE), (_RUNS, CommandClass.EXECUTE))
    return next((level for verbs, level in levels if verb in verbs), None)


def _only_tries(service: str, operation: str, options: set[str]) -> bool:
    if service == "s3":
        return "--dryrun" in options
    tries = service == "ec2" or (service, operation) == ("eks", "update-kubeconfig")
    return tries and "--dry-run" in options and not any(option.startswith("--no-d") for option in options)


def _leaves(words: Sequence[Word]) -> bool:
    """Whether a file of this machine, or a word that the target fills in, goes with the question."""
    return any(
        not word.fixed or word.text.startswith(("file://", "fileb://", "--endpoint-u")) or "=file" in word.text
        for word in words
    )
