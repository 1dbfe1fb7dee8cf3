"""grantctl: the command line for people and scripts. A decision needs a terminal."""
