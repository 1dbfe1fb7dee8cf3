"""What happened? Recordings and the audit log: written once, checked by anybody, offline."""
