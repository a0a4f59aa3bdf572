"""`python -m restated` is the console script `restated`."""

import sys

from restated.cli.main import main

sys.exit(main())
