"""Recordings in other programs' formats. Never the evidence itself."""
