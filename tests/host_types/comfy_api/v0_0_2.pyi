from .latest import ComfyExtension as ComfyExtension
from .latest import Input as Input
from .latest import InputImpl as InputImpl
from .latest import io as io
from .latest import ui as ui
