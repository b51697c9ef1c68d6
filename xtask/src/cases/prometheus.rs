//! `xtask prometheus`: does Prometheus see what tracer counted?
//!
//! A real Prometheus scrapes `tracer watch --metrics` while cases are staged. What
//! it then says is compared with tracer's records and with the kernel's counters;
//! promtool judges the text of a scrape and the rules of `deploy/`; every query of
//! the dashboard must find something; the DaemonSet's command line must work with
//! the DaemonSet's privileges.

use super::beside::Program;
use super::lab::{Lab, until};
use super::{Telling, as_root, bound_and_unused, listen_without_accept, packages};
use crate::live::Run;
use crate::place::{self, Place};
use crate::run;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "prometheus-inside";

/// Until tracer looks at listeners again, and a scrape and a half.
const LOOKED_AGAIN: Duration = Duration::from_secs(15);

/// An answer of tracer's may be a second old, and totals are written each second.
const SLACK: f64 = 2.5;

/// Clients wait longer and longer before they send again.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// Looks, and judges what it sees.
type Question = fn(&Study) -> Result<()>;

/// What is asked, by the name of the test.
const QUESTIONS: [(&str, Question); 8] = [
    ("totals", totals),
    ("described", described),
    ("kernel", kernel),
    ("queue", queue),
    ("text", text),
    ("rules", rules),
    ("dashboard", dashboard),
    ("daemonset", daemonset),
];

/// Stages, scrapes and asks, as root.
pub(crate) fn run(place: &Place, tracer: &Path) -> Result<Run> {
    let words = [OsStr::new(INSIDE), tracer.as_os_str()];
    as_root(place, "prometheus", &words)
}

/// The part that runs as root: a line for each question, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [tracer] = words else {
        bail!("{INSIDE} needs the path of tracer");
    };
    packages::install()?;
    packages::install_prometheus()?;
    super::lab::remove_stale(place);
    let directory = place.cache.join("prometheus");
    place::renew(&directory)?;
    let mut telling = Telling::default();
    let start = Instant::now();
    match Study::new(place, Path::new(tracer), &directory) {
        Err(error) => telling.tell("prometheus/scrape", start, Err(error)),
        Ok(study) => {
            for (name, ask) in QUESTIONS {
                telling.tell(&format!("prometheus/{name}"), Instant::now(), ask(&study));
            }
        }
    }
    fs::remove_dir_all(&directory)?;
    Ok(telling.sum_up())
}

/// A tracer and a Prometheus that have both seen the same, and still run.
struct Study {
    tracer: PathBuf,
    deploy: PathBuf,
    watching: Program,
    /// Where tracer serves its metrics.
    metrics: String,
    _prometheus: Program,
    /// Where Prometheus answers.
    api: String,
    /// Of the case that is still there.
    lab: Lab,
}

impl Study {
    fn new(place: &Place, tracer: &Path, directory: &Path) -> Result<Self> {
        let watch = "watch --format json --interval 1s --metrics 127.0.0.1:0";
        let words: Vec<&str> = watch.split(' ').collect();
        let watching = Program::start(tracer, &words, directory.join("tracer.out"))?;
        let address = || -> Result<Option<String>> {
            let said = watching.said()?;
            let rest = said.split_once("http://").map(|(_, rest)| rest);
            let address = rest.and_then(|rest| rest.split_once("/metrics\n"));
            Ok(address.map(|(address, _)| address.to_owned()))
        };
        until("the address of the metrics", || Ok(address()?.is_some()))
            .with_context(|| watching.said().unwrap_or_default())?;
        let address = address()?.context("no address")?;
        let deploy = place.root.join("deploy");
        let (prometheus, api) = prometheus(directory, &deploy, &address)?;
        // What rises between two scrapes has a rate.
        until("a first scrape", || {
            Ok(!query(&api, "tracer_up == 1")?.is_empty())
        })?;
        let case = bound_and_unused::CASE;
        let lab = Lab::new(place, tracer, case.wire)?;
        let _judge = (case.stage)(&lab).context(case.name)?;
        drop(lab);
        let case = listen_without_accept::CASE;
        let lab = Lab::new(place, tracer, case.wire)?;
        let _judge = (case.stage)(&lab).context(case.name)?;
        std::thread::sleep(LOOKED_AGAIN);
        Ok(Self {
            tracer: tracer.to_owned(),
            deploy,
            watching,
            metrics: format!("http://{address}/metrics"),
            _prometheus: prometheus,
            api,
            lab,
        })
    }

    fn query(&self, what: &str) -> Result<Vec<Value>> {
        query(&self.api, what)
    }

    /// The value of the only sample there is.
    fn value(&self, what: &str) -> Result<f64> {
        let found = self.query(what)?;
        let [one] = &*found else {
            bail!("{what}: {found:?}");
        };
        number(&one["value"][1])
    }
}

