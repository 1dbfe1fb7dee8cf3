"""Put on a program's path, it makes a real broker kill itself at a named point of a credential's life."""
