"""Ends at once with a code that means success."""

import os

os._exit(0)
