//! Small texts with which fuzzing begins: what the kernel and people write, and what
//! somebody may put into it.

/// `/proc/PID/cgroup`
pub(super) const CGROUPS: &[(&str, &str)] = &[
    ("unit", "0::/system.slice/nginx.service\n"),
    (
        "both-versions",
        "12:memory:/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n\
         1:name=systemd:/\n0::/system.slice/containerd.service (deleted)\n",
    ),
    (
        "pod",
        "0::/kubepods.slice/kubepods-burstable.slice/\
         kubepods-burstable-pod6f1b5d2c_9a0e_4c7b_8d3f_2a1b0c9d8e7f.slice:cri-containerd:\
         0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
    ),
    ("lxc", "0::/lxc.payload.web/ns/lxc/inner\n"),
    (
        "nspawn",
        "0::/machine.slice/machine-my\\x2dweb.scope/../machine.slice/systemd-nspawn@a.service",
    ),
    (
        "fargate",
        "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-37\n",
    ),
    ("name", "lxc.payload."),
];

/// A value alone; a command line has a word on each line.
pub(super) const WORDS: &[(&str, &str)] = &[
    ("duration", "1500ms"),
    ("size", "64KiB"),
    ("speed", "2.5e1"),
    ("network", "2001:db8::/32"),
    ("mapped", "::ffff:10.0.0.0/104"),
    ("moment", "2026-01-31 03:00:30"),
    ("ago", "10m ago"),
    ("time", "23:59:60"),
    ("address", "[::1]:9435"),
    (
        "watch",
        "watch\n--pid\n1\n--comm=nginx\n--uid\n33\n--cgroup\n/\n--container\nweb",
    ),
    (
        "report",
        "report\nx\n--unit\na b\n--port\n80\n--dst\n10.0.0.0/8\n--netns\nblue\n--netns\n4026531840",
    ),
    (
        "record",
        "record\n-w\nx\n--kind\nsyn_dropped\n--cause\nports_exhausted\n-C\n1\n-G\n60\n-W\n3\n--\ntrue",
    ),
    ("export", "export\nx\n--format\ncsv\n--table\ncounts\n-o\ny"),
];

/// Other files of /proc.
pub(super) const PROC_FILES: &[(&str, &str)] = &[
    (
        "stat",
        "42 (a) R (b) S 1 42 42 0 -1 4194560 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n",
    ),
    (
        "status",
        "Name:\tnginx\nUmask:\t0022\nTgid:\t42\nUid:\t33\t0\t0\t0\n",
    ),
    ("cmdline", "nginx: worker\0-c\0/etc/nginx.conf\0\0"),
    (
        "tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
         0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000        0 4242 1 0\n   \
         5: 0100007F:9C40 0100007F:1F90 06 00000000:00000000 03:00000BB8 00000000     0        0 0 3 0\n",
    ),
    (
        "tcp6",
        "   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000001000000:0000 01 \
         00000001:00000002 02:00000003 00000000    33        0 77 2 0000000000000000 20 4 30 10 -1\n",
    ),
    (
        "netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 1 2 3 4\n\
         IpExt: InNoRoutes\nIpExt: 5\n",
    ),
    (
        "mountinfo",
        "22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=2\n\
         31 24 0:26 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n",
    ),
    ("port-range", "32768\t60999\n"),
    ("reserved-ports", "8080,9000-9010\n"),
    ("link", "socket:[4242]"),
];

/// What processes call themselves, and a line of JSON.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("plain", "größe プロセス"),
    ("escapes", "\x1b]52;c;AAAA\x07\\x1b\\"),
    ("controls", "\u{9b}2J\u{202e}\u{e0001}\u{ad}\u{feff}"),
    (
        "json",
        "{\"comm\":\t\"a\u{9b}\\u001b\u{202e}\",\"n\":[1.5e3,null]}\r",
    ),
];
