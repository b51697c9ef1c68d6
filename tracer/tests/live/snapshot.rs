//! `tracer ports` and `tracer listeners` against what the agents did, and against `ss`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::case::Skip;
use crate::cli::PublicCopy;
use crate::counters::Counters;
use crate::netns::Namespace;
use crate::role::Role;
use crate::{limits, tracer};

/// Ports that connect() can have: 40000 to 40999, less ten.
const USABLE: u64 = 990;

const FULL: &str = "127.0.0.1:80";
const SIX: &str = "[::1]:81";
const CLOSES_FIRST: &str = "127.0.0.1:82";
const ACCEPTS: &str = "127.0.0.1:83";
const ANY_SIX: &str = "[::]:84";
/// In the range, so a port that no connect() can have.
const IN_RANGE: &str = "127.0.0.1:40980";

/// A namespace with a socket of every kind.
struct Mix {
    space: Namespace,
    server: Role,
    worker: Role,
    client: Role,
    ports: u16,
}

impl Mix {
    fn new() -> Result<Self> {
        let space = Namespace::new()?;
        space.sysctl("net/ipv4/ip_local_port_range", "40000 40999")?;
        space.sysctl("net/ipv4/ip_local_reserved_ports", "40990-40999")?;
        let server = Role::start(&space, "snap-server")?;
        let client = Role::start(&space, "snap-client")?;
        let listener =
            |kind, address, backlog| server.ok(&format!("listener {kind} {address} {backlog}"));
        listener("tcp4", FULL, 2)?;
        let six = listener("tcp6", SIX, 5)?;
        let closes_first = listener("tcp4", CLOSES_FIRST, 5)?;
        let accepts = listener("tcp4", ACCEPTS, 5)?;
        listener("tcp6", ANY_SIX, 4)?;
        let in_range = listener("tcp4", IN_RANGE, 5)?;
        let worker = server.fork("snap-worker", None)?;
        // Only one is left with two holders.
        for fd in [six, closes_first, accepts, in_range] {
            worker.ok(&format!("close {fd}"))?;
        }
        let mut mix = Self {
            space,
            server,
            worker,
            client,
            ports: 40000,
        };
        // Nobody accepts: three fit, the fourth stays in SYN_SENT.
        for _ in 0..3 {
            mix.connect("tcp4", FULL)?;
        }
        mix.begin_in_vain(FULL)?;
        // The second to close waits for the first: both at once would both be in TIME_WAIT.
        for _ in 0..2 {
            let (near, far) = (mix.connect("tcp6", SIX)?, mix.accept(six)?);
            mix.client.ok(&format!("close {near}"))?;
            mix.server.ok(&format!("await-end {far}"))?;
            mix.server.ok(&format!("close {far}"))?;
            let (near, far) = (
                mix.connect("tcp4", CLOSES_FIRST)?,
                mix.accept(closes_first)?,
            );
            mix.server.ok(&format!("close {far}"))?;
            mix.client.ok(&format!("await-end {near}"))?;
            mix.client.ok(&format!("close {near}"))?;
        }
        for (address, fd) in [(ACCEPTS, accepts), (IN_RANGE, in_range)] {
            mix.connect("tcp4", address)?;
            mix.accept(fd)?;
        }
        // Not port 0: the kernel may choose one that a socket of IPv6 has, and two
        // sockets that share a port are counted once.
        for address in ["127.0.0.1:40600", "0.0.0.0:40601"] {
            let fd = mix.client.ok("socket tcp4")?;
            mix.client.ok(&format!("bind {fd} {address}"))?;
        }
        let udp = mix.client.ok("socket udp4")?;
        mix.client.ok(&format!("bind {udp} 127.0.0.1:40500"))?;
        limits::until("four sockets in TIME_WAIT", || {
            Ok(mix.space.run(time_wait)? == 4)
        })?;
        Ok(mix)
    }

    /// A port of its own for each connection: two that share one would be right
    /// as well, but counted once.
    fn socket(&mut self, kind: &str) -> Result<i32> {
        self.ports += 1;
        let local = if kind.ends_with('6') {
            "[::1]"
        } else {
            "127.0.0.1"
        };
        let fd = self.client.ok(&format!("socket {kind}"))?;
        self.client
            .ok(&format!("bind {fd} {local}:{}", self.ports))?;
        Ok(fd)
    }

    fn connect(&mut self, kind: &str, to: &str) -> Result<i32> {
        let fd = self.socket(kind)?;
        self.client.ok(&format!("connect {fd} {to}"))?;
        Ok(fd)
    }

    fn begin_in_vain(&mut self, to: &str) -> Result<()> {
        let fd = self.socket("tcp4")?;
        self.client.ok(&format!("nonblock {fd}"))?;
        self.client
            .fails(&format!("connect {fd} {to}"), libc::EINPROGRESS)
    }

