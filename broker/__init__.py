"""The grantd daemon: doors, services, the pure core, adapters, jobs and the signer."""
