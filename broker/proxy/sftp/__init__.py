"""SFTP through the SSH door: every operation is read, classed, recorded and only then sent (I-18, I-28)."""
