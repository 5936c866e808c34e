"""What a given path costs."""
