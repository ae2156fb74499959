"""What every part of the engine uses and that knows nothing of finetui."""
