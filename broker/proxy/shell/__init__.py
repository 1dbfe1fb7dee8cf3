"""The gated shell: a line editor in the gateway, where every line is an action of its own (docs/adr/0026)."""
