"""Inspecting a network at a point: sharpness, noise, stability, and how long SGD stays."""

from escapade.inspection.escape_map import EscapeMap
from escapade.inspection.inspect import inspect
from escapade.inspection.inspection import Change, Inspection
from escapade.inspection.outlook import Outlook
from escapade.inspection.stability import Stability
from escapade.inspection.stationarity import Stationarity

__all__ = [
    "Change",
    "EscapeMap",
    "Inspection",
    "Outlook",
    "Stability",
    "Stationarity",
    "inspect",
]
