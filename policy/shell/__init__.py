"""Parses and classifies a shell command. Never runs one; what it cannot read, it classes up."""
