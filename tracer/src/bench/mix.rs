//! Which failures? Those of a proxy that runs out of ports and of workers, as
//! they mix in a bad night: several programs, addresses and kinds, ports and
//! times that differ in every one. The same each time.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use tracer_common::{Cause, Family, Hook, Kind};

use crate::{
    host::{clock::Clocks, settings::Settings},
    model::{Asked, Failure, Place, Process, Queue, Role},
    startup::Startup,
};

/// 2026-03-14, three in the morning.
const BEGIN: i64 = 1_773_457_200;

/// Where the proxy's backends are.
const BACKENDS: [SocketAddr; 3] = [
    v4([10, 0, 3, 10], 8080),
    v4([10, 0, 3, 11], 8080),
    v4([10, 0, 3, 12], 8080),
];

const PROXY: [u8; 4] = [10, 0, 1, 5];

/// How many clients there are.
const CLIENTS: u64 = 300;

const fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3])), port)
}

/// One failure after another.
pub(super) struct Mix {
    dice: Dice,
    since: Timestamp,
    now: Timestamp,
    /// Mean nanoseconds from one failure to the next.
    pause: u64,
    /// The socket that was made last.
    inode: u64,
    /// The process that was started last.
    pid: u32,
    /// One of each kind, changed a little each time it is used.
    exhausted: Failure,
    syn: Failure,
    ack: Failure,
    taken: Failure,
    pool: Failure,
    bind: Failure,
}

impl Mix {
    pub(super) fn new(rate: u64) -> Self {
        let since = Timestamp::from_second(BEGIN).unwrap_or_default();
        Self {
            dice: Dice(20_260_314),
            since,
            now: since,
            pause: 1_000_000_000 / rate.max(1),
            inode: 48_213_377,
            pid: 731_204,
            exhausted: exhausted(),
            syn: syn(),
            ack: ack(),
            taken: taken(),
            pool: pool(),
            bind: bind(),
        }
    }

    /// The time of the last failure.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// What a capture of them begins with.
    pub(super) fn startup(&self) -> Startup {
        Startup {
            time: self.since,
            kernel: "bench".to_owned(),
            boot_id: "00000000-0000-0000-0000-000000000000".to_owned(),
            host: "bench".to_owned(),
            served: Vec::new(),
            degradations: Vec::new(),
            unmatched: Vec::new(),
            clocks: Clocks::default(),
            netns: Some(NETNS),
            settings: Settings::default(),
            listening: None,
        }
    }

    pub(super) fn next(&mut self) -> &Failure {
        let dice = &mut self.dice;
        let pause = i64::try_from(dice.below(2 * self.pause + 1)).unwrap_or(i64::MAX);
        self.now += SignedDuration::from_nanos(pause);
        let seconds = u64::try_from(self.now.duration_since(self.since).as_secs()).unwrap_or(0);
        // Other programs make sockets, too.
        self.inode += 1 + dice.below(3);
        let failure = match dice.below(100) {
            // Workers of the proxy find no port towards its backends.
            0..40 => {
                let failure = &mut self.exhausted;
                worker(failure, WORKERS, 1201, dice);
                failure.remote = Some(dice.of(&BACKENDS));
                failure.inode = Some(self.inode);
                failure.census = Some(1 + seconds);
                failure
            }
            // Its clients are not accepted in time.
            40..70 => {
                let failure = &mut self.syn;
                failure.remote = Some(client(dice));
                worker(failure, WORKERS, 1201, dice);
                failure.queue = Some(7);
                length(&mut failure.accept_queue, 512, 512, dice);
                length(&mut failure.request_queue, 180, 512, dice);
                failure
            }
            // The application behind it does not accept either.
            70..82 => {
                let failure = &mut self.ack;
                failure.remote = Some(v4([127, 0, 0, 1], ephemeral(dice)));
                worker(failure, POOL, 2310, dice);
                length(&mut failure.accept_queue, 129, 128, dice);
                length(&mut failure.request_queue, 20, 128, dice);
                failure
            }
            // Short-lived processes, each with a port of its own choice.
            82..90 => {
                let failure = &mut self.taken;
                self.pid += 1 + dice.count(4);
                if let Some((process, _)) = &mut failure.process {
                    process.pid = self.pid;
                    process.tid = Some(self.pid);
                    let item = dice.below(100_000);
                    process.cmdline =
                        Some(format!("curl -sS http://10.0.3.20:9200/items/{item}").into());
                }
                failure.local = Some(v4(PROXY, ephemeral(dice)));
                failure.inode = Some(self.inode);
                failure
            }
            // A pool of threads that talks IPv6.
            90..97 => {
                let failure = &mut self.pool;
                if let Some((process, _)) = &mut failure.process {
                    process.tid = Some(process.pid + 1 + dice.count(200));
                }
                failure.inode = Some(self.inode);
                failure.census = Some(1_000_001 + seconds);
                failure
            }
            // Something that is restarted again and again.
            _ => {
                let failure = &mut self.bind;
                self.pid += 1 + dice.count(4);
                if let Some((process, _)) = &mut failure.process {
                    process.pid = self.pid;
                    process.tid = Some(self.pid);
                }
                failure.inode = Some(self.inode);
                failure
            }
        };
        failure.time = self.now;
        failure
    }
}

const NETNS: u32 = 4_026_531_840;
const CONTAINER: u32 = 4_026_532_761;
const WORKERS: u32 = 4;
const POOL: u32 = 8;

