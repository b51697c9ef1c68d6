//! `xtask otlp`: does a collector get what tracer saw?
//!
//! rotel, a collector that others make, takes what `tracer watch --otlp` sends while
//! cases are staged, and prints it. That is compared with tracer's records, with what
//! the failing programs saw, and with the kernel's counters; once more while rotel is
//! gone for a while, and while nobody is there at all.

use super::beside::Program;
use super::lab::{Lab, Wire, until_at_most};
use super::rotel::{Arrived, Attributes, Log, Rotel, free_address};
use super::{Telling, as_root, bound_and_unused, lab, listen_without_accept, packages, rotel};
use crate::live::Run;
use crate::place::{self, Place};
use crate::{run, say, toolchain};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "otlp-inside";

const UNLUCKY: &str = include_str!("scripts/unlucky.py");

/// What that calls itself, and how people shall see it.
const NAME: &str = "\u{1b}]0;x\u{7}\u{202e}\\\"é";
const SHOWN: &str = "\\x1b]0;x\\x07\\u{202e}\\\\\"é";

/// How many ports it has, and how often it fails where it matters how often.
const PORTS: u64 = 8;
const TIMES: u64 = 50;

/// Longer than tracer takes to end when nobody takes what it sends: what it waits,
/// and what old kernels need to let go of hooks.
const ENDING: Duration = Duration::from_secs(15);

/// For what takes a moment: tracer is not built to be fast here, and the machine may
/// be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks, and judges the answer.
type Question = fn(&Study) -> Result<()>;

/// What is asked of the first run, by the name of the test.
const QUESTIONS: [(&str, Question); 7] = [
    ("failures", failures),
    ("hostile", hostile),
    ("findings", findings),
    ("totals", totals),
    ("kernel", kernel),
    ("resource", resource),
    ("documented", documented),
];

/// Tests that need a run of their own.
type Test = fn(&Bench) -> Result<()>;

const TESTS: [(&str, Test); 3] = [
    ("restart", restart),
    ("nobody", nobody),
    ("silence", silence),
];

/// Builds tracer with the feature. Not as it is released: that takes long, and what is
/// asked here does not depend on it.
pub(crate) fn tracer(place: &Place) -> Result<PathBuf> {
    say::note("building tracer with OTLP");
    run::check(
        toolchain::cargo()
            // All of the workspace, as for its tests: so its crates are built once.
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--features",
                "tracer/otlp",
            ])
            .args(["--bin", "tracer"])
            .current_dir(&place.root),
    )?;
    Ok(place.target.join("debug/tracer"))
}

/// Stages, receives and asks, as root.
pub(crate) fn run(place: &Place) -> Result<Run> {
    let tracer = tracer(place)?;
    rotel::PACKAGE.install(place)?;
    as_root(place, "otlp", &[OsStr::new(INSIDE), tracer.as_os_str()])
}

/// The part that runs as root: a line for each question, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [tracer] = words else {
        bail!("{INSIDE} needs the path of tracer");
    };
    packages::install()?;
    lab::remove_stale(place);
    let directory = place.cache.join("otlp");
    place::renew(&directory)?;
    let bench = Bench {
        place,
        tracer: Path::new(tracer),
        directory: &directory,
    };
    let mut telling = Telling::default();
    let start = Instant::now();
    match Study::new(&bench) {
        Err(error) => telling.tell("otlp/receive", start, Err(error)),
        Ok(study) => {
            for (name, ask) in QUESTIONS {
                telling.tell(&format!("otlp/{name}"), Instant::now(), ask(&study));
            }
        }
    }
    for (name, test) in TESTS {
        let start = Instant::now();
        telling.tell(&format!("otlp/{name}"), start, test(&bench));
    }
    fs::remove_dir_all(&directory)?;
    Ok(telling.sum_up())
}

/// Where tests happen.
struct Bench<'a> {
    place: &'a Place,
    tracer: &'a Path,
    directory: &'a Path,
}

