"""The gRPC door: interceptors, one servicer per proto service, proto <-> values, errors -> status."""