/// A Prometheus of its own, on loopback, that scrapes each second and knows the
/// shipped rules; and where it answers.
fn prometheus(directory: &Path, deploy: &Path, tracer: &str) -> Result<(Program, String)> {
    // JSON is YAML.
    let settings = json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [deploy.join("prometheus-rules.yml")],
        "scrape_configs": [
            { "job_name": "tracer", "static_configs": [{ "targets": [tracer] }] },
        ],
    });
    let file = directory.join("prometheus.yml");
    fs::write(&file, settings.to_string())?;
    // Free a moment ago: Prometheus cannot be asked which one it found.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let words = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", directory.join("data").display()),
        format!("--web.listen-address={address}"),
    ];
    let words = words.each_ref().map(String::as_str);
    let program = Program::start(
        Path::new("/usr/bin/prometheus"),
        &words,
        directory.join("prometheus.out"),
    )?;
    let api = format!("http://{address}");
    let ready = || {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-o", "/dev/null", &format!("{api}/-/ready")]);
        Ok(run::output(&mut curl)?.status.success())
    };
    until("Prometheus", ready).with_context(|| program.said().unwrap_or_default())?;
    Ok((program, api))
}

fn ask(address: &str, words: &[&str]) -> Result<Value> {
    let text = run::capture(Command::new("curl").args(["-sfG", address]).args(words))?;
    Ok(serde_json::from_str(&text)?)
}

/// The samples that a query finds.
fn query(api: &str, what: &str) -> Result<Vec<Value>> {
    let address = format!("{api}/api/v1/query");
    let mut answer = ask(&address, &["--data-urlencode", &format!("query={what}")])?;
    match answer["data"]["result"].take() {
        Value::Array(found) => Ok(found),
        _ => bail!("{what}: {answer}"),
    }
}

fn number(value: &Value) -> Result<f64> {
    let text = value.as_str().context("not a number")?;
    Ok(text.parse()?)
}

/// Seconds since the Unix epoch of a record's time.
fn moment(record: &Value) -> Result<f64> {
    let time = record["time"].as_str().context("no time")?;
    let text = run::capture(Command::new("date").args(["+%s.%N", "-d", time]))?;
    Ok(text.trim().parse()?)
}

/// Of each kind and cause as many as tracer's totals said right before and right
/// after: others on this machine may fail meanwhile.
fn totals(study: &Study) -> Result<()> {
    let what = "tracer_failures_total";
    let samples = study.query(what)?;
    let at = study.value("timestamp(tracer_up)")?;
    std::thread::sleep(Duration::from_secs_f64(2.0 * SLACK));
    let records = study.watching.records()?;
    let mut around: [Option<&Value>; 2] = [None, None];
    let recent = records.iter().filter(|record| record["type"] == "totals");
    for record in recent.rev().take(30) {
        let time = moment(record)?;
        if time >= at + SLACK {
            around[1] = Some(record);
        } else if time <= at - SLACK && around[0].is_none() {
            around[0] = Some(record);
        }
    }
    let [Some(before), Some(after)] = around else {
        bail!("no totals around {at}");
    };
    let mut sum = 0.0;
    for sample in &samples {
        let labels = &sample["metric"];
        let value = number(&sample["value"][1])?;
        let [least, most] = [before, after].map(|record| counted(record, labels));
        ensure!(
            (least..=most).contains(&value),
            "{labels}: {value}, and tracer counted {least} to {most}"
        );
        sum += value;
    }
    ensure!(sum > 0.0, "nothing failed: {samples:?}");
    // And nothing is missing.
    let described = study.value("sum(tracer_failures_described_total)")?;
    let all = study.value("tracer_counted_total")?;
    let lost = study.value("tracer_lost_total")?;
    ensure!(
        lost == 0.0 && described <= all,
        "{described} of {all}, {lost} lost"
    );
    Ok(())
}

/// The sum of all namespaces.
fn counted(totals: &Value, labels: &Value) -> f64 {
    let counts = totals["counts"].as_array().into_iter().flatten();
    counts
        .filter(|count| count["kind"] == labels["kind"] && count["cause"] == labels["cause"])
        .filter_map(|count| count["count"].as_f64())
        .sum()
}

