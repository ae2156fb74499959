"""Tasks: from data sources to tokenised examples, as each loss needs them."""
