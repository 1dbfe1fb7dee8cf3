"""aws: the verb of an operation decides; what names a file, sends one or is not understood is never a read."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify


def _classified(command: str) -> Classified:
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    return verdict


@pytest.mark.parametrize(
    "command",
    [
        "aws s3api get-object-torrent --bucket b --key k f",
        "aws glacier get-job-output --account-id - f",
        "aws dynamodb batch-write-item --request-items x",
        "aws cognito-idp admin-delete-user --username x",
        "aws iam frobnicate-users",
        "aws s3 frobnicate",
        "aws $service list-users",
        "aws iam $operation",
        "aws --made-up x iam list-users",
        "aws s3 rm --help-me s3://b",
        "aws s3 rm help s3://b",
        "aws emr get --cluster-id x --src y",
        "aws s3 cp s3://b/k f --dry-run",
        "aws ec2 run-instances --dry-run --no-dry-run",
        "aws ec2 run-instances --dry-run --no-dry-ru",
        "aws schemas get-code-binding-source --language Go1 f",
        "aws gamelift get-game-session-log --game-session-id x --save-as f",
        "aws s3api select-object-content --bucket b --key k f",
        "aws rds delete-db-instance --dry-run",
        "aws",
    ],
)
def test_what_may_change_something_is_no_read(command: str) -> None:
    """I-16: reads are proved, here by the verb of a known form of call."""
    assert _classified(command).command_class > CommandClass.READ


@pytest.mark.parametrize(
    "command",
    [
        "aws iam list-users --profile x",
        "aws --region eu-west-1 --output=json ec2 describe-instances",
        "aws dynamodb batch-get-item --request-items x",
        "aws cognito-idp admin-get-user --username x",
        "aws s3 cp a s3://b --dryrun",
        "aws eks update-kubeconfig --name x --dry-run",
        "aws ec2 help",
        "aws help",
        "aws --version",
    ],
)
def test_a_read_is_one(command: str) -> None:
    """The verbs that only show, and what aws itself only tries out."""
    verdict = _classified(command)
    assert verdict.command_class is CommandClass.READ
    assert not verdict.opaque


@pytest.mark.parametrize(
    "command",
    [
        "aws iam list-users --path-prefix file:///etc/shadow",
        "aws iam list-users --endpoint-url http://192.0.2.1",
        'aws iam list-users --marker "$x"',
        "aws s3 cp f s3://b/k",
    ],
)
def test_what_may_leave_is_said(command: str) -> None:
    """A file of the target, or a value that only the target knows, goes out with the question."""
    assert _classified(command).egress


def test_a_shown_secret_is_named() -> None:
    """A person sees that the read shows one."""
    (part,) = _classified("aws secretsmanager get-secret-value --secret-id x").parts
    assert part.reason.endswith("shows a secret")
