"""Issuers against the real other side."""
