"""Paths of least action of continuous SGD over any time: a geometric search, then collocation."""
