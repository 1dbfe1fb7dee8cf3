"""One file per use case, one transaction each. Never imports an adapter or a door."""
