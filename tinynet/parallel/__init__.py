"""Several processes that train one net together: over MPI, and over NCCL between GPUs."""
