"""Where recordings are kept. One module per kind of medium, all behind the same port."""
