"""What is deployed with the product, and the demonstration of it."""