impl Bench<'_> {
    /// tracer, when it has attached everything.
    fn watch(&self, name: &str, receiver: SocketAddr) -> Result<Program> {
        let tracer = self.tracer.display().to_string();
        let url = format!("http://{receiver}");
        let words = [
            "OTEL_METRIC_EXPORT_INTERVAL=1000",
            "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
            &tracer,
            "watch",
            "--format",
            "json",
            "--otlp",
            &url,
        ];
        let output = self.directory.join(format!("{name}.out"));
        let watching = Program::start(Path::new("/usr/bin/env"), &words, output)?;
        until_at_most(PATIENCE, "tracer", || Ok(!watching.records()?.is_empty()))
            .with_context(|| watching.said().unwrap_or_default())?;
        Ok(watching)
    }

    fn rotel(&self, name: &str, address: SocketAddr) -> Result<Rotel> {
        Rotel::start(self.place, self.directory, name, address)
    }

    fn lab(&self) -> Result<Lab> {
        let lab = Lab::new(self.place, self.tracer, Wire::Short)?;
        lab.client.ports(PORTS)?;
        Ok(lab)
    }
}

/// Starts the program that fails so often, with so many seconds between; its pid.
fn unlucky(lab: &Lab, times: u64, pause: &str) -> Result<u32> {
    let program = lab.script("unlucky", UNLUCKY)?;
    let words = [lab.server.ip, &PORTS.to_string(), &times.to_string(), pause];
    let pid = lab.start(&lab.client, &program, &words)?;
    lab.await_log("unlucky", "ready")?;
    Ok(pid)
}

/// How often it failed, as it says itself, when it has ended.
fn failed(lab: &Lab) -> Result<u64> {
    until_at_most(PATIENCE, "all failures", || {
        Ok(lab.log("unlucky")?.contains("times"))
    })?;
    let log = lab.log("unlucky")?;
    let said = log.split("failed ").nth(1);
    let count = said.and_then(|rest| rest.split(' ').next());
    Ok(count.context("it does not say how often")?.parse()?)
}

/// Those of tracer's records that shall arrive as log records.
fn sent(records: &[Value]) -> usize {
    let sent = |record: &&Value| {
        matches!(
            record["type"].as_str(),
            Some("event" | "census" | "queue" | "lost")
        )
    };
    records.iter().filter(sent).count()
}

/// A run of tracer's that rotel got all of, and what the others know about it.
struct Study {
    records: Vec<Value>,
    said: String,
    arrived: Arrived,
    /// docs/otlp.md and docs/metrics.md.
    pages: String,
    /// Of the program that fails: its pid, and how often it did.
    unlucky: (u32, u64),
    /// The last case's server: its namespace, and `ListenOverflows` before and after
    /// tracer ended.
    server: u64,
    overflows: [u64; 2],
}

impl Study {
    fn new(bench: &Bench) -> Result<Self> {
        let address = free_address()?;
        let rotel = bench.rotel("rotel", address)?;
        let mut watching = bench.watch("tracer", address)?;
        let case = bound_and_unused::CASE;
        let lab = Lab::new(bench.place, bench.tracer, case.wire)?;
        let _judge = (case.stage)(&lab).context(case.name)?;
        // It is taken where the failure was.
        until_at_most(PATIENCE, "a census", || {
            let records = watching.records()?;
            let mut censuses = records.iter().filter(|record| record["type"] == "census");
            Ok(censuses.any(|census| census.to_string().contains("hoarder")))
        })?;
        drop(lab);
        let lab = bench.lab()?;
        let pid = unlucky(&lab, TIMES, "0.01")?;
        let unlucky = (pid, failed(&lab)?);
        drop(lab);
        let case = listen_without_accept::CASE;
        let lab = Lab::new(bench.place, bench.tracer, case.wire)?;
        let _judge = (case.stage)(&lab).context(case.name)?;
        let before = lab.server.counter("ListenOverflows")?;
        let status = watching.stop("INT")?;
        let said = watching.said()?;
        ensure!(status.success(), "tracer ended with {status}: {said}");
        let overflows = [before, lab.server.counter("ListenOverflows")?];
        // It prints what it has before it ends.
        let arrived = rotel.stop()?;
        say::note(&format!(
            "{} log records and {} series of numbers arrived",
            arrived.logs.len(),
            arrived.points.len()
        ));
        Ok(Self {
            records: watching.records()?,
            said,
            arrived,
            pages: ["otlp", "metrics"]
                .map(|page| fs::read_to_string(bench.place.root.join(format!("docs/{page}.md"))))
                .into_iter()
                .collect::<Result<_, _>>()?,
            unlucky,
            server: lab.server.netns,
            overflows,
        })
    }

