"""Ends with a code that means success."""

import sys

sys.exit(0)
