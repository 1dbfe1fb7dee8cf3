"""Wire messages and values: one module a proto file, nothing but translation. No wire type leaves broker.rpc."""