    fn of_type<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Value> {
        let records = self.records.iter();
        records.filter(move |record| record["type"] == what)
    }

    fn logs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Log> {
        let logs = self.arrived.logs.iter();
        logs.filter(move |log| log.event_name == name)
    }

    /// The last totals.
    fn totals(&self) -> Result<&Value> {
        let last = self.of_type("totals").last().context("no totals")?;
        ensure!(last["final"] == true, "{last}");
        Ok(last)
    }

    /// The last numbers of a metric, by their labels.
    fn metric<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a Attributes, &'a rotel::Point)> {
        let points = self.arrived.points.iter();
        let points = points.filter(move |((of, _), _)| of == name);
        points.map(|((_, labels), point)| (labels, point))
    }

    /// The number of a metric, all series together; there must be one.
    fn sum(&self, name: &str) -> Result<f64> {
        let values: Vec<f64> = self.metric(name).map(|(_, point)| point.value).collect();
        ensure!(!values.is_empty(), "no {name} arrived");
        Ok(values.iter().sum())
    }
}

/// What can be known of a failure on both sides: time of day in microseconds, kind,
/// cause, who and where.
fn of_record(event: &Value) -> Result<String> {
    let time = event["time"].as_str().context("no time")?;
    let clock = time.split_once('T').map(|(_, clock)| clock);
    let clock = clock.and_then(|clock| clock.strip_suffix('Z'));
    let mut micros = 0.0_f64;
    for part in clock.context("no time of day")?.split(':') {
        micros = micros * 60.0 + part.parse::<f64>()?;
    }
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let process = &event["process"];
    let fields = [
        &event["kind"],
        &event["cause"],
        &event["errno"],
        &process["pid"],
        &process["comm"],
        &process["role"],
        &event["netns"],
        &event["local"],
        &event["remote"],
        &event["socket"]["inode"],
    ];
    let fields = fields.map(text).join("|");
    Ok(format!("{:.0}|{fields}", micros * 1e6))
}

fn of_log(log: &Log) -> Result<String> {
    let get = |name: &str| log.attributes.get(name).cloned().unwrap_or_default();
    let address = |side: &str| -> Result<String> {
        let (ip, port) = (
            get(&format!("network.{side}.address")),
            get(&format!("network.{side}.port")),
        );
        if ip.is_empty() {
            return Ok(String::new());
        }
        Ok(SocketAddr::new(ip.parse()?, port.parse()?).to_string())
    };
    let fields = [
        get("tracer.kind"),
        get("tracer.cause"),
        get("error.type"),
        get("process.pid"),
        get("process.title"),
        get("tracer.process.role"),
        get("tracer.netns"),
        address("local")?,
        address("peer")?,
        get("tracer.socket.inode"),
    ];
    let day = 24 * 60 * 60 * 1_000_000;
    Ok(format!("{}|{}", log.time / 1_000 % day, fields.join("|")))
}

