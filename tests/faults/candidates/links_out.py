"""Names the host's files by links, and makes devices and pipes."""

import os
import stat


def add(a, b):
    for folder, _, _ in os.walk("/"):
        for make in (
            lambda at: os.symlink("@CANARY@", at),
            lambda at: os.link("/code/inside/main.pyc", at),
            lambda at: os.mkfifo(at),
            lambda at: os.mknod(at, stat.S_IFBLK | 0o666, os.makedev(8, 0)),
            lambda at: os.mkdir(at),
        ):
            try:
                make(os.path.join(folder, "escaped"))
                return a + b
            except OSError:
                pass
    return None
