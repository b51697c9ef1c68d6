//! `xtask duckdb`: does another tool find in an export, and in a capture itself,
//! what was recorded?
//!
//! `tracer record` watches some of the cases. What DuckDB then says about the
//! capture, about Parquet and about CSV is compared with the capture's lines as
//! `zstd` and serde_json see them, and with the kernel's counters. DuckDB comes
//! from PyPI, into an environment below `target/`.

use super::lab::{self, Lab, signal, until};
use super::venv::Package;
use super::{
    Case, Telling, as_root, bound_and_unused, listen_without_accept, packages, server_restart,
};
use crate::live::Run;
use crate::place::{self, Place};
use crate::run;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "duckdb-inside";

const DUCKDB: Package = Package {
    name: "duckdb",
    version: "2.0.0",
};

const SCRIPT: &str = include_str!("scripts/answer.py");

const FILES: [(&str, &str); 1] = [("/usr/bin/zstd", "zstd")];

/// What is recorded. The last one's namespaces live until tracer has ended.
const STAGED: [Case; 3] = [
    bound_and_unused::CASE,
    server_restart::CASE,
    listen_without_accept::CASE,
];

/// Old kernels let go of hooks slowly.
const ENDING: Duration = Duration::from_secs(30);

/// A capture as DuckDB reads it.
const CAPTURE: &str = "read_json('capture.zst', format = 'newline_delimited', \
     compression = 'zstd', union_by_name = true)";

const TABLES: [&str; 4] = ["events", "censuses", "queues", "totals"];

/// Asks, and judges the answers.
type Question = fn(&Study) -> Result<()>;

/// What is asked, by the name of the test.
const QUESTIONS: [(&str, Question); 9] = [
    ("events", events),
    ("kernel", kernel),
    ("times", times),
    ("totals", totals),
    ("censuses", censuses),
    ("queues", queues),
    ("types", types),
    ("formats", formats),
    ("fleet", fleet),
];

/// Records, exports and asks, as root.
pub(crate) fn run(place: &Place, tracer: &Path) -> Result<Run> {
    run::need_programs(&FILES)?;
    DUCKDB.install(place)?;
    fs::write(script_of(place), SCRIPT)?;
    as_root(place, "duckdb", &[OsStr::new(INSIDE), tracer.as_os_str()])
}

fn script_of(place: &Place) -> PathBuf {
    place.cache.join("answer.py")
}

/// The part that runs as root: a line for each question, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [tracer] = words else {
        bail!("{INSIDE} needs the path of tracer");
    };
    packages::install()?;
    lab::remove_stale(place);
    let directory = place.cache.join("duckdb");
    place::renew(&directory)?;
    let mut telling = Telling::default();
    let start = Instant::now();
    match Study::new(place, Path::new(tracer), directory.clone()) {
        Err(error) => telling.tell("duckdb/record", start, Err(error)),
        Ok(study) => {
            for (name, ask) in QUESTIONS {
                telling.tell(&format!("duckdb/{name}"), Instant::now(), ask(&study));
            }
        }
    }
    fs::remove_dir_all(&directory)?;
    Ok(telling.sum_up())
}

/// A capture, and what others say is in it.
struct Study {
    /// The capture and its exports.
    directory: PathBuf,
    python: PathBuf,
    script: PathBuf,
    /// `docs/fleet.md`.
    page: PathBuf,
    records: Vec<Value>,
    /// Of the last case's server: its namespace, and `ListenOverflows` before
    /// and after tracer ended.
    server: u64,
    overflows: [u64; 2],
}

impl Study {
    fn new(place: &Place, tracer: &Path, directory: PathBuf) -> Result<Self> {
        let capture = directory.join("capture.zst");
        let mut recording = Recording::start(tracer, &capture)?;
        let [others @ .., last] = STAGED;
        for case in others {
            let lab = Lab::new(place, tracer, case.wire)?;
            let _judge = (case.stage)(&lab).context(case.name)?;
        }
        let lab = Lab::new(place, tracer, last.wire)?;
        let _judge = (last.stage)(&lab).context(last.name)?;
        let before = lab.server.counter("ListenOverflows")?;
        recording.stop()?;
        let overflows = [before, lab.server.counter("ListenOverflows")?];
        export(tracer, &directory)?;
        Ok(Self {
            page: place.root.join("docs/fleet.md"),
            records: records(&capture)?,
            directory,
            python: DUCKDB.home(place).join("bin/python"),
            script: script_of(place),
            server: lab.server.netns,
            overflows,
        })
    }

