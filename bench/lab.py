"""What benches share: files to pack, two network namespaces with a line between them, and their part of docs/benchmarks.md."""
import os, subprocess, sys
from pathlib import Path

MIB = 1 << 20
ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SERVER, MACHINE = "10.81.0.1", "10.81.0.2"


def tool(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def usr(path, mib):
    """Writes `mib` MiB of real files, as a tar of /usr, to `path`."""
    tar = subprocess.Popen(["tar", "-C", "/", "-cf", "-", "--sort=name", "usr"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with open(path, "wb") as out:
        for _ in range(mib):
            piece = tar.stdout.read(MIB)
            if len(piece) < MIB:
                sys.exit(f"bench: /usr has less than {mib} MiB")
            out.write(piece)
    tar.kill()
    tar.wait()
    tar.stdout.close()


class Link:
    """A namespace for the server, one for the machine, and the line between them."""

    def __init__(self, rate):
        self.server, self.machine = (f"pitbench{os.getpid()}{end}" for end in "sm")
        for place in (self.server, self.machine):
            tool("ip", "netns", "add", place)
        tool("ip", "-n", self.server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.machine)
        for place, address in ((self.server, SERVER), (self.machine, MACHINE)):
            tool("ip", "-n", place, "addr", "add", f"{address}/24", "dev", "eth0")
            tool("ip", "-n", place, "link", "set", "eth0", "up")
        self.limit(rate)

    def limit(self, rate):
        """`rate` Mbit/s in both directions."""
        for place in (self.server, self.machine):
            tool("tc", "-n", place, "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{rate}mbit",
                 "burst", "256kb", "latency", "20ms")

    def sent(self):
        """Bytes that left the machine."""
        counter = "/sys/class/net/eth0/statistics/tx_bytes"
        return int(tool("ip", "netns", "exec", self.machine, "cat", counter))

    def serve(self, pitstop, root):
        return subprocess.Popen(["ip", "netns", "exec", self.server, pitstop, "serve", "--root", root,
                                 "--listen", f"{SERVER}:8080", "--tftp", "off", "--quiet"], stdout=subprocess.DEVNULL)

    def close(self):
        for place in (self.server, self.machine):
            subprocess.run(["ip", "netns", "del", place], capture_output=True)


def put(name, text):
    """Replaces the part of docs/benchmarks.md that bench/`name` wrote."""
    begin, end = (f"<!-- bench/{name} {which} -->" for which in ("begins", "ends"))
    path = ROOT / "docs/benchmarks.md"
    old = path.read_text()
    text = f"{begin}\n{text.strip()}\n{end}\n"
    if begin in old:
        head, rest = old.split(begin, 1)
        text = head + text + rest.split(end, 1)[1].removeprefix("\n")
    else:
        text = old.rstrip("\n") + "\n\n" + text
    path.write_text(text)
