//! Whom does a process belong to, and which failures were asked for?

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::cgroup::Group;
use crate::cli::{Desert, NOWHERE, fail_once};
use crate::counters::Counters;
use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::{self, Tracer};
use crate::{guest, limits, replay, verdict};

/// Of a container that there is not.
const ID: &str = "5d1c0ffee0123456789abcdef0123456789abcdef0123456789abcdef0123456";

/// A name for a namespace as `ip netns` gives it, taken back afterwards.
struct Named(PathBuf);

impl Named {
    fn new(space: &Namespace) -> Result<Self> {
        Self::numbered(space, 0)
    }

    fn numbered(space: &Namespace, number: u32) -> Result<Self> {
        fs::create_dir_all("/run/netns")?;
        let name = format!("/run/netns/tracer-live-{}-{number}", std::process::id());
        fs::write(&name, "")?;
        let named = Self(PathBuf::from(&name));
        let source = format!("/proc/self/fd/{}", space.handle().as_raw_fd());
        guest::mount(&source, &name, "none", libc::MS_BIND).context("naming a namespace")?;
        Ok(named)
    }

    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = guest::unmount(&self.0);
        let _ = fs::remove_file(&self.0);
    }
}

/// What tracer told of a namespace, with some filter.
struct Told {
    tracer: Tracer,
    inum: u64,
    records: Vec<Value>,
}

impl Told {
    /// Lets every role fail once while tracer looks with `filter`. What it says adds up.
    fn of(path: &Path, filter: &str, desert: &Desert, roles: &[&Role]) -> Result<Self> {
        let arguments: Vec<_> = filter.split_whitespace().collect();
        let tracer = Tracer::started(path, &arguments)?;
        for role in roles {
            fail_once(role)?;
        }
        let records = tracer.stop()?;
        verdict::add_up(&tracer).with_context(|| filter.to_owned())?;
        Ok(Self {
            tracer,
            inum: desert.space.inum,
            records,
        })
    }

    fn events(&self) -> Vec<Value> {
        self.tracer.events_in(self.inum)
    }

    fn total(&self, name: &str) -> Result<u64> {
        let totals = tracer::final_totals(&self.records)?;
        totals[name].as_u64().with_context(|| format!("no {name}"))
    }

    /// The counts of the namespace.
    fn counts(&self) -> Result<Vec<&Value>> {
        let totals = tracer::final_totals(&self.records)?;
        let rows = totals["counts"].as_array().into_iter().flatten();
        Ok(rows.filter(|row| row["netns"] == self.inum).collect())
    }

    /// So many were counted, and these were told.
    fn is(&self, filter: &str, counted: u64, told: &[&Role]) -> Result<()> {
        let events = self.events();
        let pids: Vec<_> = events
            .iter()
            .map(|event| &event["process"]["pid"])
            .collect();
        let expected: Vec<_> = told.iter().map(|role| role.pid).collect();
        ensure!(
            pids == expected,
            "{filter}: {pids:?} instead of {expected:?}"
        );
        let sum: u64 = self
            .counts()?
            .iter()
            .filter_map(|row| row["count"].as_u64())
            .sum();
        ensure!(
            sum == counted,
            "{filter}: {sum} counted instead of {counted}"
        );
        let told = self.total("described")? + self.total("summed")?;
        let known = told + self.total("lost")? + self.total("filtered")?;
        ensure!(
            known == self.total("counted")?,
            "{filter}: {known} are known of"
        );
        Ok(())
    }
}

/// What whoever may create cgroups can do to a terminal.
const HOSTILE: &str = "\u{1b}]52;c;AAAA\u{7}\u{1b}[2J\u{9b}31m\u{202e}x\\.service";

