"""VaultService: the keys of the tenant."""

from __future__ import annotations

from broker.rpc.call import Call
from broker.rpc.convert.admin import change_of
from broker.service.ports import Purpose
from broker.service.vault import VaultService
from grantd.v1 import vault_pb2 as pb


class VaultServicer:
    """Translates; broker.service.vault does the work."""

    def __init__(self, vault: VaultService) -> None:
        self._vault = vault

    async def GetVaultStatus(self, request: pb.GetVaultStatusRequest, call: Call) -> pb.GetVaultStatusResponse:
        standing = await self._vault.status(call.caller)
        return pb.GetVaultStatusResponse(
            keys=[
                pb.KeyVersion(purpose=key.purpose, version=key.version, root_id=key.root_id, seals=key.seals)
                for key in standing.keys
            ],
            behind=[str(purpose) for purpose in standing.behind],
        )

    async def RotateKey(self, request: pb.RotateKeyRequest, call: Call) -> pb.RotateKeyResponse:
        version = await self._vault.rotate(call.caller, Purpose(request.purpose), change_of(request))
        return pb.RotateKeyResponse(version=version)
