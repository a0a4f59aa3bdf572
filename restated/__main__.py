"""`python -m restated` is the console script `restated`."""

from restated.cli.main import main

main()
