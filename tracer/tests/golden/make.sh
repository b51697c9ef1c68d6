#!/bin/bash
# Makes a golden capture, and what is told of it: failures of most kinds, in a
# network namespace and on a host without a name. A capture that is there stays: of
# it only what is told is written anew. Needs root, Debian's python3 and zstd.
#   cargo build --release -p tracer
#   tracer/tests/golden/make.sh target/release/tracer v1
set -euo pipefail
tracer=$(realpath "$1")
file=$(realpath "$(dirname "$0")")/$2.zst
tell() {
    TZ=UTC "$tracer" replay "$file" >"${file%.zst}.txt" 2>&1
    TZ=UTC "$tracer" report --format json "$file" | /usr/bin/python3 -c '
import json, sys

# What the test compares: numbers, not wording.
def only(told, *names):
    return {name: told[name] for name in names if name in told}

told = json.load(sys.stdin)
captured = only(told["captured"], "since", "until", "records", "failures", "censuses",
                "queues", "lost", "gaps", "damage", "skipped")
findings = [only(one, "about", "netns", "kind", "cause", "causes", "drops", "address", "local",
                 "count", "since", "until", "censuses", "spells") for one in told["findings"]]
told = {"captured": captured, "findings": findings, "totals": told["totals"]}
json.dump(told, sys.stdout, indent=1)
print()
' >"${file%.zst}.json"
}

if [ -e "$file" ]; then
    tell
    exit
fi
if [ -z "${INSIDE:-}" ]; then
    INSIDE=1 exec unshare --uts --net "$0" "$@"
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
hostname host
ip link set lo up
sysctl -qw net.ipv4.ip_local_port_range='40000 40004' net.ipv4.tcp_tw_reuse=0

cat >fail.py <<'PYTHON'
import socket, sys, time

def name(comm):
    with open("/proc/self/comm", "w") as file:
        file.write(comm)

def tcp():
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return own

def listener(address, backlog):
    own = tcp()
    own.bind(address)
    own.listen(backlog)
    return own

def fails(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        return error
    sys.exit(f"{what} did not fail")

def server():
    """Accepts, and lets clients close first."""
    name("server")
    own = listener(("127.0.0.1", 8080), 16)
    while True:
        peer, _ = own.accept()
        peer.recv(1)
        peer.close()

def checkout():
    """Uses up its ports: TIME_WAIT has them."""
    name("checkout")
    for _ in range(5):
        own = socket.create_connection(("127.0.0.1", 8080))
        own.close()
    for _ in range(3):
        fails(tcp().connect, ("127.0.0.1", 8080))
        time.sleep(0.2)

def binder():
    name("bind\N{ESCAPE}[31mer")
    taken = listener(("127.0.0.1", 9000), 1)
    fails(socket.socket().bind, ("127.0.0.1", 9000))
    fails(tcp().bind, ("192.0.2.1", 80))
    udp = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
    udp[0].bind(("127.0.0.1", 5353))
    fails(udp[1].bind, ("127.0.0.1", 5353))
    both = [tcp(), tcp()]
    for own in both:
        own.bind(("127.0.0.1", 9001))
    both[0].listen()
    fails(both[1].listen)
    # Until it was found out who has the ports.
    time.sleep(2)

def fixed():
    """The same four-tuple twice."""
    name("fixed")
    both = [tcp(), tcp()]
    for own in both:
        own.bind(("127.0.0.1", 3000))
    both[0].connect(("127.0.0.1", 8080))
    fails(both[1].connect, ("127.0.0.1", 8080))

def api():
    """Listens, and does not accept."""
    name("api")
    own = listener(("127.0.0.1", 7000), 1)
    time.sleep(60)

def crowd():
    name("crowd")
    everybody = []
    for port in range(50000, 50006):
        own = tcp()
        own.bind(("127.0.0.1", port))
        own.setblocking(False)
        own.connect_ex(("127.0.0.1", 7000))
        everybody.append(own)
    time.sleep(2.5)

globals()[sys.argv[1]]()
PYTHON

children=()
trap 'kill "${children[@]}" 2>/dev/null || true; rm -rf "$directory"' EXIT
for role in server api; do
    /usr/bin/python3 fail.py $role &
    children+=($!)
done
"$tracer" record -w capture --interval 2s &
recorder=$!
until [ -s capture ]; do sleep 0.1; done
for role in fixed binder checkout crowd; do
    /usr/bin/python3 fail.py $role
done
sleep 2
kill "$recorder"
wait "$recorder"

# Who else listens on this machine is nobody's business: all that is not ours is
# taken out of the first frame, which holds the startup record alone.
/usr/bin/python3 - capture "$file" <<'PYTHON'
import json, subprocess, sys

MAGIC = b"\x28\xb5\x2f\xfd"
whole = open(sys.argv[1], "rb").read()

def zstd(flags, data):
    return subprocess.run(["zstd", "-q", *flags], input=data, capture_output=True, check=True).stdout

end = whole.index(MAGIC, 4)
line = zstd(["-dc"], whole[:end])
startup = json.loads(line)
assert line.count(b"\n") == 1 and startup["type"] == "startup" and startup["host"] == "host"
startup["boot_id"] = "00000000-0000-4000-8000-000000000000"
startup["listeners"] = [one for one in startup["listeners"] if one["netns"] == startup["netns"]]
line = json.dumps(startup, separators=(",", ":"), ensure_ascii=False) + "\n"
with open(sys.argv[2], "wb") as file:
    file.write(zstd(["-c", "--check"], line.encode()) + whole[end:])
PYTHON
tell
