"""`trims export`"""

EXAMPLES = ""


def export() -> None: ...
