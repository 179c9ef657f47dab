"""Where polydatum 0.9.1 kept the DAL and its manager; ours live in `polydatum.layer` and `polydatum.manager`."""

from .layer import DataAccessLayer
from .manager import DataManager

__all__ = ["DataAccessLayer", "DataManager"]
