"""Use cases, one file each: a service runs one transaction and calls no other service. Knows ports, never adapters."""
