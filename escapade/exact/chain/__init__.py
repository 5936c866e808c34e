"""Chains on quadrature nodes: on intervals, radii, regions of the plane, and few examples."""
