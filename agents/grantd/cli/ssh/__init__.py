"""What grantctl does for the stock `ssh` of this machine. Never speaks SSH itself."""
