"""What is legal. Pure: reads no clock, store, socket or environment; now is an argument."""
