"""`python -m migration in.json [out.json]`, from the pack's folder, with any Python."""

import sys

from .command_line import main

sys.exit(main(sys.argv[1:]))
