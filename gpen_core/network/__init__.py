"""The network: NCHW RGB in [-1, 1] in and out. Imports torch; knows nothing of pictures, files or faces."""

from .config import RELEASED, RELEASED_SIZES, GPENConfig
from .gpen import GPEN
from .state_dict import check_layout, checked, find_state_dict, unwrap

__all__ = ["GPEN", "RELEASED", "RELEASED_SIZES", "GPENConfig", "check_layout", "checked", "find_state_dict", "unwrap"]
