"""The wire contract, generated from protos/grantd/v1. Never edited by hand."""
