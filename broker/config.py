"""Settings: one TOML file, `GRANTD_` variables over it. An unknown key, or a value out of range, refuses to start.

Holds no key: those are files of their own (root.key, the signer's directory) or systemd credentials. The one secret
that may stand in it is a password inside `store.url`: never shown, and then the file must be closed to others.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from broker.core.errors import Refusal, invalid
from broker.core.ids import is_tenant
from recorder.typed import InputPolicy

_STRICT = ConfigDict(extra="forbid", frozen=True)
_PREFIX = "GRANTD_"
_OTHERS = frozenset(
    {
        "GRANTD_ROOT_KEY",
        "GRANTD_ROOT_KEY_PREVIOUS",
        "GRANTD_CONFIG",
        "GRANTD_OWNER_URL",
        "GRANTD_REQUIRE",
        "GRANTD_DEMO_WITHOUT_SSHD",
    }
)
"""Variables of this prefix that are not settings."""
_TOLD = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
"""`host:port`; an IPv6 address stands in brackets."""
_OPEN = stat.S_IRWXO
_MAX_PORT = 65535
_PORTS = {"grpc": 7443, "join": 7444, "ssh": 7022, "metrics": 7480, "freeze": 7445}


def _words(value: object) -> object:
    """A list, or one text with commas, which is how an environment variable says it."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _user(value: object) -> object:
    """A user's number; a name is looked up."""
    if not isinstance(value, str) or value.isdecimal():
        return value
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError("there is no such user") from None