    fn of_type<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Value> {
        self.records
            .iter()
            .filter(move |record| record["type"] == what)
    }

    /// The rows that DuckDB answers, for each query.
    fn ask(&self, queries: &[String]) -> Result<Vec<Value>> {
        let file = self.directory.join("queries.sql");
        fs::write(&file, queries.join("\n"))?;
        let text = run::capture(
            Command::new(&self.python)
                .arg(&self.script)
                .arg(&file)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .current_dir(&self.directory),
        )?;
        let answers = text.lines().map(serde_json::from_str);
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        ensure!(answers.len() == queries.len(), "{text}");
        Ok(answers)
    }

    /// Every query has this answer.
    fn all_say(&self, queries: &[String], expected: &Value) -> Result<()> {
        for (query, answer) in queries.iter().zip(self.ask(queries)?) {
            ensure!(answer == *expected, "{query}: {answer}, not {expected}");
        }
        Ok(())
    }
}

/// `tracer record` while cases are staged.
struct Recording(Child);

impl Recording {
    fn start(tracer: &Path, capture: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM"])
            .arg(tracer)
            .args(["record", "--interval", "1s", "-w"])
            .arg(capture);
        let recording = Self(run::spawn(&mut command)?);
        // Its first record is written when every hook is in place.
        until("a capture", || {
            Ok(fs::metadata(capture).is_ok_and(|there| there.len() > 0))
        })?;
        Ok(recording)
    }

    fn stop(&mut self) -> Result<()> {
        signal("INT", self.0.id())?;
        let status = run::wait_at_most(&mut self.0, ENDING)?;
        let status = status.context("tracer did not end after SIGINT")?;
        ensure!(status.success(), "tracer ended with {status}");
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Only if something failed before `stop`.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = signal("TERM", self.0.id());
            let _ = run::wait_at_most(&mut self.0, ENDING);
        }
    }
}

/// Every table in both formats.
fn export(tracer: &Path, directory: &Path) -> Result<()> {
    for table in TABLES {
        for format in ["csv", "parquet"] {
            run::capture(
                Command::new(tracer)
                    .args(["export", "capture.zst", "--format", format])
                    .args(["--table", table, "-o", &format!("{table}.{format}")])
                    .current_dir(directory),
            )?;
        }
    }
    Ok(())
}

/// The lines of a capture, without tracer's help.
fn records(capture: &Path) -> Result<Vec<Value>> {
    let output = run::filter("zstd", capture)?;
    ensure!(output.status.success(), "zstd ended with {}", output.status);
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let records = lines.map(serde_json::from_slice);
    Ok(records.collect::<Result<Vec<_>, _>>()?)
}

/// Sums by kind, cause and namespace, as DuckDB sorts them.
fn sums<'a>(
    parts: impl Iterator<Item = &'a Value>,
) -> Result<BTreeMap<(&'a str, &'a str, u64), u64>> {
    let mut sums = BTreeMap::new();
    for part in parts {
        let name = |name: &str| part[name].as_str().context("a name is missing");
        let number = |name: &str| part[name].as_u64().context("a number is missing");
        *sums
            .entry((name("kind")?, name("cause")?, number("netns")?))
            .or_insert(0) += number("count")?;
    }
    Ok(sums)
}

fn rows(sums: BTreeMap<(&str, &str, u64), u64>) -> Value {
    let rows = sums.into_iter();
    rows.map(|((kind, cause, netns), count)| json!([kind, cause, netns, count]))
        .collect()
}

/// As many failures of each kind as there are lines, in every format.
fn events(study: &Study) -> Result<()> {
    let sums = sums(study.of_type("event"))?;
    for wanted in [
        "connect_failed",
        "bind_failed",
        "syn_dropped",
        "ack_dropped",
    ] {
        ensure!(
            sums.keys().any(|(kind, _, _)| *kind == wanted),
            "no {wanted} was recorded"
        );
    }
    let from = |source: &str| {
        format!(
            "SELECT kind, cause, netns::BIGINT, sum(count)::BIGINT FROM {source} \
             GROUP BY ALL ORDER BY ALL"
        )
    };
    let queries = [
        from("'events.parquet'"),
        from("'events.csv'"),
        from(&format!("{CAPTURE} WHERE type = 'event'")),
    ];
    study.all_say(&queries, &rows(sums))
}

