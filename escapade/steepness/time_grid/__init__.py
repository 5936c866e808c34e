"""Paths of least action on a grid of times: chains, and continuous SGD with a finite horizon."""