/// Tries until it is well: clients send again what was dropped, now and then, and
/// a scrape is a moment old.
fn in_a_quiet_moment(judge: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + QUIET_WITHIN;
    while let Err(error) = judge() {
        if Instant::now() > deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Programs that nobody else on this machine runs failed as often as records say.
fn described(study: &Study) -> Result<()> {
    in_a_quiet_moment(|| {
        let records = study.watching.records()?;
        for (comm, kind) in [
            ("tnftp", "connect_failed"),
            ("stuck", "syn_dropped"),
            ("stuck", "ack_dropped"),
        ] {
            let told = records
                .iter()
                .filter(|record| record["type"] == "event" && record["kind"] == kind)
                .filter(|record| record["process"]["comm"] == comm)
                .count();
            let what = format!(
                "sum(tracer_failures_described_total{{process=\"{comm}\",kind=\"{kind}\"}})"
            );
            let value = study.value(&what)?;
            ensure!(
                told > 0 && value == told as f64,
                "{what}: {value}, not {told}"
            );
        }
        Ok(())
    })
}

/// As many drops as the kernel counted.
fn kernel(study: &Study) -> Result<()> {
    let server = &study.lab.server;
    let what = format!(
        "sum(tracer_listener_drops_total{{netns=\"{}\"}})",
        server.netns
    );
    in_a_quiet_moment(|| {
        let value = study.value(&what)?;
        let counted = server.counter("ListenOverflows")?;
        ensure!(
            counted > 0 && value == counted as f64,
            "{value} drops, and the kernel counted {counted}"
        );
        Ok(())
    })
}

/// The full queue is seen, whose it is, and its alert.
fn queue(study: &Study) -> Result<()> {
    let of = format!("{{netns=\"{}\",process=\"stuck\"}}", study.lab.server.netns);
    let length = study.value(&format!("tracer_listener_accept_queue_length{of}"))?;
    let limit = study.value(&format!("tracer_listener_accept_queue_limit{of}"))?;
    ensure!((length, limit) == (3.0, 2.0), "{length}/{limit}");
    let alerts = study.query("ALERTS{alertname=~\"AcceptQueueOverflow|PortsExhausted\"}")?;
    let names: Vec<_> = alerts
        .iter()
        .map(|alert| &alert["metric"]["alertname"])
        .collect();
    for wanted in ["AcceptQueueOverflow", "PortsExhausted"] {
        ensure!(names.iter().any(|name| *name == wanted), "{alerts:?}");
    }
    Ok(())
}

/// promtool has nothing to say about the text of a scrape.
fn text(study: &Study) -> Result<()> {
    let file = study.watching.output().with_extension("metrics");
    run::capture(
        Command::new("curl")
            .args(["-sf", "-o"])
            .arg(&file)
            .arg(&study.metrics),
    )?;
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(&file)?)
        .stdout(Stdio::piped())
        .output()?;
    let said = [&*checked.stdout, &checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(checked.status.success() && said.trim().is_empty(), "{said}");
    Ok(())
}

/// The rules are right, do what they shall, and run in Prometheus.
fn rules(study: &Study) -> Result<()> {
    for (verb, file) in [
        ("check", "prometheus-rules.yml"),
        ("test", "prometheus-rules-test.yml"),
    ] {
        let file = study.deploy.join(file);
        run::capture(Command::new("promtool").args([verb, "rules"]).arg(file))?;
    }
    let groups = ask(&format!("{}/api/v1/rules", study.api), &[])?;
    let rules = groups["data"]["groups"][0]["rules"].as_array();
    let rules = rules.context("Prometheus has no rules")?;
    for rule in rules {
        ensure!(rule["health"] == "ok", "{rule}");
    }
    Ok(())
}

/// Every query of every panel finds something.
fn dashboard(study: &Study) -> Result<()> {
    let text = fs::read_to_string(study.deploy.join("grafana-dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut asked = 0;
    for target in targets {
        let what = target["expr"].as_str().context("no query")?;
        let what = what
            .replace("$__rate_interval", "2m")
            .replace("$instance", ".*");
        ensure!(!what.contains('$'), "{what} has another variable");
        ensure!(!study.query(&what)?.is_empty(), "{what} finds nothing");
        asked += 1;
    }
    ensure!(asked >= panels.len(), "{asked} queries");
    Ok(())
}

const READ_YAML: &str =
    "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";

/// What the DaemonSet starts, with its capabilities and in namespaces of its own
/// as in a pod, works, and misses no privilege.
fn daemonset(study: &Study) -> Result<()> {
    let file = study.deploy.join("kubernetes-daemonset.yaml");
    let text = run::capture(
        Command::new("/usr/bin/python3")
            .args(["-c", READ_YAML])
            .arg(file),
    )?;
    let set: Value = serde_json::from_str(&text)?;
    let pod = &set["spec"]["template"]["spec"];
    ensure!(
        pod["hostPID"] == true && pod["hostNetwork"].is_null(),
        "{pod}"
    );
    let container = &pod["containers"][0];
    let words = |list: &Value| -> Vec<String> {
        let words = list.as_array().into_iter().flatten();
        words
            .filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect()
    };
    let capabilities = &container["securityContext"]["capabilities"];
    ensure!(capabilities["drop"] == json!(["ALL"]), "{capabilities}");
    let mut bounding = "-all".to_owned();
    for name in words(&capabilities["add"]) {
        bounding.push_str(&format!(",+{}", name.to_lowercase()));
    }
    let output = run::output(
        Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--cgroup",
                "setpriv",
                "--bounding-set",
                &bounding,
            ])
            .arg(&study.tracer)
            .args(words(&container["args"]))
            .args(["--duration", "1s"]),
    )?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !said.contains("CAP_"), "{said}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let startup: Value = serde_json::from_str(stdout.lines().next().context("no record")?)?;
    let lacks: Vec<_> = words(&startup["degradations"])
        .into_iter()
        .filter(|sentence| sentence.contains("CAP_") || sentence.contains("not mounted"))
        .collect();
    ensure!(lacks.is_empty(), "{lacks:?}");
    let port = container["ports"][0]["containerPort"].to_string();
    ensure!(said.contains(&format!(":{port}/metrics")), "{said}");
    Ok(())
}
