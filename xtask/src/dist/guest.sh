#!/bin/sh
# What `xtask dist --check` runs in a Debian with nothing but the package, booted.
# Each check is a line in the words of the live tests; what it said stands before it.
passed=0 failed=0
captures=/var/lib/tracer/capture.zst

check() {
    name=$1
    shift
    begin=$(date +%s)
    said=$("$@" 2>&1)
    code=$?
    took=$(($(date +%s) - begin))
    printf '%s\n' "$said" | sed 's/^/  | /'
    if [ $code = 0 ]; then
        passed=$((passed + 1))
        echo "live auto dist/$name ok ${took}.0s"
    else
        failed=$((failed + 1))
        why=$(printf '%s' "$said" | tail -n 5 | tr '\n' ';')
        echo "live auto dist/$name FAIL ${took}.0s exit code $code: $why"
    fi
}

# Until it succeeds, at most a minute.
until_true() {
    left=60
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 1
    done
}

# A command with all that the service may and may not do.
in_unit() {
    sed -e "s|^ExecStart=.*|ExecStart=$1|" -e '/^Restart/d' \
        -e 's|^StateDirectory=tracer|StateDirectory=tracer-other|' \
        -e 's|^.Service.|&\nType=oneshot\nStandardOutput=file:/said\nStandardError=file:/said|' \
        /usr/lib/systemd/system/tracer-record.service >/etc/systemd/system/other.service
    rm -f /said
    systemctl daemon-reload
    systemctl start other
    code=$?
    cat /said
    return $code
}

# The tiers that this kernel does not need; $2 is what tracer must say about it.
tier_in_unit() {
    in_unit "/usr/bin/tracer watch --hooks $1 --duration 1s" || return 1
    grep -q "$2" /said || { echo "not all is by $1"; return 1; }
}

has_capture() {
    [ -s ${captures}0 ]
}

service() {
    systemctl start tracer-record || return 1
    until_true has_capture || { systemctl status --no-pager tracer-record; return 1; }
    systemctl show --property=MainPID,StatusErrno tracer-record
}

# Selftest provokes them; the service must have seen them.
recorded() {
    systemctl stop tracer-record || return 1
    journalctl --no-pager --output=cat --unit=tracer-record
    tracer report ${captures}* | head -n 40
    tracer export --format jsonl ${captures}* >/records || return 1
    for kind in connect_failed bind_failed listen_failed syn_dropped ack_dropped; do
        grep '"type":"event"' /records | grep -q "\"kind\":\"$kind\"" ||
            { echo "no $kind was recorded"; return 1; }
    done
    grep -q '"type":"census"' /records || { echo "no census was recorded"; return 1; }
    tail -n 1 /records | grep -q '"type":"end"' || { echo "it did not end well"; return 1; }
    stat --format='%n %a %U' ${captures}0
    [ "$(stat --dereference --format=%a ${captures}0)" = 600 ] || { echo "others may read it"; return 1; }
}

echo "live: systemd $(systemctl --version | head -n 1 | cut -d ' ' -f 2), Linux $(uname -r)"
while read -r module; do insmod "$module"; done </modules.order

check doctor tracer doctor
check selftest tracer selftest
check doctor-in-unit in_unit '/usr/bin/tracer doctor'
check kprobe-in-unit tier_in_unit kprobe 'kprobes for .*connect.*syn_drop.*overflow_reset'
check portable-in-unit tier_in_unit portable 'tracepoints and cgroup_skb for everything'
check service service
check selftest-again tracer selftest
check recorded recorded
echo "live-summary auto passed=$passed failed=$failed skipped=0"
echo "live-exit $((failed > 0))"
