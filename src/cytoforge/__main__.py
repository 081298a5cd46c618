"""`python -m cytoforge` is the command line."""

import sys

from cytoforge.cli import main

if __name__ == "__main__":
    sys.exit(main())
