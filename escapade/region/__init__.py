"""Regions: the sets that SGD leaves."""

from escapade.region._base import AbstractRegion
from escapade.region.ball import Ball
from escapade.region.basin import Basin
from escapade.region.half_space import HalfSpace, Slab
from escapade.region.sublevel import Sublevel
from escapade.region.where import Where

__all__ = ["AbstractRegion", "Ball", "Basin", "HalfSpace", "Slab", "Sublevel", "Where"]