/// Every failure arrived once, as it was.
fn failures(study: &Study) -> Result<()> {
    ensure!(!study.said.contains("OTLP"), "{}", study.said);
    let mut told = Vec::new();
    for event in study.of_type("event") {
        told.push(of_record(event)?);
    }
    let mut arrived = Vec::new();
    for log in &study.arrived.logs {
        if log.attributes.contains_key("tracer.hook") {
            let kind = log.attributes.get("tracer.kind").cloned();
            ensure!(
                kind.is_some_and(|kind| log.event_name == format!("tracer.{kind}")),
                "{log:?}"
            );
            let severity = match log.attributes.contains_key("error.type") {
                true => "ERROR",
                false => "WARN",
            };
            ensure!(log.severity == severity, "{log:?}");
            arrived.push(of_log(log)?);
        }
    }
    told.sort();
    arrived.sort();
    for kind in ["connect_failed", "syn_dropped", "ack_dropped"] {
        ensure!(
            told.iter().any(|one| one.contains(kind)),
            "no {kind} was seen"
        );
    }
    let missing: Vec<_> = told.iter().filter(|one| !arrived.contains(one)).collect();
    let more: Vec<_> = arrived.iter().filter(|one| !told.contains(one)).collect();
    ensure!(
        told == arrived,
        "{} failures, {} arrived; only here: {missing:?}; only there: {more:?}",
        told.len(),
        arrived.len()
    );
    Ok(())
}

/// As often as it failed itself, under its own name, which does nothing to who reads.
fn hostile(study: &Study) -> Result<()> {
    let (pid, failed) = study.unlucky;
    ensure!(failed == TIMES, "it failed {failed} times");
    let pid = pid.to_string();
    let logs = study.logs("tracer.connect_failed");
    let logs: Vec<_> = logs
        .filter(|log| log.attributes.get("process.pid") == Some(&pid))
        .collect();
    ensure!(logs.len() as u64 == failed, "{} arrived", logs.len());
    for log in logs {
        let title = log.attributes.get("process.title");
        ensure!(title.is_some_and(|title| title == NAME), "{log:?}");
        ensure!(log.body.starts_with(&format!("{SHOWN}[{pid}] ")), "{log:?}");
        let peer = [
            ("network.peer.address", "10.82.0.2"),
            ("network.peer.port", "9"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("error.type", "EADDRNOTAVAIL"),
            ("tracer.cause", "ports_exhausted"),
        ];
        for (name, value) in peer {
            ensure!(
                log.attributes.get(name).is_some_and(|told| told == value),
                "{name}: {log:?}"
            );
        }
    }
    let is_harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    for log in &study.arrived.logs {
        ensure!(!log.body.contains(is_harmful), "{log:?}");
    }
    Ok(())
}

/// Censuses and queues, with their advice; and nothing else arrived, nothing twice.
fn findings(study: &Study) -> Result<()> {
    for (kind, word) in [("census", "hoarder"), ("queue", "stuck")] {
        let name = format!("tracer.{kind}");
        let (told, arrived) = (study.of_type(kind).count(), study.logs(&name).count());
        ensure!(told > 0 && told == arrived, "{told} {kind}, {arrived} logs");
        ensure!(
            study.logs(&name).any(|log| {
                log.body.contains(word) && log.attributes.contains_key("tracer.advice")
            }),
            "no {kind} says {word}"
        );
    }
    let (told, arrived) = (sent(&study.records), study.arrived.logs.len());
    ensure!(told == arrived, "{told} records, {arrived} log records");
    let names = distinct(&[&study.arrived]);
    ensure!(names.len() == arrived, "{} names", names.len());
    Ok(())
}

/// The names of all log records that arrived.
fn distinct<'a>(arrived: &[&'a Arrived]) -> BTreeSet<&'a String> {
    let logs = arrived.iter().flat_map(|arrived| &arrived.logs);
    logs.filter_map(|log| log.attributes.get("log.record.uid"))
        .collect()
}

