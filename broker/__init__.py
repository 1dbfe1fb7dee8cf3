"""The daemon: doors, one transaction per use case, a pure core, adapters to the world."""
