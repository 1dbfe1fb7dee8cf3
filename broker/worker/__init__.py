"""A data worker: accepts at the SSH door, records and moves bytes. Holds no store, no policy and no signer."""
