"""Models that come with finetui."""
