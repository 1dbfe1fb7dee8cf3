"""The pure core: what is legal. Imports no clock, socket, store, randomness or framework; time is an argument."""
