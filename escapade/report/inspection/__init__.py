"""The page of an inspection: will SGD stay at this point of this network?"""

from escapade.report.inspection.write import write_inspection

__all__ = ["write_inspection"]
