"""Settings: strict, named where they are wrong, the same in the documentation as in the code, and free of keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from broker.config import Address, Settings
from broker.core.errors import Refusal

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "configuration.md"
MINIMAL: Final = 'data = "/var/lib/grantd"\n'


def load(folder: Path, text: str = MINIMAL, environ: dict[str, str] | None = None, *, mode: int = 0o600) -> Settings:
    """Settings of a file with this text."""
    file = folder / "grantd.toml"
    file.write_text(text)
    file.chmod(mode)
    return Settings.load(file, environ or {})


def refused(folder: Path, text: str = MINIMAL, environ: dict[str, str] | None = None, *, mode: int = 0o600) -> str:
    """What a person is told; fails the test where the settings load."""
    with pytest.raises(Refusal) as caught:
        load(folder, text, environ, mode=mode)
    assert caught.value.code == "bad_config"
    assert caught.value.way_out
    return caught.value.message


def leaves(model: type[BaseModel], above: str = "") -> dict[str, Any]:
    """Every key with its default; a required one has `...`."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= {f"{above}{name}.{key}": value for key, value in _defaults(field.default).items()}
        else:
            found[above + name] = ... if field.is_required() else field.default
    return found


def _defaults(value: BaseModel) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).model_fields}


def test_the_defaults() -> None:
    """A change here is a change of every installation that does not say otherwise."""
    address = {"host": "127.0.0.1", "advertise": ""}
    expected: dict[str, Any] = {
        "data": ..., "broker": "b1", "tenant": "main", "root_key": None, "server_names": (),
        "store.url": "", "recordings.directory": None, "recordings.floor_mib": 256,
        "recordings.input": "off", "audit.domain": "grantd.internal",
        "audit.cluster": "c1", "signer.embedded": True, "signer.directory": None, "signer.socket": None,
        "signer.uid": None, "limits.sessions_per_grant": 10, "limits.sessions_per_process": 500,
        "limits.max_output_mib": 1024, "limits.database_sessions": 50, "log_level": "info", "ssh.names": (),
        "ssh.fast_path": True, "ssh.workers": 0,
    }  # fmt: skip
    for name, port in {"grpc": 7443, "join": 7444, "ssh": 7022, "metrics": 7480, "freeze": 7445}.items():
        expected |= {f"{name}.{key}": value for key, value in {**address, "port": port}.items()}
    assert leaves(Settings) == expected


def test_what_is_not_said_lies_in_the_data_directory(tmp_path: Path) -> None:
    """One directory holds the state, unless somebody says otherwise."""
    settings = load(tmp_path)
    data = Path("/var/lib/grantd")
    assert settings.store_url == "sqlite:////var/lib/grantd/grantd.db"
    assert settings.recordings_directory == data / "recordings"
    assert settings.signer_directory == data / "signer"
    assert settings.signer_socket == data / "run" / "signer.sock"
    assert settings.root_key_file == data / "root.key"
    elsewhere = load(
        tmp_path,
        MINIMAL + 'root_key = "/k"\n[store]\nurl = "postgresql://db/g"\n[recordings]\ndirectory = "/r"\n'
        '[signer]\ndirectory = "/s"\nsocket = "/s.sock"\n',
    )
    assert elsewhere.store_url == "postgresql://db/g"
    assert str(elsewhere.recordings_directory) == "/r"
    assert (str(elsewhere.signer_directory), str(elsewhere.signer_socket)) == ("/s", "/s.sock")
    assert str(elsewhere.root_key_file) == "/k"


def documented() -> dict[str, str]:
    """Key -> default, of the table in docs/configuration.md; `.port` after `grpc.host` is `grpc.port`."""
    found: dict[str, str] = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not cells[0].startswith("`"):
            continue
        names = re.findall(r"`([a-z_.]+)`", cells[0])
        section = names[0].rpartition(".")[0]
        found |= {section + name if name.startswith(".") else name: cells[1] for name in names}
    return found


def test_the_documentation_names_exactly_the_keys_that_exist() -> None:
    """None is missing there, none is promised there."""
    assert set(documented()) == set(leaves(Settings))