    fn accept(&self, fd: i32) -> Result<i32> {
        self.server.ok(&format!("accept {fd}"))
    }

    /// The records that `verb` writes about this namespace.
    fn records(&self, path: &Path, verb: &str) -> Result<Vec<Value>> {
        let output = tracer::verb(path, verb)
            .args(["--format", "json"])
            .output()?;
        ensure!(
            output.status.success(),
            "ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut records = read(&output.stdout)?;
        records.retain(|record| record["netns"] == self.space.inum);
        Ok(records)
    }

    fn ports(&self, path: &Path) -> Result<Value> {
        let mut records = self.records(path, "ports")?;
        ensure!(records.len() == 1, "not one record: {records:?}");
        records.pop().context("no record")
    }

    /// What `ss` lists here.
    fn ss(&self, options: &str) -> Result<Vec<Line>> {
        let run = || Ok(Command::new("ss").arg(options).output());
        let output = match self.space.run(run)? {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Skip::because("no ss here (iproute2)"));
            }
            other => other?,
        };
        ensure!(output.status.success(), "ss {options}: {output:?}");
        let text = String::from_utf8(output.stdout)?;
        text.lines()
            .map(|line| Line::read(line).with_context(|| line.to_owned()))
            .collect()
    }
}

fn read(stdout: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

/// How many sockets of the calling thread's namespace are in TIME_WAIT.
fn time_wait() -> Result<usize> {
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
        let states = text.lines().filter_map(|row| row.split_whitespace().nth(3));
        count += states.filter(|state| *state == "06").count();
    }
    Ok(count)
}

/// `state: ports` of an object with `parts`.
fn parts(value: &Value) -> Value {
    let parts = value["parts"].as_array().into_iter().flatten();
    parts
        .filter_map(|part| Some((part["state"].as_str()?.to_owned(), part["ports"].clone())))
        .collect()
}

/// `[who, pids, ports]` of an object with `holders`; who is a name of a process, or
/// the kind of an owner that is none.
fn holders(value: &Value) -> Vec<(String, BTreeSet<i64>, u64)> {
    let holders = value["holders"].as_array().into_iter().flatten();
    holders
        .filter_map(|holder| {
            let who = holder["comm"].as_str().or(holder["owner"].as_str())?;
            Some((
                who.to_owned(),
                pids(&holder["processes"]),
                holder["ports"].as_u64()?,
            ))
        })
        .collect()
}

fn pids(processes: &Value) -> BTreeSet<i64> {
    let processes = processes.as_array().into_iter().flatten();
    processes.filter_map(|one| one["pid"].as_i64()).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, told: &T, expected: &T) -> Result<()> {
    ensure!(
        told == expected,
        "{what}: told {told:?}, expected {expected:?}"
    );
    Ok(())
}

pub(crate) fn ports(path: &Path) -> Result<()> {
    let mix = Mix::new()?;
    let told = mix.ports(path)?;
    let range = json!({
        "low": 40000, "high": 40999, "own": false, "reserved": 10, "usable": USABLE,
    });
    same("range", &told["range"], &range)?;
    let all = json!({
        "established": 5, "syn_sent": 1, "time_wait": 2, "listening": 1, "bound_unused": 2,
    });
    same("states", &parts(&told["tcp"]), &all)?;
    same("used", &told["tcp"]["used"], &json!(11))?;
    same("free", &told["tcp"]["free"], &json!(USABLE - 11))?;
    let only = |role: &Role| BTreeSet::from([i64::from(role.pid)]);
    let who = vec![
        ("snap-client".to_owned(), only(&mix.client), 8),
        ("unknown".to_owned(), BTreeSet::new(), 2),
        ("snap-server".to_owned(), only(&mix.server), 1),
    ];
    same("holders", &holders(&told["tcp"]), &who)?;
    same("udp", &parts(&told["udp"]), &json!({ "bound_unused": 1 }))?;
    same("unavailable", &told["unavailable"], &json!(3))?;
    same("servers' TIME_WAIT", &told["servers_time_wait"], &json!(2))?;
    let destinations: Vec<Value> = told["destinations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            json!([
                one["source"],
                one["destination"],
                one["own"],
                one["used"],
                one["free"],
                parts(one)
            ])
        })
        .collect();
    let one = |source: &str, to: &str, own: u64, parts: Value| {
        json!([source, to, own, own + 3, USABLE - own - 3, parts])
    };
    let expected = vec![
        one(
            "127.0.0.1",
            FULL,
            4,
            json!({ "established": 3, "syn_sent": 1 }),
        ),
        one("::1", SIX, 2, json!({ "time_wait": 2 })),
        one("127.0.0.1", ACCEPTS, 1, json!({ "established": 1 })),
        one("127.0.0.1", IN_RANGE, 1, json!({ "established": 1 })),
    ];
    same("destinations", &destinations, &expected)
}

