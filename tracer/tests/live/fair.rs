//! Who fails often must not hide who fails rarely, and everybody's count is exact.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::counters::Counters;
use crate::expect::weight;
use crate::faults::{Desert, fail};
use crate::netns::Namespace;
use crate::packet::{self, Segment};
use crate::role::Role;
use crate::tracer::{Tracer, final_totals};
use crate::tun::{self, Tun};

/// A load as `cargo xtask bench` has it, in a network namespace of its own.
struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    netns: u64,
}

impl Load {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--role", "load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().context("no stdout")?;
        let mut load = Self {
            child,
            orders,
            answers: BufReader::new(answers),
            netns: 0,
        };
        load.netns = number(&load.answer()?, "netns")?;
        Ok(load)
    }

    fn order(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("it has ended")?;
        writeln!(orders, "{order}")?;
        Ok(())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a load answers {line:?}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends with its orders.
        self.orders = None;
        let _ = self.child.wait();
    }
}

fn number(of: &Value, name: &str) -> Result<u64> {
    of[name].as_u64().with_context(|| format!("{name} of {of}"))
}

/// Entries of the final totals that `is_wanted` takes: how many were counted and how many
/// described, together.
fn by(records: &[Value], is_wanted: impl Fn(&Value) -> bool) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    let entries = final_totals(records)?["by"].as_array().context("no by")?;
    for entry in entries.iter().filter(|entry| is_wanted(entry)) {
        sum.0 += number(entry, "counted")?;
        sum.1 += number(entry, "described")?;
    }
    Ok(sum)
}

/// A process that fails as fast as it can, and one beside it that fails now and then.
pub(crate) fn processes(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let (spinner, quiet) = (desert.role("spinner")?, desert.role("quiet")?);
    let tracer = Tracer::started(path, &[])?;
    let (mut spun, mut failed) = (0, 0);
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let spin = scope.spawn(move || -> Result<u64> {
            let mut spun = 0;
            while begun.elapsed() < Duration::from_secs(4) {
                spun += fail(&spinner, 20_000)?;
            }
            Ok(spun)
        });
        while begun.elapsed() < Duration::from_secs(3) {
            failed += fail(&quiet, 1)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        spun = spin.join().ok().context("the spinner's thread")??;
        Ok(())
    })?;
    let records = tracer.stop()?;
    let events = tracer.events_in(desert.space.inum);
    for (comm, truth) in [("spinner", spun), ("quiet", failed)] {
        let own = || events.iter().filter(|it| it["process"]["comm"] == comm);
        let told: u64 = own().map(weight).sum();
        let (counted, described) = by(&records, |entry| {
            entry["netns"] == desert.space.inum && entry["process"]["comm"] == comm
        })?;
        ensure!(
            told == truth && counted == truth,
            "{comm}: {truth} failed, {told} in events, {counted} counted"
        );
        let single = own().filter(|event| weight(event) == 1).count() as u64;
        ensure!(
            described == single,
            "{comm}: {described} described, {single} events of one failure"
        );
        ensure!(
            comm == "spinner" || single == truth,
            "{single} of {truth} failures of the quiet process were described"
        );
    }
    let lost = number(final_totals(&records)?, "lost")?;
    ensure!(lost == 0, "{lost} are nobody's");
    Ok(())
}

