"""The SDK's stubs are the protos, and old enough for every runtime the SDK allows (docs/adr/0004)."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Final

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PROTOS: Final = sorted((REPOSITORY / "protos").rglob("*.proto"))
STUBS: Final = REPOSITORY / "agents" / "grantd" / "v1"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """The protos as the installed compiler understands them now, by file name."""
    for proto in PROTOS:  # our own options are unknown bytes until the stubs that define them are imported
        importlib.import_module(f"grantd.v1.{proto.stem}_pb2")
    out = tmp_path_factory.mktemp("protos") / "set.binpb"
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{REPOSITORY / 'protos'}", f"-I{well_known}", f"--descriptor_set_out={out}"]
    assert protoc.main([*arguments, *map(str, PROTOS)]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return {file.name: file for file in files.file}


def as_text(file: descriptor_pb2.FileDescriptorProto) -> str:
    """The descriptor without what compilers of different ages fill in differently: derived JSON names."""
    plain = descriptor_pb2.FileDescriptorProto()
    plain.CopyFrom(file)
    for message in plain.message_type:
        _forget_json_names(message)
    for extension in plain.extension:
        extension.ClearField("json_name")
    return str(plain)


def _forget_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    for field in (*message.field, *message.extension):
        field.ClearField("json_name")
    for nested in message.nested_type:
        _forget_json_names(nested)


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_stubs_are_what_the_protos_say(proto: Path, compiled: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """A change of a proto without `make proto` fails here."""
    module = importlib.import_module(f"grantd.v1.{proto.stem}_pb2")
    generated = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(generated)
    name = proto.relative_to(REPOSITORY / "protos").as_posix()
    assert as_text(generated) == as_text(compiled[name])


def test_no_stub_outlives_its_proto() -> None:
    """A stub without a proto would keep a dead contract importable."""
    assert PROTOS
    stems = {path.stem for path in PROTOS}
    made = {re.sub(r"_pb2(?:_grpc)?$", "", path.stem) for path in STUBS.glob("*_pb2*.py")}
    assert made == stems


def floor(distribution: str) -> tuple[int, ...]:
    """The lowest version of the distribution that agents/pyproject.toml allows."""
    dependencies = tomllib.loads((REPOSITORY / "agents" / "pyproject.toml").read_text())["project"]["dependencies"]
    found = next(
        re.fullmatch(rf"{distribution}>=([\d.]+),.*", entry) for entry in dependencies if entry.startswith(distribution)
    )
    assert found is not None
    return tuple(map(int, found[1].split(".")))


def test_message_stubs_are_no_newer_than_the_floor_of_protobuf() -> None:
    """The runtime refuses generated code newer than itself, at import."""
    for stub in STUBS.glob("*_pb2.py"):
        version = re.search(r"^# Protobuf Python Version: ([\d.]+)$", stub.read_text(), re.MULTILINE)
        assert version is not None, stub.name
        assert tuple(map(int, version[1].split("."))) <= floor("protobuf"), stub.name


def test_service_stubs_are_no_newer_than_the_floor_of_grpcio() -> None:
    """grpcio has the same check of its own, in the service stubs."""
    for stub in STUBS.glob("*_pb2_grpc.py"):
        version = re.search(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", stub.read_text(), re.MULTILINE)
        assert version is not None, stub.name
        assert tuple(map(int, version[1].split(".")[:2])) <= floor("grpcio")[:2], stub.name