Names = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Address(BaseModel):
    """Where to listen, and what clients are told instead where that differs (NAT, a name)."""

    model_config = _STRICT
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(ge=0, le=_MAX_PORT)
    advertise: str = ""
    """`host:port` for clients; empty = host:port of the listener."""

    @field_validator("advertise")
    @classmethod
    def _advertise(cls, value: str) -> str:
        found = _TOLD.fullmatch(value)
        if value and (found is None or not 0 < int(found["port"]) <= _MAX_PORT):
            raise ValueError("an advertised address is host:port")
        return value

    def bound(self) -> str:
        """`host:port` of the listener."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def told(self) -> str:
        """`host:port` for clients."""
        return self.advertise or self.bound()

    def told_host(self) -> str:
        """The name or address that clients connect to, without brackets."""
        return self.told().rpartition(":")[0].strip("[]")


class SshDoor(Address):
    """The gateway."""

    names: Names = ()
    """Further names that clients use for it: they go into its host certificate."""
    fast_path: bool = True
    """Whether packets go around the slow parts of asyncssh, on both legs; off where a fault is looked for."""
    workers: int = Field(default=0, ge=0, le=32)
    """Processes that accept here and run the sessions, apart from the broker; 0 = the broker does so itself."""


class StoreSettings(BaseModel):
    """The database."""

    model_config = _STRICT
    url: str = Field(default="", repr=False)
    """Empty = grantd.db in the data directory (SQLite); `postgresql://...` for a server."""


class RecordingSettings(BaseModel):
    """Recordings on disk."""

    model_config = _STRICT
    directory: Path | None = None
    """Default: `recordings` in the data directory."""
    floor_mib: int = Field(default=256, ge=1)
    """With less free space than this no session starts."""
    input: InputPolicy = InputPolicy.OFF
    """What is kept of what people type and pipe in: `off`, `echoed` or `all` (recorder/typed.py)."""


class AuditSettings(BaseModel):
    """The log's name: `<domain>/<cluster>/audit/<tenant>`."""

    model_config = _STRICT
    domain: str = Field(default="grantd.internal", pattern=r"^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$")
    cluster: str = Field(default="c1", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")


class SignerSettings(BaseModel):
    """The signer: embedded as a child, or a service of its own behind a socket."""

    model_config = _STRICT
    embedded: bool = True
    directory: Path | None = None
    """Its keys; default: `signer` in the data directory. Only read where embedded."""
    socket: Path | None = None
    """Default: `run/signer.sock` in the data directory."""
    uid: Annotated[int | None, BeforeValidator(_user)] = None
    """Its user, by number or name, where it is a service of its own."""


class LimitSettings(BaseModel):
    """Caps; see broker.service.world.Limits."""

    model_config = _STRICT
    sessions_per_grant: int = Field(default=10, ge=1, le=1000)
    sessions_per_process: int = Field(default=500, ge=1, le=10_000)
    max_output_mib: int = Field(default=1024, ge=1)
    database_sessions: int = Field(default=50, ge=1, le=10_000)
    """How many the roles on one database server may have at once, together; PostgreSQL itself has 100 for everybody."""


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
    server_names: Names = ()
    """Further names of the broker in its TLS certificate."""
    grpc: Address = Address(port=_PORTS["grpc"])
    join: Address = Address(port=_PORTS["join"])
    ssh: SshDoor = SshDoor(port=_PORTS["ssh"])
    metrics: Address = Address(port=_PORTS["metrics"])
    freeze: Address = Address(port=_PORTS["freeze"])
    """The kill switch's own listener."""
    store: StoreSettings = StoreSettings()
    recordings: RecordingSettings = RecordingSettings()
    audit: AuditSettings = AuditSettings()
    signer: SignerSettings = SignerSettings()
    limits: LimitSettings = LimitSettings()
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @model_validator(mode="before")
    @classmethod
    def _usual_ports(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A section that says something else keeps its usual port."""
        said = {name: values[name] for name in _PORTS if isinstance(values.get(name), dict)}
        return {**values, **{name: {"port": _PORTS[name], **section} for name, section in said.items()}}

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
    def freezes_directory(self) -> Path:
        return self.data / "freezes"

    @property
    def host_socket(self) -> Path:
        """Where the kill switch is pulled on this machine."""
        return self.data / "run" / "freeze.sock"

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
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                values = tomllib.loads(file.read().decode())
        except OSError as error:
            raise invalid("bad_config", f"cannot read {path}: {error.strerror}", "grantd init makes one") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise invalid("bad_config", f"{path} is not TOML: {error}", "mend the line it names") from error
        _refuse_open(path, mode, values)
        return cls._valid(f"{path}: ", _overlaid(values, os.environ if environ is None else environ))

    @classmethod
    def made(cls, **values: object) -> Self:
        """Settings from values that a person gave in another way than a file. Raises Refusal `bad_config`."""
        return cls._valid("", values)

    @classmethod
    def _valid(cls, source: str, values: Mapping[str, object]) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise invalid("bad_config", source + _first(error), "see docs/configuration.md") from error


def _refuse_open(path: Path, mode: int, values: Mapping[str, Any]) -> None:
    """Whoever can write the settings is the broker; whoever can read a password has the database (I-54)."""
    store = values.get("store")
    url = str(store.get("url", "")) if isinstance(store, dict) else ""
    if mode & stat.S_IWOTH:
        raise invalid("bad_config", f"{path}: everybody may write it", f"chmod o= {path}")
    if mode & _OPEN and _has_password(url):
        raise invalid("bad_config", f"{path}: store.url has a password, and others may read it", f"chmod o= {path}")


def _has_password(url: str) -> bool:
    try:
        return urlsplit(url).password is not None
    except ValueError:
        return "@" in url


def _overlaid(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The file's values with the environment's on top; an unknown variable refuses by its name."""
    known = _variables(Settings)
    for name, value in environ.items():
        if not name.startswith(_PREFIX) or name in _OTHERS:
            continue
        if name not in known:
            raise _unknown(name)
        *sections, key = known[name]
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise invalid("bad_config", f"{section} is a section, not a value", "see docs/configuration.md")
        inner[key] = value
    return values


def _unknown(variable: str) -> Refusal:
    return invalid(
        "bad_config", f"the environment variable {variable} is no setting of grantd", "see docs/configuration.md"
    )


def _variables(model: type[BaseModel], above: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Each setting's variable and its place in the file."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        place = (*above, name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _variables(kind, place)
        else:
            found[_PREFIX + "__".join(place).upper()] = place
    return found


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    said = "there is no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
    return f"{place or 'settings'}: {said}"
