"""What makes and ends credentials on targets that are no SSH hosts: one module family a kind."""
