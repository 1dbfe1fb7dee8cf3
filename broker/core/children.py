"""What a child process of grantd is started with: our own words, nothing of its parent's environment. Starts none."""

from __future__ import annotations

from typing import Final

FILLER: Final = 0x5A
TUNABLES: Final = "GLIBC_TUNABLES"
OVERWRITING: Final = f"glibc.malloc.tcache_count=0:glibc.malloc.perturb={FILLER}"
"""The C library overwrites what it is given back, and sets no small piece aside unwritten."""
CHILD_ENVIRON: Final = {"LANG": "C.UTF-8", TUNABLES: OVERWRITING}
"""All of it: the parent's may hold secrets that are not the child's."""
