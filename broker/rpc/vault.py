"""VaultService: the keys of the tenant, and its secrets without their values."""

from __future__ import annotations

from broker.rpc.call import Call
from broker.rpc.convert.admin import change_of
from broker.rpc.convert.scalars import moment
from broker.service.ports import Purpose
from broker.service.secrets import SecretsService, SecretStanding, Upload
from broker.service.vault import VaultService
from grantd.v1 import vault_pb2 as pb


class VaultServicer:
    """Translates; broker.service.vault and secrets do the work."""

    def __init__(self, vault: VaultService, secrets: SecretsService) -> None:
        self._vault, self._secrets = vault, secrets

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

    async def GetUploadKey(self, request: pb.GetUploadKeyRequest, call: Call) -> pb.GetUploadKeyResponse:
        return pb.GetUploadKeyResponse(public_key=self._secrets.upload_key())

    async def PutSecret(self, request: pb.PutSecretRequest, call: Call) -> pb.PutSecretResponse:
        upload = Upload(
            name=request.name, upload_key=request.upload_key, sealed=request.sealed, replaces=request.replaces
        )
        return pb.PutSecretResponse(version=await self._secrets.put(call.caller, upload))

    async def ListSecrets(self, request: pb.ListSecretsRequest, call: Call) -> pb.ListSecretsResponse:
        return pb.ListSecretsResponse(secrets=[_secret_out(one) for one in await self._secrets.all(call.caller)])

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, call: Call) -> pb.DeleteSecretResponse:
        await self._secrets.delete(call.caller, request.name, request.reason)
        return pb.DeleteSecretResponse()


def _secret_out(standing: SecretStanding) -> pb.Secret:
    newest = standing.newest
    return pb.Secret(
        name=newest.name,
        version=newest.version,
        put_at=moment(newest.put_at),
        put_by_id=newest.put_by,
        deleted=not standing.kept,
        out=standing.out,
        due_since=moment(standing.due_since) if standing.due_since is not None else None,
    )
