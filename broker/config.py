"""Settings: one TOML file, `GRANTD_` variables over it. An unknown key, or a value out of range, refuses to start.

Holds no secret: keys are files of their own (root.key, the signer's directory) or systemd credentials.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from broker.core.errors import invalid
from broker.core.ids import is_tenant

_STRICT = ConfigDict(extra="forbid", frozen=True)
_PREFIX = "GRANTD_"
_OTHERS = frozenset(
    {"GRANTD_ROOT_KEY", "GRANTD_CONFIG", "GRANTD_OWNER_URL", "GRANTD_REQUIRE", "GRANTD_DEMO_WITHOUT_SSHD"}
)
"""Variables of this prefix that are not settings."""
DEFAULT_FILE = Path("/etc/grantd/grantd.toml")


class Address(BaseModel):
    """Where to listen, and what clients are told instead where that differs (NAT, a name)."""

    model_config = _STRICT
    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    advertise: str = ""
    """`host:port` for clients; empty = host:port of the listener."""

    def told(self, port: int) -> str:
        """What clients are told once the listener has its port."""
        return self.advertise or f"{self.host}:{port}"


class SshDoor(Address):
    """The gateway."""

    names: tuple[str, ...] = ()
    """Further names that clients use for it: they go into its host certificate."""


class StoreSettings(BaseModel):
    """The database."""

    model_config = _STRICT
    url: str = ""
    """Empty = grantd.db in the data directory (SQLite); `postgresql://...` for a server."""


class RecordingSettings(BaseModel):
    """Recordings on disk."""

    model_config = _STRICT
    directory: Path | None = None
    """Default: `recordings` in the data directory."""
    floor_mib: int = Field(default=256, ge=1)
    """With less free space than this no session starts."""


class AuditSettings(BaseModel):
    """The log's name: `<domain>/<cluster>/audit/<tenant>`."""

    model_config = _STRICT
    domain: str = "grantd.internal"
    cluster: str = "c1"


class SignerSettings(BaseModel):
    """The signer: embedded as a child, or a service of its own behind a socket."""

    model_config = _STRICT
    embedded: bool = True
    directory: Path | None = None
    """Its keys; default: `signer` in the data directory. Only read where embedded."""
    socket: Path | None = None
    """Default: `run/signer.sock` in the data directory."""
    uid: int | None = None
    """Its user, where it is a service of its own."""


class LimitSettings(BaseModel):
    """Caps; see broker.service.world.Limits."""

    model_config = _STRICT
    sessions_per_grant: int = Field(default=10, ge=1, le=1000)
    sessions_per_process: int = Field(default=500, ge=1, le=10_000)
    max_output_mib: int = Field(default=1024, ge=1)


class Settings(BaseModel):
    """Everything the daemon is told."""

    model_config = _STRICT
    data: Path
    """State directory, 0700."""
    broker: str = Field(default="b1", pattern=r"^[a-z0-9-]{1,16}$")
    tenant: str = "main"
    """The tenant that `grantd init` makes."""
    root_key: Path | None = None
    """Default: `root.key` in the data directory; a systemd credential `grantd-root` goes before it."""
    server_names: tuple[str, ...] = ()
    """Further names of the broker in its TLS certificate."""
    grpc: Address = Address(port=7443)
    join: Address = Address(port=7444)
    ssh: SshDoor = SshDoor(port=7022)
    metrics: Address = Address(port=7480)
    store: StoreSettings = StoreSettings()
    recordings: RecordingSettings = RecordingSettings()
    audit: AuditSettings = AuditSettings()
    signer: SignerSettings = SignerSettings()
    limits: LimitSettings = LimitSettings()
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str) -> str:
        if not is_tenant(value):
            raise ValueError("a tenant is lower case letters, digits and '-'")
        return value

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.data.absolute() / 'grantd.db'}"

    @property
    def recordings_directory(self) -> Path:
        return self.recordings.directory or self.data / "recordings"

    @property
    def signer_directory(self) -> Path:
        return self.signer.directory or self.data / "signer"

    @property
    def signer_socket(self) -> Path:
        return self.signer.socket or self.data / "run" / "signer.sock"

    @property
    def root_key_file(self) -> Path:
        return self.root_key or self.data / "root.key"

    @classmethod
    def load(cls, path: Path, environ: Mapping[str, str] | None = None) -> Self:
        """The settings of a file, with `GRANTD_SECTION__KEY=value` variables over them.

        Raises:
            Refusal: `bad_config`: unreadable, not TOML, an unknown key, a value out of range. Names file and key.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise invalid("bad_config", f"cannot read {path}: {error.strerror}", "grantd init makes one") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise invalid("bad_config", f"{path} is not TOML: {error}", "mend the line it names") from error
        try:
            return cls.model_validate(_overlaid(values, os.environ if environ is None else environ))
        except ValidationError as error:
            raise invalid("bad_config", f"{path}: {_first(error)}", "see docs/configuration.md") from error


def _overlaid(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The file's values with the environment's on top; an unknown variable becomes an unknown key, and refuses."""
    for name, value in environ.items():
        if not name.startswith(_PREFIX) or name in _OTHERS:
            continue
        keys = name.removeprefix(_PREFIX).lower().split("__")
        inner = values
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
    return values


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place or 'settings'}: {problem['msg']}"
