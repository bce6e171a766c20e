"""`python -m microgpt`, for where the command is not on the path."""

import sys

from microgpt.cli import main

sys.exit(main())