/// The last numbers are those of the last totals.
fn totals(study: &Study) -> Result<()> {
    let totals = study.totals()?;
    let mut counted: BTreeMap<(String, String), f64> = BTreeMap::new();
    for count in totals["counts"].as_array().context("no counts")? {
        let name = |name: &str| count[name].as_str().map(str::to_owned);
        let key = name("kind").zip(name("cause")).context("no names")?;
        *counted.entry(key).or_default() += count["count"].as_f64().context("no count")?;
    }
    let mut arrived = BTreeMap::new();
    for (labels, point) in study.metric("tracer.failures") {
        ensure!(
            point.sort == "Sum" && point.is_monotonic && point.is_cumulative && point.start > 0,
            "{point:?}"
        );
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        if point.value > 0.0 {
            arrived.insert((label("kind"), label("cause")), point.value);
        }
    }
    ensure!(
        !counted.is_empty() && counted == arrived,
        "{counted:?} were counted, {arrived:?} arrived"
    );
    for (metric, field) in [
        ("tracer.counted", "counted"),
        ("tracer.lost", "lost"),
        ("tracer.filtered", "filtered"),
        ("tracer.unplaced", "unplaced"),
        ("tracer.described", "described"),
        ("tracer.failures_described", "described"),
    ] {
        let (value, told) = (study.sum(metric)?, totals[field].as_f64());
        ensure!(told == Some(value), "{metric}: {value}, {field}: {told:?}");
    }
    for gauge in ["tracer.kernel_difference", "tracer.start_time", "tracer.up"] {
        let mut points = study.metric(gauge);
        ensure!(
            points
                .next()
                .is_some_and(|(_, point)| point.sort == "Gauge"),
            "{gauge}"
        );
    }
    ensure!(study.sum("tracer.otlp_logs")? > 0.0, "no tracer.otlp_logs");
    Ok(())
}

/// As many drops as the kernel counted.
fn kernel(study: &Study) -> Result<()> {
    let netns = study.server.to_string();
    let drops = study.metric("tracer.listener_drops");
    let drops: f64 = drops
        .filter(|(labels, _)| labels.get("netns") == Some(&netns))
        .map(|(_, point)| point.value)
        .sum();
    let [before, after] = study.overflows;
    ensure!(
        before > 0 && (before as f64..=after as f64).contains(&drops),
        "{drops} drops, and the kernel counted {before} to {after}"
    );
    let rows = study.totals()?["kernel"].as_array().context("no rows")?;
    for (counter, field) in [
        ("ListenOverflows", "listen_overflows"),
        ("ListenDrops", "listen_drops"),
        ("TCPReqQFullDrop", "tcp_req_qfull_drop"),
    ] {
        let comparable = rows.iter().filter(|row| row["unavailable"].is_null());
        let told: f64 = comparable
            .filter_map(|row| row[field]["difference"].as_f64())
            .sum();
        let mut points = study.metric("tracer.kernel_difference");
        let arrived = points.find(|(labels, _)| labels.values().any(|label| label == counter));
        let arrived = arrived.map(|(_, point)| point.value);
        ensure!(
            arrived == Some(told),
            "{counter}: a difference of {told}, {arrived:?} arrived"
        );
    }
    Ok(())
}

/// Who sent it, and what the environment adds.
fn resource(study: &Study) -> Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let told = &study.arrived.resource;
    for (name, value) in [
        ("service.name", "tracer"),
        ("host.name", host.trim()),
        ("os.type", "linux"),
        ("deployment.environment.name", "test"),
    ] {
        ensure!(
            told.get(name).is_some_and(|told| told == value),
            "{name}: {told:?}"
        );
    }
    let has = |name: &str| told.get(name).is_some_and(|value| !value.is_empty());
    ensure!(
        has("service.version") && has("service.instance.id"),
        "{told:?}"
    );
    Ok(())
}

