"""Runs a command and says what it took: measure.py LABEL RESULT FOLDER... -- COMMAND...

One line: seconds, seconds of the processors, the most memory, page faults, and the most disk beside the result: files in the folders
that belong to neither RESULT nor what becomes it, and files that the command has open without a name, looked at every 20 ms.
"""
import os
import subprocess
import sys
import time


def blocks(path, follow=False):
    try:
        return (os.stat if follow else os.lstat)(path).st_blocks * 512
    except OSError:
        return 0


def named(folders, result):
    home, name = os.path.split(os.path.abspath(result))
    total = 0
    for folder in folders:
        for place, _, files in os.walk(folder):
            first = os.path.relpath(place, home).split(os.sep)[0]
            for file in files:
                word = (file if first == "." else first).lstrip(".")
                if not word.startswith(name):
                    total += blocks(os.path.join(place, file))
    return total


def nameless(process):
    total, folder = 0, f"/proc/{process}/fd"
    try:
        for number in os.listdir(folder):
            target = os.readlink(f"{folder}/{number}")
            if target.startswith("/") and target.endswith(" (deleted)") and not target.startswith("/memfd:"):
                total += blocks(f"{folder}/{number}", follow=True)
    except OSError:
        pass
    return total


def main():
    split = sys.argv.index("--")
    label, result, *folders = sys.argv[1:split]
    start = time.monotonic()
    process = subprocess.Popen(sys.argv[split + 1:], stdout=subprocess.DEVNULL)
    most = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, named(folders, result) + nameless(process.pid))
        time.sleep(0.02)
    seconds = time.monotonic() - start
    print(f"{label}: {seconds:.2f} s, {usage.ru_utime:.2f} user + {usage.ru_stime:.2f} system, "
          f"{usage.ru_maxrss * 1024 / 1e6:.0f} MB at most, {usage.ru_minflt + usage.ru_majflt} page faults, "
          f"{most / 1e6:.1f} MB of disk beside the result")
    sys.exit(os.waitstatus_to_exitcode(status) != 0 or most >= 64e6)


main()
