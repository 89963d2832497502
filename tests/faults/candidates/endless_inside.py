"""Never answers, and cannot be interrupted by an exception."""


def add(a, b):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
