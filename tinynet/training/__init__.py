"""The training room: the loop, checkpoints, metrics, pictures of a run, evaluation."""
