"""`python -m overnight.cli` is the `overnight` command."""

import sys

from overnight.cli import main

sys.exit(main())
