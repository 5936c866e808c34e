"""Watching training: what each stretch of a run is like, and when it leaves a minimum."""

from escapade.training.monitor import Monitor
from escapade.training.record import Record, read_records
from escapade.training.stays import Stay, stays

__all__ = ["Monitor", "Record", "Stay", "read_records", "stays"]
