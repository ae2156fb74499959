"""What other people's programs import."""