/// As many drops as the kernel counted.
fn kernel(study: &Study) -> Result<()> {
    let query = format!(
        "SELECT sum(count)::BIGINT FROM 'events.parquet' \
         WHERE netns = {} AND cause = 'accept_queue_full'",
        study.server
    );
    let answers = study.ask(&[query])?;
    let drops = answers[0][0][0].as_u64().context("no drops")?;
    let [before, after] = study.overflows;
    ensure!(
        before > 0 && (before..=after).contains(&drops),
        "{drops} drops, and the kernel counted {before} to {after}"
    );
    Ok(())
}

/// To the microsecond.
fn times(study: &Study) -> Result<()> {
    let query = |from: &str| {
        format!(
            "SELECT count(*), min(us)::BIGINT, max(us)::BIGINT, sum(us)::VARCHAR FROM (SELECT epoch_us(time::TIMESTAMPTZ) AS us FROM {from})"
        )
    };
    let queries = [
        query("'events.parquet'"),
        query("'events.csv'"),
        query(&format!("{CAPTURE} WHERE type = 'event'")),
    ];
    let answers = study.ask(&queries)?;
    ensure!(
        answers[0][0][0] == study.of_type("event").count(),
        "{answers:?}"
    );
    study.all_say(&queries, &answers[2])
}

/// What the last totals say, and that no event is missing.
fn totals(study: &Study) -> Result<()> {
    let last = study.of_type("totals").last().context("no totals")?;
    ensure!(last["final"] == true && last["lost"] == 0, "{last}");
    let counts = last["counts"].as_array().context("no counts")?;
    let expected = rows(sums(counts.iter())?);
    let query = |what: &str, from: &str| {
        format!(
            "SELECT kind, cause, netns::BIGINT, {what}::BIGINT FROM {from} WHERE final ORDER BY ALL"
        )
    };
    let mut queries = Vec::new();
    for from in ["'totals.parquet'", "'totals.csv'"] {
        queries.extend(["counted", "events", "events + missing"].map(|what| query(what, from)));
    }
    study.all_say(&queries, &expected)?;
    let queries = ["'totals.parquet'", "'totals.csv'"].map(|from| {
        format!("SELECT DISTINCT all_counted::BIGINT, all_described::BIGINT, all_lost::BIGINT FROM {from} WHERE final")
    });
    study.all_say(
        &queries,
        &json!([[last["counted"], last["described"], last["lost"]]]),
    )?;
    // Every totals record is there, those without counts too.
    let query = "SELECT count(DISTINCT time) FROM 'totals.parquet'".to_owned();
    study.all_say(&[query], &json!([[study.of_type("totals").count()]]))
}

/// A row for each holder, and all ports are accounted for.
fn censuses(study: &Study) -> Result<()> {
    let mut holders = Vec::new();
    for census in study.of_type("census") {
        let parts = census["parts"].as_array().into_iter().flatten();
        for part in parts {
            for holder in part["holders"].as_array().into_iter().flatten() {
                let pid = holder["processes"][0]["pid"].as_u64();
                let row = json!([
                    census["id"],
                    part["state"],
                    holder["owner"],
                    holder["comm"],
                    holder["ports"],
                    pid,
                ]);
                holders.push(row);
            }
        }
    }
    ensure!(!holders.is_empty(), "no census was recorded");
    holders.sort_by_key(ToString::to_string);
    let queries = ["'censuses.parquet'", "'censuses.csv'"].map(|from| {
        format!("SELECT census::BIGINT, state, owner, comm, ports::BIGINT, pid::BIGINT FROM {from} WHERE owner IS NOT NULL")
    });
    for mut answer in study.ask(&queries)? {
        let rows = answer.as_array_mut().context("no rows")?;
        rows.sort_by_key(|row| row.to_string());
        ensure!(*rows == holders, "{rows:?}, not {holders:?}");
    }
    let open = "SELECT census FROM 'censuses.parquet' WHERE unavailable IS NULL GROUP BY ALL \
         HAVING coalesce(sum(ports), 0) + any_value(free) + any_value(unexplained) <> any_value(range_usable)";
    study.all_say(&[open.to_owned()], &json!([]))
}

