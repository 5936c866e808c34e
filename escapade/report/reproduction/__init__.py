"""The report of a reproduction: the chapter page and its figures."""

from escapade.report.reproduction.write import write_reproduction

__all__ = ["write_reproduction"]
