"""The ports' implementations: everything that touches the world. Never calls a service."""
