"""Run a command with sockets at descriptors 3 and up, as a service manager does (sd_listen_fds(3)).

    activate.py DESCRIPTOR,... COMMAND...
"""

import fcntl
import os
import sys

FIRST = 3
OUT_OF_THE_WAY = 100

if __name__ == "__main__":
    copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) for number in sys.argv[1].split(",")]
    for place, copy in enumerate(copies, FIRST):
        os.dup2(copy, place)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(copies))}
    os.execvp(sys.argv[2], sys.argv[2:])
