"""The gRPC door: who is calling, whether they may, proto <-> values, refusals -> status. Decides nothing else."""
