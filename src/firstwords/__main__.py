"""`python -m firstwords`."""

import sys

from firstwords.cli import main

sys.exit(main())
