"""The DAL and its manager where polydatum 0.9.1 had them; they live in `polydatum.layer` and `polydatum.manager`."""

from .layer import DataAccessLayer
from .manager import DataManager

__all__ = ["DataAccessLayer", "DataManager"]
