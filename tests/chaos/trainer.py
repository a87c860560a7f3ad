"""A stand-in for training that starts in milliseconds: the journal, the states and the manners of a real run.

The job's name says how: ``train.50`` trains with epochs of 50 ms, ``stubborn.50`` does not listen to SIGTERM and has a
child that does not, either.
Written without the project and without pathlib, because hundreds of these start while two cores are busy.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from stored_results import stored

EVERY = 5
"""Epochs between two states that are announced for other machines."""
STOP = threading.Event()


class Journal:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.n = 0

    def say(self, kind, **fields):
        self.n += 1
        line = json.dumps({"type": kind, "n": self.n, "at": time.time(), **fields}).encode() + b"\n"
        assert os.write(self.file, line) == len(line)
        if kind == "metric":
            os.fsync(self.file)


def write(path, content):
    """Replace the file whole."""
    with open(path + ".part", "wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def newest(states):
    """The number of epochs that the newest whole state has."""
    for name in sorted((name for name in os.listdir(states) if name.endswith(".state")), reverse=True):
        with open(os.path.join(states, name), "rb") as file:
            digest, _, content = file.read().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() == digest:
            return int(json.loads(content)["done"])
    return 0


def value(step):
    """What the metric of an epoch must be."""
    return step / 1024


def train(journal, workdir, epochs, pause_s, attempt):
    states = os.path.join(workdir, "work", "student", "states")
    os.makedirs(states, exist_ok=True)
    done = newest(states)
    journal.say("log", message="going on", level="info", data={"epoch": done})
    journal.say("stage", stage="distill")
    while done < epochs:
        if STOP.wait(pause_s):
            announce(journal, done)
            journal.say("stopped")
            sys.exit(75)
        done += 1
        journal.say(
            "metric", role="student", step=done, values={"train/loss": value(done), "val/mAP50-95": value(done)}
        )
        write(os.path.join(states, f"{done:05d}.state"), json.dumps({"done": done}).encode())
        for name in os.listdir(states):
            if name.endswith(".state") and int(name[:5]) < done - EVERY - 1:
                os.unlink(os.path.join(states, name))
        if done % EVERY == 0:
            announce(journal, done)
    with open(os.path.join(workdir, "student.pt"), "w") as file:
        json.dump({"job": os.path.basename(workdir), "attempt": attempt, "epochs": epochs}, file)
    journal.say("artifact", name="student.pt", role="student", path="student.pt")
    journal.say("finished", result=stored())


def announce(journal, done):
    if done:
        journal.say("saved", stage="distill", epoch=done, files=[f"work/student/states/{done:05d}.state"])


def watch_stdin():
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    workdir = sys.argv[2]
    with open(os.path.join(workdir, "inputs.json")) as file:
        attempt = json.load(file)["attempt"]
    lock = open(os.path.join(workdir, "run.lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    manner, pause_ms = spec["name"].split(".")
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; sleep 600 & wait", workdir])
    threading.Thread(target=watch_stdin, daemon=True).start()
    journal = Journal(os.path.join(workdir, f"journal-{attempt}.jsonl"))
    train(journal, workdir, spec["training"]["epochs"], int(pause_ms) / 1000, attempt)


if __name__ == "__main__":
    main()