/// A process in a cgroup that is named like a container's is in that container.
pub(crate) fn contained(path: &Path) -> Result<()> {
    let groups = [
        Group::new(&format!("docker-{ID}.scope"))?,
        Group::new("tracer-live-who.service")?,
        Group::new(HOSTILE)?,
    ];
    let desert = Desert::new()?;
    let named = Named::new(&desert.space)?;
    let roles = [
        desert.role("contained")?,
        desert.role("served")?,
        desert.role("hostile")?,
    ];
    for (group, role) in groups.iter().zip(&roles) {
        group.join(role)?;
    }
    let [contained, served, hostile] = &roles;
    let all = [contained, served, hostile];
    let filter = format!("--netns {}", named.name());
    let told = Told::of(path, &filter, &desert, &all)?;
    told.is(&filter, 3, &all)?;
    let events = told.events();
    is_as_placed(&events, &named.name())?;
    for row in told.counts()? {
        ensure!(row["netns_name"] == named.name(), "{row}");
    }
    let census = told
        .records
        .iter()
        .find(|record| record["type"] == "census");
    ensure!(
        census.is_some_and(|census| census["netns_name"] == named.name()),
        "{census:?}"
    );
    is_shown(path, &events)?;
    let short = &ID[..12];
    let cgroup = events[0]["process"]["cgroup"].as_str().unwrap_or_default();
    for (filter, expected) in [
        (format!("--container {short}"), &[contained][..]),
        (format!("--container {}", &ID[1..]), &[]),
        ("--unit tracer-live-who".to_owned(), &[served]),
        (format!("--container {short} --unit tracer-live-who"), &[]),
        (format!("--cgroup {cgroup} --port 9"), &[contained]),
    ] {
        let counted = expected.len() as u64;
        Told::of(path, &filter, &desert, &all)?.is(&filter, counted, expected)?;
    }
    // The cgroups can only be removed when they are empty.
    roles.iter().for_each(Role::kill);
    Ok(())
}

fn is_as_placed(events: &[Value], netns_name: &str) -> Result<()> {
    let [first, second, third] = events else {
        return Ok(());
    };
    for event in events {
        ensure!(event["netns_name"] == netns_name, "{event}");
        ensure!(event["process"]["pod"].is_null(), "{event}");
    }
    let is_at = |event: &Value, end: &str| {
        let cgroup = event["process"]["cgroup"].as_str();
        cgroup.is_some_and(|cgroup| cgroup.ends_with(end))
    };
    let container = &first["process"]["container"];
    ensure!(
        container["id"] == ID
            && container["runtime"] == "docker"
            && container["name"].is_null()
            && first["process"]["unit"].is_null()
            && is_at(first, &format!("/docker-{ID}.scope")),
        "{first}"
    );
    ensure!(
        second["process"]["unit"] == "tracer-live-who.service"
            && second["process"]["container"].is_null()
            && is_at(second, "/tracer-live-who.service"),
        "{second}"
    );
    ensure!(
        third["process"]["unit"] == HOSTILE && is_at(third, &format!("/{HOSTILE}")),
        "{third}"
    );
    Ok(())
}