def test_the_documentation_states_the_defaults() -> None:
    """Every number and word of the defaults stands in its row."""
    rows = documented()
    for key, value in leaves(Settings).items():
        if isinstance(value, bool):
            assert str(value).lower() in rows[key], key
        elif isinstance(value, int) or (isinstance(value, str) and value):
            assert re.search(rf"\b{re.escape(str(value))}\b", rows[key]), key


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('dta = "/x"\n', "dta"),
        ("[grpc]\nprot = 1\n", "grpc.prot"),
        ("[nonsense]\nkey = 1\n", "nonsense"),
        ("[ssh]\nnames = 7\n", "ssh.names"),
        ("[grpc]\nport = 65536\n", "grpc.port"),
        ("[grpc]\nport = -1\n", "grpc.port"),
        ('[grpc]\nport = "many"\n', "grpc.port"),
        ('[grpc]\nhost = ""\n', "grpc.host"),
        ("grpc = 7443\n", "grpc"),
        ('[join]\nadvertise = "no port"\n', "join.advertise"),
        ('[join]\nadvertise = "host:0"\n', "join.advertise"),
        ('[join]\nadvertise = "::1:7444"\n', "join.advertise"),
        ('[ssh]\nadvertise = "host:99999"\n', "ssh.advertise"),
        ('tenant = "_system"\n', "tenant"),
        ('tenant = "Acme"\n', "tenant"),
        ('tenant = ""\n', "tenant"),
        ('broker = "a b"\n', "broker"),
        ('broker = "b1\\n"\n', "broker"),
        ('log_level = "loud"\n', "log_level"),
        ("[recordings]\nfloor_mib = 0\n", "recordings.floor_mib"),
        ('[recordings]\ninput = "some"\n', "recordings.input"),
        ("[limits]\nsessions_per_grant = 0\n", "limits.sessions_per_grant"),
        ("[limits]\nsessions_per_process = 1.5\n", "limits.sessions_per_process"),
        ("[limits]\nmax_output_mib = 0\n", "limits.max_output_mib"),
        ('[signer]\nembedded = "perhaps"\n', "signer.embedded"),
        ('[audit]\ndomain = "two words"\n', "audit.domain"),
        ('[audit]\ncluster = "c1\\n"\n', "audit.cluster"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file(tmp_path: Path, text: str, place: str) -> None:
    """I-54: it refuses to start, and says where to look."""
    said = refused(tmp_path, MINIMAL + text)
    assert said.startswith(f"{tmp_path / 'grantd.toml'}: {place}: ")


def test_data_is_required(tmp_path: Path) -> None:
    """No default place for state that nobody chose."""
    assert ": data: " in refused(tmp_path, "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a directory, not TOML, not UTF-8."""
    missing = tmp_path / "missing.toml"
    for path in (missing, tmp_path):
        with pytest.raises(Refusal, match=f"cannot read {re.escape(str(path))}: "):
            Settings.load(path, {})
    assert "is not TOML" in refused(tmp_path, "data = \n")
    (tmp_path / "latin").write_bytes(b'data = "\xe9"\n')
    with pytest.raises(Refusal, match="is not TOML"):
        Settings.load(tmp_path / "latin", {})


# ---- the environment
def test_every_key_can_be_set_by_its_variable(tmp_path: Path) -> None:
    """GRANTD_ and the key in capitals, `__` between section and key; over what the file says."""
    values = {
        "data": "/other", "broker": "b2", "tenant": "acme", "log_level": "debug",
        "server_names": ("a", "b"), "ssh.names": ("c",), "ssh.fast_path": False, "ssh.workers": 3,
        "signer.embedded": False, "signer.uid": 7,
        "store.url": "postgresql://h/n", "recordings.directory": "/r", "recordings.input": "all",
        "signer.directory": "/s",
        "signer.socket": "/s.sock", "audit.domain": "example", "audit.cluster": "c9",
    }  # fmt: skip
    for key, default in leaves(Settings).items():
        if key == "root_key":  # its variable is the key itself, for development
            continue
        given = values.get(key, 99 if isinstance(default, int) else "h:9" if key.endswith("advertise") else "h")
        text = ", ".join(given) if isinstance(given, tuple) else str(given)
        settings = load(tmp_path, environ={"GRANTD_" + key.upper().replace(".", "__"): text})
        found: Any = settings
        for part in key.split("."):
            found = getattr(found, part)
        assert str(found) == str(given), key


def test_a_section_that_says_one_thing_keeps_the_rest(tmp_path: Path) -> None:
    """Its usual port as well."""
    settings = load(tmp_path, MINIMAL + '[ssh]\nnames = ["gate.example"]\n[grpc]\nhost = "::"\n')
    assert (settings.ssh.port, settings.ssh.names) == (7022, ("gate.example",))
    assert settings.grpc == Address(host="::", port=7443)


def test_a_variable_goes_over_the_file(tmp_path: Path) -> None:
    """One key of a section alone; its neighbours stay the file's."""
    text = MINIMAL + '[grpc]\nhost = "0.0.0.0"\nport = 1\n'
    assert load(tmp_path, text, {"GRANTD_GRPC__PORT": "2"}).grpc == Address(host="0.0.0.0", port=2)  # noqa: S104


@pytest.mark.parametrize(
    "variable", ["GRANTD_PROT", "GRANTD_GRPC__PROT", "GRANTD_GRPC_PORT", "GRANTD_GRPC", "GRANTD_TENANT__X", "GRANTD_",
                 "GRANTD_GRPC__PORT__X", "GRANTD_grpc__port", "GRANTD___"],
)  # fmt: skip
def test_an_unknown_variable_is_named(tmp_path: Path, variable: str) -> None:
    """A misspelt variable is not silently nothing."""
    said = refused(tmp_path, environ={variable: "1"})
    assert variable in said


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    """The root key of development, and what programs around the broker read; other prefixes are other people's."""
    environ = {"GRANTD_ROOT_KEY": "x", "GRANTD_CONFIG": "y", "GRANT": "z", "PATH": "/"}
    assert load(tmp_path, environ=environ) == load(tmp_path)


def test_a_bad_value_of_a_variable_names_the_key(tmp_path: Path) -> None:
    """As one in the file does."""
    assert "grpc.port: " in refused(tmp_path, environ={"GRANTD_GRPC__PORT": "all"})
    assert "grpc is a section" in refused(tmp_path, MINIMAL + 'grpc = "x"\n', {"GRANTD_GRPC__PORT": "1"})


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.lists(st.booleans(), max_size=2)))
def test_values_of_any_shape_are_settings_or_a_refusal(values: dict[str, Any]) -> None:
    """Nothing else is ever raised."""
    try:
        Settings.made(**{**values, "data": "/x"})
    except Refusal as refusal:
        if refusal.code != "bad_config":
            raise


