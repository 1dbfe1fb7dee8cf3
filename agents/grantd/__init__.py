"""The SDK for programs that ask a grantd broker for access. Never holds a target's credential."""
