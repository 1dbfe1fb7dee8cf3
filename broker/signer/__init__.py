"""The signer process: alone holds the CA keys. Never trusts the broker's word for a decision."""