pub(crate) fn listeners(path: &Path) -> Result<()> {
    let mix = Mix::new()?;
    let before = Counters::read(&mix.space)?;
    let told = mix.records(path, "listeners")?;
    let after = Counters::read(&mix.space)?;
    let locals: BTreeSet<&str> = told
        .iter()
        .filter_map(|one| one["local"].as_str())
        .collect();
    let expected = [FULL, SIX, CLOSES_FIRST, ACCEPTS, ANY_SIX, IN_RANGE];
    same("listeners", &locals, &BTreeSet::from(expected))?;
    // Fullest first.
    let full = told.first().context("no listener")?;
    same("fullest", &full["local"], &json!(FULL))?;
    same(
        "queue",
        &full["accept_queue"],
        &json!({ "len": 3, "max": 2 }),
    )?;
    same("fill", &full["fill_percent"], &json!(100))?;
    same("waiting", &full["waiting"], &json!(3))?;
    let both = BTreeSet::from([mix.server.pid, mix.worker.pid].map(i64::from));
    let server = BTreeSet::from([i64::from(mix.server.pid)]);
    for one in &told {
        let is_shared = [FULL, ANY_SIX].map(Value::from).contains(&one["local"]);
        let expected = if is_shared { &both } else { &server };
        same("holders", &pids(&one["holders"]), expected)
            .with_context(|| one["local"].to_string())?;
        if one["local"] != FULL {
            same("drops", &one["drops_at_most"], &json!(0))?;
        }
    }
    // The client whose SYN was dropped tries again and again.
    let between = |what: &str, told: &Value, low: u64, high: u64| {
        let is_right = told
            .as_u64()
            .is_some_and(|told| (low..=high).contains(&told));
        ensure!(is_right, "{what}: told {told}, expected {low} to {high}");
        Ok(())
    };
    let kernel = &full["kernel"];
    let (low, high) = (before.listen_drops, after.listen_drops);
    ensure!(low > 0, "nothing was dropped");
    between("ListenDrops", &kernel["listen_drops"], low, high)?;
    between("drops", &full["drops_at_most"], low, high)?;
    let (low, high) = (before.listen_overflows, after.listen_overflows);
    between("ListenOverflows", &kernel["listen_overflows"], low, high)
}

/// A line of `ss -tanpOH`.
struct Line {
    state: String,
    queues: (u64, u64),
    local: String,
    remote: String,
    /// Every process that has it, with its name.
    holders: BTreeSet<(String, i64)>,
}

impl Line {
    fn read(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut word = || words.next().context("a column is missing");
        let plain = |address: &str| match address.strip_prefix('*') {
            Some(port) => format!("[::]{port}"),
            None => address.to_owned(),
        };
        Ok(Self {
            state: word()?.to_owned(),
            queues: (word()?.parse()?, word()?.parse()?),
            local: plain(word()?),
            remote: plain(word()?),
            holders: users(line),
        })
    }

    fn port(&self) -> Option<u64> {
        self.local.rsplit_once(':')?.1.parse().ok()
    }

    fn pids(&self) -> impl Iterator<Item = i64> {
        self.holders.iter().map(|(_, pid)| *pid)
    }
}

/// `users:(("curl",pid=1,fd=3),("curl",pid=2,fd=3))`
fn users(line: &str) -> BTreeSet<(String, i64)> {
    let users = line.split("(\"").skip(1);
    users
        .filter_map(|user| {
            let (comm, rest) = user.split_once("\",pid=")?;
            Some((comm.to_owned(), rest.split(',').next()?.parse().ok()?))
        })
        .collect()
}

/// The name that records give to a state of `ss`.
fn in_records(state: &str) -> Result<&'static str> {
    Ok(match state {
        "ESTAB" => "established",
        "SYN-SENT" => "syn_sent",
        "TIME-WAIT" => "time_wait",
        "LISTEN" => "listening",
        other => bail!("the agents left no socket in state {other}"),
    })
}

/// What belongs to a destination: ports by state, and who has them.
type Told = (BTreeMap<String, u64>, BTreeSet<(String, i64)>);

