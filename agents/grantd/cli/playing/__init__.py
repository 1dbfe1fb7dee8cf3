"""The player of `grantctl sessions play`: tape, surface, keys, and the loop that holds the terminal."""
