"""`python -m gpen_core`"""

import sys

from .cli import main

sys.exit(main())
