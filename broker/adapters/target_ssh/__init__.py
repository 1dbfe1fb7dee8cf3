"""Targets over SSH: the one adapter that reaches a target. Never logs in but with a certificate made for it."""

from __future__ import annotations

from broker.adapters.target_ssh.revocation_list import SshRevocationLists
from broker.adapters.target_ssh.sshd_lines import sshd_lines
from broker.adapters.target_ssh.targets import SshTargets

__all__ = ["SshRevocationLists", "SshTargets", "sshd_lines"]
