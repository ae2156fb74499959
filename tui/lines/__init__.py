"""Text of the screen: widths, colours, numbers."""