/// The last account of each queue, and every drop finds its queue.
fn queues(study: &Study) -> Result<()> {
    let mut last = BTreeMap::new();
    for queue in study.of_type("queue") {
        let id = queue["id"].as_u64().context("no id")?;
        let drops = &queue["drops"];
        let row = json!([
            id,
            drops["syn_dropped"],
            drops["ack_dropped"],
            queue["connections"]
        ]);
        last.insert(id, row);
    }
    ensure!(!last.is_empty(), "no queue was recorded");
    let queries = ["'queues.parquet'", "'queues.csv'"].map(|from| {
        format!("SELECT queue::BIGINT, syn_dropped::BIGINT, ack_dropped::BIGINT, connections::BIGINT FROM {from} QUALIFY row_number() OVER (PARTITION BY host, boot_id, run, queue ORDER BY time DESC) = 1 ORDER BY ALL")
    });
    study.all_say(&queries, &last.into_values().collect())?;
    let orphans = "SELECT count(*) FROM 'events.parquet' AS e ANTI JOIN 'queues.parquet' AS q \
         USING (host, boot_id, run, queue) WHERE e.queue IS NOT NULL";
    study.all_say(&[orphans.to_owned()], &json!([[0]]))
}

/// Columns have types.
fn types(study: &Study) -> Result<()> {
    let query = "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM 'events.parquet') \
         WHERE column_name IN ('time', 'comm', 'count', 'netns', 'local_port', 'accept_queue_asked', 'kernel')";
    let expected = json!([
        ["time", "TIMESTAMP WITH TIME ZONE"],
        ["netns", "UINTEGER"],
        ["count", "UBIGINT"],
        ["local_port", "USMALLINT"],
        ["comm", "VARCHAR"],
        ["kernel", "BOOLEAN"],
        ["accept_queue_asked", "INTEGER"],
    ]);
    study.all_say(&[query.to_owned()], &expected)
}

/// CSV and Parquet hold the same, cell by cell: each cell of CSV can be read as
/// what the Parquet file says it is.
fn formats(study: &Study) -> Result<()> {
    for table in TABLES {
        let parquet = format!("'{table}.parquet'");
        // In CSV null and an empty text look the same.
        let of = |from: &str| format!("SELECT nullif(COLUMNS(*)::VARCHAR, '') FROM {from}");
        let differ = |one: &str, other: &str| {
            let (one, other) = (of(one), of(other));
            format!("SELECT count(*) FROM ({one} EXCEPT ALL {other})")
        };
        let queries = [
            format!("CREATE TABLE read AS FROM {parquet} LIMIT 0"),
            format!("INSERT INTO read FROM read_csv('{table}.csv', all_varchar = true)"),
            differ("read", &parquet),
            differ(&parquet, "read"),
        ];
        let answers = study.ask(&queries)?;
        ensure!(
            answers[2..].iter().all(|answer| *answer == json!([[0]])),
            "{table}: {answers:?}"
        );
    }
    Ok(())
}

/// Every query of docs/fleet.md that is DuckDB's finds something.
fn fleet(study: &Study) -> Result<()> {
    for table in TABLES {
        let home = study.directory.join("fleet").join(table);
        fs::create_dir_all(home.join("host=one"))?;
        let file = format!("{table}.parquet");
        fs::copy(
            study.directory.join(&file),
            home.join("host=one").join("1.parquet"),
        )?;
    }
    let page = fs::read_to_string(&study.page)?;
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    // Without comments: on one line they would not end.
    let lines = blocks.flat_map(str::lines);
    let text: Vec<&str> = lines.filter(|line| !line.starts_with("--")).collect();
    let queries: Vec<String> = text
        .join(" ")
        .split(';')
        .filter(|query| query.contains("'fleet/"))
        .map(|query| format!("SELECT count(*) FROM ({query})"))
        .collect();
    ensure!(queries.len() >= 3, "docs/fleet.md has {queries:?}");
    for (query, answer) in queries.iter().zip(study.ask(&queries)?) {
        ensure!(answer != json!([[0]]), "{query} finds nothing");
    }
    Ok(())
}
