"""What happens on a line: diffusions in one dimension, and what one coordinate decides."""