/// One of several processes with the same name.
fn worker(failure: &mut Failure, count: u32, first: u32, dice: &mut Dice) {
    if let Some((process, _)) = &mut failure.process {
        process.pid = first + dice.count(count);
        process.tid = Some(process.pid);
    }
}

fn client(dice: &mut Dice) -> SocketAddr {
    // A few clients come more often than the others.
    let number = dice.below(CLIENTS).min(dice.below(CLIENTS));
    let [.., high, low] = number.to_be_bytes();
    v4([198, 51, 100 + high, low], ephemeral(dice))
}

fn ephemeral(dice: &mut Dice) -> u16 {
    let port = 32_768 + dice.below(28_232);
    u16::try_from(port).unwrap_or(u16::MAX)
}

fn length(queue: &mut Option<Queue>, about: u32, max: u32, dice: &mut Dice) {
    let len = about + dice.count(5);
    *queue = Some(Queue { len, max });
}

fn process(pid: u32, comm: &str, exe: &str, cmdline: &str, uid: u32) -> Process {
    Process {
        pid,
        tid: Some(pid),
        comm: comm.into(),
        exe: Some(exe.into()),
        cmdline: Some(cmdline.into()),
        uid: Some(uid),
        kernel: false,
        place: Some(place(comm)),
    }
}

/// As systemd has it.
fn place(service: &str) -> Arc<Place> {
    let unit = format!("{service}.service");
    Arc::new(Place {
        cgroup: format!("/system.slice/{unit}"),
        unit: Some(unit),
        ..Place::default()
    })
}

fn nginx(pid: u32) -> Process {
    let (cmdline, uid) = match pid {
        1200 => ("nginx: master process /usr/sbin/nginx -g daemon on;", 0),
        _ => ("nginx: worker process", 33),
    };
    process(pid, "nginx", "/usr/sbin/nginx", cmdline, uid)
}

fn php(pid: u32) -> Process {
    let cmdline = "php-fpm: pool www";
    process(pid, "php-fpm8.2", "/usr/sbin/php-fpm8.2", cmdline, 33)
}

/// As a holder: nobody knows by which thread.
fn holder(process: Process) -> Process {
    Process {
        tid: None,
        ..process
    }
}

/// A connect over IPv4.
fn connect() -> Failure {
    Failure {
        netns: NETNS,
        local: None,
        remote: None,
        inode: None,
        ..Failure::example()
    }
}

fn exhausted() -> Failure {
    Failure {
        process: Some((nginx(1201), Role::Caller)),
        local: Some(v4(PROXY, 0)),
        ..connect()
    }
}

fn syn() -> Failure {
    Failure {
        kind: Kind::SynDropped,
        cause: Cause::AcceptQueueFull,
        hook: Hook::FexitConnRequest,
        errno: None,
        process: Some((nginx(1201), Role::Acceptor)),
        holders: (1200..=1204).map(|pid| holder(nginx(pid))).collect(),
        local: Some(v4(PROXY, 443)),
        inode: Some(31_877),
        asked: Some(Asked {
            backlog: 511,
            somaxconn: 4096,
        }),
        ..connect()
    }
}

fn ack() -> Failure {
    Failure {
        kind: Kind::AckDropped,
        cause: Cause::AcceptQueueFull,
        hook: Hook::FentryV4SynRecvSock,
        errno: None,
        process: Some((php(2310), Role::Acceptor)),
        holders: (2310..2318).map(|pid| holder(php(pid))).collect(),
        netns: CONTAINER,
        local: Some(v4([127, 0, 0, 1], 9000)),
        inode: Some(34_012),
        queue: Some(8),
        asked: Some(Asked {
            backlog: 128,
            somaxconn: 4096,
        }),
        ..connect()
    }
}

fn taken() -> Failure {
    let curl = process(1, "curl", "/usr/bin/curl", "curl", 1000);
    Failure {
        cause: Cause::AddressTaken,
        process: Some((curl, Role::Caller)),
        remote: Some(v4([10, 0, 3, 20], 9200)),
        ..connect()
    }
}

fn pool() -> Failure {
    let java = process(
        2001,
        "java",
        "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        "java -Xmx4g -XX:+UseG1GC -jar /srv/orders/orders.jar --spring.profiles.active=prod",
        998,
    );
    let [local, remote] = [5, 0x20].map(|last| Ipv6Addr::new(0xfd00, 0, 1, 0, 0, 0, 0, last));
    Failure {
        hook: Hook::FexitInet6HashConnect,
        process: Some((java, Role::Caller)),
        netns: CONTAINER,
        family: Family::V6,
        local: Some(SocketAddr::new(local.into(), 0)),
        remote: Some(SocketAddr::new(remote.into(), 5432)),
        ..connect()
    }
}

fn bind() -> Failure {
    let cmdline = "/usr/bin/python3 /srv/exporter/exporter.py --port 9100";
    let python = process(1, "python3", "/usr/bin/python3.11", cmdline, 1001);
    Failure {
        kind: Kind::BindFailed,
        cause: Cause::PortInUse,
        hook: Hook::FexitInetBind,
        errno: u16::try_from(libc::EADDRINUSE).ok(),
        process: Some((python, Role::Caller)),
        local: Some(v4([0, 0, 0, 0], 9100)),
        ..connect()
    }
}

/// Good enough to be incompressible: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    fn count(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap_or(0)
    }

    fn of<T: Copy>(&mut self, all: &[T; 3]) -> T {
        all[usize::try_from(self.below(3)).unwrap_or(0)]
    }
}