/// Nothing arrived that the pages do not know: `tracer.` before the name of a field or
/// a metric goes without saying.
fn documented(study: &Study) -> Result<()> {
    let logs = study.arrived.logs.iter();
    let mut names: BTreeSet<String> = logs
        .flat_map(|log| log.attributes.keys().cloned())
        .collect();
    names.retain(|name| !name.starts_with("tracer."));
    names.extend(study.arrived.logs.iter().map(|log| log.event_name.clone()));
    names.extend(study.arrived.resource.keys().cloned());
    // The environment's.
    names.remove("deployment.environment.name");
    for name in names {
        let quoted = format!("`{name}`");
        ensure!(study.pages.contains(&quoted), "{name} is not documented");
    }
    for (name, _) in study.arrived.points.keys() {
        let scraped = name.replacen("tracer.", "tracer_", 1);
        ensure!(
            study.pages.contains(&scraped) || study.pages.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
    Ok(())
}

/// How many log records tracer says are missing at its end.
fn missing(said: &str) -> Result<usize> {
    let Some((before, _)) = said.split_once(" log records did not arrive") else {
        return Ok(0);
    };
    // `N of M`
    let mut words = before.rsplit(' ');
    let number = words.nth(2).context("no number")?;
    Ok(number.parse()?)
}

/// While rotel is gone records wait, and what did not arrive in the end is told.
fn restart(bench: &Bench) -> Result<()> {
    let address = free_address()?;
    let first = bench.rotel("first", address)?;
    let mut watching = bench.watch("restart", address)?;
    let lab = bench.lab()?;
    unlucky(&lab, 400, "0.01")?;
    until_at_most(PATIENCE, "first failures", || {
        Ok(!first.arrived()?.logs.is_empty())
    })?;
    let first = first.stop()?;
    std::thread::sleep(Duration::from_millis(2500));
    let second = bench.rotel("second", address)?;
    failed(&lab)?;
    watching.stop("INT")?;
    let (records, said) = (watching.records()?, watching.said()?);
    let second = second.stop()?;
    let sent = sent(&records);
    let arrived = distinct(&[&first, &second]).len();
    let missing = missing(&said)?;
    say::note(&format!(
        "of {sent} log records {} and {} arrived, and {missing} are said to be missing",
        first.logs.len(),
        second.logs.len()
    ));
    ensure!(
        sent > 400 && arrived + missing == sent && !second.logs.is_empty(),
        "{sent} records: {arrived} arrived, {missing} said to be missing; {said}"
    );
    for words in ["no logs to http://", "tracer: OTLP: logs to http://"] {
        let count = said.matches(words).count();
        ensure!(count == 1, "`{words}` is said {count} times: {said}");
    }
    // Numbers are those since the beginning, whoever was there.
    let totals = records.iter().rfind(|record| record["type"] == "totals");
    let counted = totals.and_then(|totals| totals["counted"].as_f64());
    let points = second.points.iter();
    let last = points
        .filter(|((name, _), _)| name == "tracer.counted")
        .map(|(_, point)| point.value)
        .next_back();
    ensure!(
        counted.is_some() && counted == last,
        "{counted:?} counted, {last:?} arrived"
    );
    Ok(())
}

/// Nobody listens there: tracer goes on, ends in time, and says what is missing.
fn nobody(bench: &Bench) -> Result<()> {
    in_vain(bench, "nobody", free_address()?)
}

/// Somebody listens and never answers.
fn silence(bench: &Bench) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    in_vain(bench, "silence", listener.local_addr()?)
}

fn in_vain(bench: &Bench, name: &str, receiver: SocketAddr) -> Result<()> {
    let mut watching = bench.watch(name, receiver)?;
    let lab = bench.lab()?;
    unlucky(&lab, TIMES, "0.01")?;
    failed(&lab)?;
    let events = |records: Vec<Value>| {
        let events = records.iter().filter(|record| record["type"] == "event");
        events.count() as u64
    };
    until_at_most(PATIENCE, "all failures", || {
        Ok(events(watching.records()?) >= TIMES)
    })?;
    let begun = Instant::now();
    let status = watching.stop("INT")?;
    let (records, said) = (watching.records()?, watching.said()?);
    ensure!(
        status.success() && begun.elapsed() < ENDING,
        "tracer ended with {status} after {:?}: {said}",
        begun.elapsed()
    );
    let (sent, missing) = (sent(&records), missing(&said)?);
    ensure!(
        sent > 0 && sent == missing,
        "{sent} records, {missing} said to be missing: {said}"
    );
    Ok(())
}
