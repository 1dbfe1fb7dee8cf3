"""Where sealed recordings are kept. Never opens one."""