/// As text, and by the same filters in what was kept.
fn is_shown(path: &Path, events: &[Value]) -> Result<()> {
    let lines: Vec<_> = events.iter().map(|event| format!("{event}\n")).collect();
    let file = replay::File::new("placed", lines.concat().as_bytes())?;
    let short = &ID[..12];
    let shown = |arguments: &[&str]| -> Result<String> {
        let output = replay::replay(path, &file, arguments)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let all = shown(&[])?;
    ensure!(
        all.lines().count() == 3
            && all.contains(&format!("@{short} netns "))
            && all.contains("@tracer-live-who netns ")
            && all.contains(r"@\x1b]52;c;AAAA\x07\x1b[2J\u{9b}31m\u{202e}x\\ netns "),
        "{all}"
    );
    let acts = |character: char| character.is_control() && character != '\n';
    ensure!(!all.contains(acts), "{all:?}");
    let one = shown(&["--container", short])?;
    ensure!(one.lines().count() == 1 && one.contains(short), "{one}");
    let none = shown(&["--container", short, "--comm", "served"])?;
    ensure!(none.is_empty(), "{none}");
    let output = replay::replay(path, &file, &["--comm", "no-such-comm"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "tracer: no failure in these files passes the filter (comm no-such-comm)";
    ensure!(said.lines().any(|line| line == expected), "{said}");
    Ok(())
}

/// Filters, alone and together, on real failures.
pub(crate) fn filters(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let (one, other) = (desert.role("asked-for")?, desert.role("bystander")?);
    let all = [&one, &other];
    let inum = desert.space.inum;
    let port = NOWHERE.rsplit(':').next().unwrap_or_default();
    for (filter, expected, counted) in [
        (format!("--netns {inum} --kind connect_failed"), &all[..], 2),
        (
            format!(
                "--comm asked-for --uid 0 --dst 127.0.0.0/8 --port {port} --cause ports_exhausted"
            ),
            &[&one],
            1,
        ),
        (
            format!("--comm asked-for --comm bystander --netns {inum}"),
            &all,
            2,
        ),
        (format!("--pid {} --pid {}", one.pid, other.pid), &all, 2),
        ("--comm asked-for --uid 4242".to_owned(), &[], 0),
        (format!("--netns {inum} --dst 10.0.0.0/8"), &[], 2),
        (
            format!("--netns {inum} --kind syn_dropped --kind bind_failed"),
            &[],
            0,
        ),
    ] {
        Told::of(path, &filter, &desert, &all)?.is(&filter, counted, expected)?;
    }
    Ok(())
}

/// What the kernel side can tell by itself it does not describe, and counts all the same.
pub(crate) fn in_kernel(path: &Path) -> Result<()> {
    const MANY: u64 = 200;
    let desert = Desert::new()?;
    let (one, other) = (desert.role("asked-for")?, desert.role("bystander")?);
    let inum = desert.space.inum;
    let all = MANY + 1;
    for (filter, expected, early, counted) in [
        (format!("--pid {}", one.pid), &[&one][..], MANY, 1),
        (
            format!("--pid {} --netns {inum}", one.pid),
            &[&one],
            MANY,
            1,
        ),
        ("--kind bind_failed".to_owned(), &[], all, 0),
        ("--cause address_taken".to_owned(), &[], all, 0),
        ("--netns 1".to_owned(), &[], all, 0),
        // These only user space can tell.
        (format!("--comm asked-for --netns {inum}"), &[&one], 0, 1),
    ] {
        let arguments: Vec<_> = filter.split_whitespace().collect();
        let tracer = Tracer::started(path, &arguments)?;
        let failed = other.ok(&format!("repeat tcp4 {MANY} {NOWHERE}"))?;
        ensure!(u64::try_from(failed)? == MANY, "{failed} failed");
        fail_once(&one)?;
        let records = tracer.stop()?;
        verdict::add_up(&tracer).with_context(|| filter.clone())?;
        let told = Told {
            tracer,
            inum,
            records,
        };
        told.is(&filter, counted, expected)?;
        // Others may fail on this machine meanwhile.
        let left_out = told.total("filtered_in_kernel")?;
        let is_early = left_out >= early && (early > 0 || left_out < MANY);
        ensure!(is_early, "{filter}: {left_out} left out in the kernel");
        // Of what is counted; the totals have no other processes, kinds and namespaces.
        let filtered = told.total("filtered")?;
        ensure!(filtered == 0, "{filter}: {filtered}");
    }
    Ok(())
}

/// Namespaces one after the other, which the kernel gives the same inode number: each has
/// its own name and its own counts.
pub(crate) fn again(path: &Path) -> Result<()> {
    const LIVES: u32 = 8;
    let tracer = Tracer::started(path, &[])?;
    let mut inodes = BTreeSet::new();
    let mut lives = Vec::new();
    for life in 1..=LIVES {
        let space = Namespace::new()?;
        let named = Named::numbered(&space, life)?;
        let role = Role::start(&space, "short-lived")?;
        for _ in 0..life {
            let socket = role.ok("socket tcp4")?;
            role.fails(&format!("bind {socket} 192.0.2.1:80"), libc::EADDRNOTAVAIL)?;
        }
        let name = named.name();
        let is_own = |event: &&Value| event["netns_name"] == name;
        limits::until("the events of a namespace", || {
            let events = tracer.events_in(space.inum);
            Ok(events.iter().filter(is_own).count() >= life as usize)
        })
        .with_context(|| format!("{name}, {life} failures"))?;
        inodes.insert(space.inum);
        lives.push((name, life));
        drop((role, named, space));
        // The kernel gives the number out again once it has taken the namespace apart.
        std::thread::sleep(Duration::from_millis(200));
    }
    let records = tracer.stop()?;
    let totals = tracer::final_totals(&records)?;
    let rows = totals["counts"].as_array().context("no counts")?;
    for (name, failures) in &lives {
        let own: Vec<&Value> = rows
            .iter()
            .filter(|row| row["netns_name"] == *name)
            .collect();
        ensure!(
            own.len() == 1 && own[0]["count"] == *failures,
            "{name} failed {failures} times: {own:?}"
        );
    }
    let ours = |event: &Value| inodes.iter().any(|inum| event["netns"] == *inum);
    let events = records.iter().filter(|it| it["type"] == "event");
    let nameless = events.filter(|it| ours(it) && it["netns_name"].is_null());
    ensure!(nameless.count() == 0, "some events have no name");
    crate::say::remark(&format!("{} inode numbers for {LIVES}", inodes.len()));
    Ok(())
}

/// A drop is of whoever is responsible and of whoever holds the listener, not of the
/// client.
pub(crate) fn drops(path: &Path) -> Result<()> {
    const ADDR: &str = "127.0.0.1:8080";
    let space = Namespace::new()?;
    let server = Role::start(&space, "slow-server")?;
    server.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let holder = server.fork("co-holder", None)?;
    let client = Role::start(&space, "client")?;
    let filter = format!("--pid {} --dst 127.0.0.0/8 --port 8080", holder.pid);
    let arguments: Vec<_> = filter.split_whitespace().collect();
    let tracer = Tracer::started(path, &arguments)?;
    if tracer.hook("syn_drop").0 == "none" {
        return Err(Skip::because("nothing sees drops"));
    }
    client.connects("tcp4", 6, ADDR)?;
    let is_told = tracer.await_events(space.inum, |events| events.len() >= 3);
    let records = tracer.stop()?;
    let events = tracer.events_in(space.inum);
    ensure!(is_told, "{} drops were told", events.len());
    for event in &events {
        let holders = event["holders"].as_array().into_iter().flatten();
        let pids: Vec<_> = holders.map(|one| &one["pid"]).collect();
        ensure!(pids.contains(&&Value::from(holder.pid)), "{event}");
    }
    let is_explained = records.iter().any(|record| record["type"] == "queue");
    ensure!(is_explained, "no queue record");
    let nobodys = format!("--pid {}", client.pid);
    let tracer = Tracer::started(path, &["--pid", &client.pid.to_string()])?;
    client.connects("tcp4", 3, ADDR)?;
    let told = Told {
        records: tracer.stop()?,
        tracer,
        inum: space.inum,
    };
    ensure!(told.events().is_empty(), "{nobodys}: {:?}", told.events());
    ensure!(told.counts()?.is_empty(), "{nobodys}: {:?}", told.counts()?);
    verdict::add_up(&told.tracer)?;
    Ok(())
}

/// What a process did under another name is not what it does under this one.
pub(crate) fn renamed(path: &Path) -> Result<()> {
    for (filter, counted) in [("--comm old-name", 3), ("--comm new-name", 2), ("", 5)] {
        let desert = Desert::new()?;
        let role = desert.role("old-name")?;
        let arguments: Vec<_> = filter.split_whitespace().collect();
        let tracer = Tracer::started(path, &arguments)?;
        for _ in 0..3 {
            fail_once(&role)?;
        }
        role.ok("rename new-name")?;
        for _ in 0..2 {
            fail_once(&role)?;
        }
        let is_told = |events: &[Value]| events.len() >= counted;
        let has_all = tracer.await_events(desert.space.inum, is_told);
        let records = tracer.stop()?;
        let events = tracer.events_in(desert.space.inum);
        ensure!(has_all && events.len() == counted, "{filter}: {events:?}");
        let totals = tracer::final_totals(&records)?;
        let by = totals["by"].as_array().into_iter().flatten();
        let own = by.filter(|row| row["netns"] == desert.space.inum);
        let by: u64 = own.filter_map(|row| row["counted"].as_u64()).sum();
        ensure!(by == counted as u64, "{filter}: {totals}");
        verdict::add_up(&tracer).with_context(|| filter.to_owned())?;
    }
    Ok(())
}

/// With --netns neither totals nor rows beside the kernel's counters are of others.
pub(crate) fn namespace(path: &Path) -> Result<()> {
    const ADDR: &str = "127.0.0.1:7777";
    let (wanted, other) = (Desert::new()?, Desert::new()?);
    let named = Named::new(&wanted.space)?;
    let (one, two) = (wanted.role("wanted")?, other.role("unwanted")?);
    let flooded = Namespace::new()?;
    let (server, client) = (
        Role::start(&flooded, "full")?,
        Role::start(&flooded, "client")?,
    );
    server.ok(&format!("listener tcp4 {ADDR} 0"))?;
    for filter in [
        format!("--netns {}", named.name()),
        format!("--netns {}", wanted.space.inum),
    ] {
        let arguments: Vec<_> = filter.split_whitespace().collect();
        let before = Counters::read(&flooded)?;
        let tracer = Tracer::started(path, &arguments)?;
        fail_once(&one)?;
        for _ in 0..3 {
            fail_once(&two)?;
        }
        client.connects("tcp4", 4, ADDR)?;
        // The kernel's own counter of the other namespace says that it had drops.
        limits::until("drops in the other namespace", || {
            Ok(Counters::read(&flooded)?.listen_drops > before.listen_drops)
        })?;
        let records = tracer.stop()?;
        verdict::add_up(&tracer).with_context(|| filter.clone())?;
        let totals = tracer::final_totals(&records)?;
        for rows in ["counts", "kernel"] {
            let rows = totals[rows].as_array().into_iter().flatten();
            let strange = rows.filter(|row| row["netns"] != wanted.space.inum).count();
            ensure!(strange == 0, "{filter}: {totals}");
        }
        ensure!(totals["counted"] == 1, "{filter}: {totals}");
        ensure!(totals["described"] == 1, "{filter}: {totals}");
    }
    Ok(())
}

/// What a filter asks for in vain is said at once, each in a line of its own.
pub(crate) fn nobody(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let role = desert.role("is-there")?;
    let there = format!(
        "--comm is-there --pid {} --netns {} --uid 0",
        role.pid, desert.space.inum
    );
    let nothing = [
        "--netns no-such-netns",
        "--pid 4194303",
        "--comm no-such-comm",
        "--uid 4242",
        "--cgroup /no/such",
        "--container no-such",
        "--unit no-such",
    ];
    for (filter, expected) in [
        (nothing.join(" "), 7),
        ("--comm is-there --uid 4242 --uid 0".to_owned(), 1),
        (there, 0),
    ] {
        let arguments: Vec<_> = filter.split_whitespace().collect();
        let tracer = Tracer::started(path, &arguments)?;
        let unmatched = tracer.startup["unmatched"].as_array();
        let unmatched = unmatched.context("no `unmatched` in startup")?.clone();
        tracer.stop()?;
        let stderr = tracer.stderr();
        ensure!(unmatched.len() == expected, "{filter}: {unmatched:?}");
        for sentence in &unmatched {
            let sentence = sentence.as_str().unwrap_or_default();
            let line = format!("tracer: {sentence}");
            ensure!(
                stderr.lines().any(|said| said == line),
                "{filter}: {stderr}"
            );
        }
    }
    Ok(())
}
