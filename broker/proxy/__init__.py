"""The SSH door. Decides nothing: every channel goes through the services' gate."""