/// Counts by state and by destination, and owners. `ss` may not list bound, unused
/// sockets; they are left out on both sides.
pub(crate) fn ports_like_ss(path: &Path) -> Result<()> {
    let mix = Mix::new()?;
    let lines = mix.ss("-tanpOH")?;
    let told = mix.ports(path)?;
    let listening = lines.iter().filter(|line| line.state == "LISTEN");
    let listening: BTreeSet<_> = listening.map(Line::port).collect();
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_destination: BTreeMap<(String, String), Told> = BTreeMap::new();
    for line in &lines {
        let is_usable = line
            .port()
            .is_some_and(|port| (40000..40990).contains(&port));
        let is_listener = line.state == "LISTEN";
        if !is_usable || (listening.contains(&line.port()) && !is_listener) {
            continue;
        }
        let state = in_records(&line.state)?;
        *all.entry(state.to_owned()).or_default() += 1;
        if !is_listener {
            let source = line.local.rsplit_once(':').context("an address")?.0;
            let source = source.trim_matches(['[', ']']).to_owned();
            let told = by_destination.entry((source, line.remote.clone()));
            let (states, holders) = told.or_default();
            *states.entry(state.to_owned()).or_default() += 1;
            holders.extend(line.holders.clone());
        }
    }
    let mut ours = states(&told["tcp"]);
    ours.remove("bound_unused");
    same("states", &ours, &all)?;
    let destinations = told["destinations"].as_array().into_iter().flatten();
    let ours: BTreeMap<_, _> = destinations
        .filter_map(|one| {
            let key = |name: &str| Some(one[name].as_str()?.to_owned());
            Some((
                (key("source")?, key("destination")?),
                (states(one), owners(one)),
            ))
        })
        .collect();
    same("destinations", &ours, &by_destination)
}

fn states(value: &Value) -> BTreeMap<String, u64> {
    let parts = value["parts"].as_array().into_iter().flatten();
    parts
        .filter_map(|part| Some((part["state"].as_str()?.to_owned(), part["ports"].as_u64()?)))
        .collect()
}

fn owners(value: &Value) -> BTreeSet<(String, i64)> {
    let holders = holders(value).into_iter();
    holders
        .flat_map(|(comm, pids, _)| pids.into_iter().map(move |pid| (comm.clone(), pid)))
        .collect()
}

/// Addresses, both numbers of the queue, and every holder.
pub(crate) fn listeners_like_ss(path: &Path) -> Result<()> {
    let mix = Mix::new()?;
    let lines = mix.ss("-tlnpOH")?;
    let told = mix.records(path, "listeners")?;
    let theirs: BTreeMap<_, _> = lines
        .iter()
        .map(|line| (line.local.clone(), (line.queues, line.pids().collect())))
        .collect();
    let ours: BTreeMap<_, _> = told
        .iter()
        .filter_map(|one| {
            let queue = &one["accept_queue"];
            let queues = (queue["len"].as_u64()?, queue["max"].as_u64()?);
            Some((
                one["local"].as_str()?.to_owned(),
                (queues, pids(&one["holders"])),
            ))
        })
        .collect();
    same("number of listeners", &told.len(), &lines.len())?;
    same("listeners", &ours, &theirs)
}

/// The same for people.
pub(crate) fn text(path: &Path) -> Result<()> {
    let mix = Mix::new()?;
    let client = format!("snap-client[{}]", mix.client.pid);
    let server = format!("snap-server[{}] +1", mix.server.pid);
    let netns = mix.space.inum.to_string();
    let expected = [
        (
            "ports",
            [
                &netns,
                "40000-40999, 990 usable, 10 reserved",
                "127.0.0.1 → 127.0.0.1:80",
                &client,
                "2 TIME_WAIT sockets on listening ports use no ephemeral port",
                "`tracer watch` only",
            ],
        ),
        (
            "listeners",
            [&netns, "3/2", "100%", FULL, &server, "ListenOverflows"],
        ),
    ];
    for (verb, wanted) in expected {
        let output = tracer::verb(path, verb).output()?;
        let told = String::from_utf8(output.stdout)?;
        for words in wanted {
            ensure!(told.contains(words), "{verb} lacks `{words}`: {told}");
        }
    }
    Ok(())
}

/// Whoever may see less is told so, and gets the rest.
pub(crate) fn not_root(path: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let copy = PublicCopy::of(path)?;
    let own = std::fs::read_link("/proc/self/ns/net")?;
    for verb in ["ports", "listeners"] {
        let output = tracer::verb(&copy.0, verb)
            .args(["--format", "json"])
            .uid(65534)
            .gid(65534)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{verb} ended with {}: {stderr}",
            output.status
        );
        let hint = "processes of other users cannot be looked into";
        let hints = stderr.lines().filter(|line| line.contains(hint)).count();
        ensure!(hints == 1, "{verb}: {hints} hints in: {stderr}");
        let own = own.to_string_lossy();
        for record in read(&output.stdout)? {
            let netns = format!("net:[{}]", record["netns"]);
            same("namespace", &&*netns, &&*own)?;
        }
    }
    Ok(())
}

/// Nobody reads: no failure.
pub(crate) fn stdout_closed(path: &Path) -> Result<()> {
    for verb in ["ports", "listeners"] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = tracer::verb(path, verb).stdout(writer).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && !stderr.contains("pipe"),
            "{verb} ended with {}: {stderr}",
            output.status
        );
    }
    Ok(())
}
