"""`grantctl agentd`: a helper of one user that stays connected, so that `grantctl run` starts at once."""
