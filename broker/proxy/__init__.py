"""The SSH door: asyncssh server, channel gate, pumps."""