/// The same with listeners: one is flooded, the other drops a SYN now and then.
pub(crate) fn listeners(path: &Path) -> Result<()> {
    let (mut flooded, mut quiet) = (Load::start()?, Load::start()?);
    let tracer = Tracer::started(path, &[])?;
    flooded.order("drop 0 3000")?;
    quiet.order("drop 100 2000")?;
    let mut answers = Vec::new();
    for (load, is_quiet) in [(&mut flooded, false), (&mut quiet, true)] {
        answers.push((load.netns, load.answer()?, is_quiet));
    }
    let records = tracer.stop()?;
    for (netns, answer, is_quiet) in answers {
        let drops = number(&answer, "drops")?;
        let near = drops / 5 + 2;
        let off = |count: u64| match tracer.hook("syn_drop").1.as_str() {
            "near" => count.abs_diff(drops) > near.min(8),
            _ => count != drops,
        };
        let events = tracer.events_in(netns);
        let told: u64 = events.iter().map(weight).sum();
        let (counted, _) = by(&records, |entry| {
            entry["netns"] == netns && entry["listener"]["local"].is_string()
        })?;
        ensure!(
            !off(told) && !off(counted) && told == counted,
            "{drops} dropped by the kernel, {told} in events, {counted} counted"
        );
        let single = events.iter().filter(|event| weight(event) == 1).count() as u64;
        ensure!(
            !is_quiet || !off(single),
            "{single} of {drops} drops of the quiet listener were described"
        );
    }
    Ok(())
}

/// More listeners drop than the kernel side has counters for: all is counted, and what is
/// nobody's is said.
pub(crate) fn too_many(path: &Path) -> Result<()> {
    /// `COUNT_KEYS` in tracer-common/src/count.rs.
    const KEYS: u64 = 8192;
    const LISTENERS: u64 = KEYS + 808;
    let mut load = Load::start()?;
    let tracer = Tracer::started(path, &[])?;
    load.order(&format!("drop-at {LISTENERS}"))?;
    let drops = number(&load.answer()?, "drops")?;
    ensure!(drops == LISTENERS, "the kernel dropped {drops}");
    let records = tracer.stop()?;
    let totals = final_totals(&records)?;
    let rows = totals["counts"].as_array().context("no counts")?;
    let own = rows.iter().filter(|row| row["netns"] == load.netns);
    let counted: u64 = own.filter_map(|row| row["count"].as_u64()).sum();
    ensure!(counted == drops, "{counted} counted of {drops}");
    let unattributed = number(totals, "unattributed")?;
    ensure!(
        (LISTENERS - KEYS..LISTENERS / 2).contains(&unattributed),
        "{unattributed} not attributed"
    );
    // What is in `by` and beyond it is all there is.
    let (listed, _) = by(&records, |_| true)?;
    let more = number(&totals["by_more"], "counted")?;
    let all = number(totals, "counted")?;
    ensure!(listed + more == all, "{listed} + {more} of {all}");
    Ok(())
}

/// Half-open handshakes that an ICMP error ends: the kernel counts them as drops, and no
/// hook sees them. The totals name what may stand behind the difference.
pub(crate) fn ended_by_icmp(path: &Path) -> Result<()> {
    const REQUESTS: u8 = 9;
    let own = IpAddr::from([10, 77, 0, 1]);
    let space = Namespace::new()?;
    let tun = Tun::new(&space)?;
    space.address(tun::NAME, own, 24)?;
    let server = Role::start(&space, "server")?;
    server.ok("listener tcp4 10.77.0.1:8080 64")?;
    let tracer = Tracer::started(path, &[])?;
    for nth in 0..REQUESTS {
        let peer = tun::fake_peer(own, 10 + nth);
        tun.send(&Segment::syn(peer, SocketAddr::new(own, 8080)))?;
        let answer = tun.await_syn_ack(&peer)?;
        tun.send_bytes(&packet::unreachable(&answer)?)?;
    }
    let wanted = u64::from(REQUESTS);
    let drops = Counters::await_in(&space, "the ends", |now| now.listen_drops >= wanted)?;
    let records = tracer.stop()?;
    let rows = final_totals(&records)?["kernel"]
        .as_array()
        .context("no rows")?;
    let row = rows.iter().find(|row| row["netns"] == space.inum);
    let row = row.context("no row of the namespace")?;
    let explanation = row["explanation"].as_str().unwrap_or_default();
    ensure!(
        row["listen_drops"]["kernel"] == drops.listen_drops
            && row["listen_drops"]["difference"] == drops.listen_drops
            && explanation.contains("ICMP"),
        "{drops:?}, but {row}"
    );
    Ok(())
}
