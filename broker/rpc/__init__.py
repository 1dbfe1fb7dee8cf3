"""The gRPC door, and the only place that knows wire types. Decides nothing."""
