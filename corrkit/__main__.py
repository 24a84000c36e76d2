"""`python -m corrkit`."""

import sys

from corrkit.cli import main

sys.exit(main())
