"""What the loss is: from data sources to tokenised examples."""