# ---- secrets and who may read the file
PASSWORD: Final = "canary-8d1f"
WITH_PASSWORD: Final = MINIMAL + f'[store]\nurl = "postgresql://grantd:{PASSWORD}@db/grantd"\n'


def test_settings_show_no_secret(tmp_path: Path) -> None:
    """I-36: the password of the database is the only one they may hold, and it is in no repr and no refusal."""
    settings = load(tmp_path, WITH_PASSWORD)
    assert PASSWORD in settings.store_url
    assert PASSWORD not in repr(settings) + str(settings) + f"{settings.store!r}"
    assert PASSWORD not in refused(tmp_path, WITH_PASSWORD + "other = 1\n")
    assert not [key for key in leaves(Settings) if re.search(r"secret|password|token|seed", key)]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666])
def test_a_file_with_a_password_is_closed_to_others(tmp_path: Path, mode: int) -> None:
    """I-54; its group may be the daemon's."""
    assert PASSWORD not in refused(tmp_path, WITH_PASSWORD, mode=mode)
    load(tmp_path, WITH_PASSWORD, mode=0o640)
    load(tmp_path, MINIMAL, mode=0o644)


@pytest.mark.parametrize("mode", [0o602, 0o646])
def test_a_file_that_anybody_writes_is_no_configuration(tmp_path: Path, mode: int) -> None:
    """I-54: whoever writes it is the broker."""
    assert "everybody may write it" in refused(tmp_path, mode=mode)


# ---- addresses
@pytest.mark.parametrize(
    ("address", "bound", "told", "host"),
    [
        (Address(port=1), "127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
        (Address(host="::1", port=1), "[::1]:1", "[::1]:1", "::1"),
        (Address(host="::", port=1, advertise="b.example:443"), "[::]:1", "b.example:443", "b.example"),
        (Address(port=1, advertise="[2001:db8::7]:443"), "127.0.0.1:1", "[2001:db8::7]:443", "2001:db8::7"),
    ],
)
def test_an_address_is_bound_told_and_certified(address: Address, bound: str, told: str, host: str) -> None:
    """Brackets where an IPv6 address meets a port, none where it stands alone."""
    assert (address.bound(), address.told(), address.told_host()) == (bound, told, host)
