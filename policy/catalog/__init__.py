"""What programs do, as data. Never decides who may run them."""
