//! Writing, counting and seeking: a capture beside what people would do without.

use super::machine;
use super::measure::{self, Cost, cost};
use super::table::Table;
use crate::place::Place;
use crate::{run, say, toolchain};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const PROGRAMS: [(&str, &str); 7] = [
    (measure::PROGRAM, "time"),
    ("/usr/bin/gzip", "gzip"),
    ("/usr/bin/jq", "jq"),
    ("/usr/bin/sqlite3", "sqlite3"),
    ("/usr/bin/taskset", "util-linux"),
    ("/usr/bin/zstd", "zstd"),
    ("/usr/bin/grep", "grep"),
];

/// Events in a second: what tracer shall write on one core, much less, and what two
/// cores write where only the file matters.
const RATE: u64 = 500_000;
const SLOW: u64 = 20_000;
const FAST: u64 = 1_000_000;

/// The file to seek in is so many times longer than the one to count.
const LONG: u64 = 5;

/// Counts events by program and cause, as the report does.
const JQ: &str = r#"reduce inputs as $event ({};
    .[$event.process.comm + " " + $event.cause] += 1) | add"#;
const SQL: &str = "SELECT sum(n) FROM (SELECT count(*) AS n FROM event GROUP BY comm, cause)";

/// Where it happens, and what is found.
struct Bench {
    directory: PathBuf,
    harness: String,
    tracer: String,
    budgets: Table<3>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Measures everything; a tenth of the events for those that are not tracer.
pub(super) fn measure(place: &Place, events: u64) -> Result<String> {
    run::need_programs(&PROGRAMS)?;
    // Before the build, which is work, too.
    let machine = machine::describe()?;
    let mut bench = Bench::new(place)?;
    let few = events / 10;
    let tables = [
        bench.writing(events, few)?,
        bench.counting(few)?,
        bench.seeking(events * LONG)?,
    ];
    Ok(format!(
        "On {machine}.\n\n{}\n\n{}",
        bench.budgets,
        tables.join("\n\n")
    ))
}

impl Bench {
    fn new(place: &Place) -> Result<Self> {
        // The feature adds to the library, and nothing to the program.
        run::check(
            toolchain::cargo()
                .args(["build", "--release", "--package", "tracer", "--bins"])
                .args(["--features", "bench", "--example", "bench"])
                .current_dir(&place.root),
        )?;
        let path = |name: &str| {
            let path = fs::canonicalize(place.target.join("release").join(name))?;
            let path = path.into_os_string().into_string().ok();
            path.context("the target directory's name is not UTF-8")
        };
        let directory = place.cache.join("bench");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(Self {
            harness: path("examples/bench")?,
            tracer: path("tracer")?,
            directory,
            budgets: Table::new(["", "budget", "measured"]),
        })
    }

    /// Runs a program among the files.
    fn cost(&self, words: &[&str]) -> Result<Cost> {
        say::note(&words.join(" "));
        cost(&self.directory, words)
    }

    /// What the last program printed.
    fn printed(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.join("printed"))?)
    }

    fn size(&self, name: &str) -> Result<f64> {
        Ok(fs::metadata(self.directory.join(name))?.len() as f64)
    }

    fn budget(&mut self, what: &str, budget: &str, measured: String) {
        self.budgets
            .row([what.to_owned(), budget.to_owned(), measured]);
    }

    /// Has the harness write a file; on one core, if that matters.
    fn harness(&self, what: &str, file: &str, events: u64, rate: u64, pin: bool) -> Result<Cost> {
        let (events, rate) = (events.to_string(), rate.to_string());
        let mut words = vec![&*self.harness, what, file, &events, &rate];
        if pin {
            words.splice(0..0, ["taskset", "--cpu-list", "0"]);
        }
        self.cost(&words)
    }

    /// What tracer's report costs, and the failures that it counts.
    fn report(&self, file: &str) -> Result<(Cost, u64)> {
        let cost = self.cost(&[&self.tracer, "report", "--format", "json", file])?;
        let report: Value = serde_json::from_str(&self.printed()?)?;
        let failures = report["captured"]["failures"].as_u64();
        Ok((cost, failures.context("a report without failures")?))
    }

    fn writing(&mut self, events: u64, few: u64) -> Result<String> {
        let many = self.harness("capture", "many.zst", events, RATE, true)?;
        let (_, kept) = self.report("many.zst")?;
        self.budget(
            "written on one core",
            "500,000 events/s",
            format!(
                "{:.0} events/s; the core is busy {:.0} %; {} of {events} left out",
                events as f64 / many.seconds,
                100.0 * many.processor / many.seconds,
                events.saturating_sub(kept),
            ),
        );
        let size = self.size("many.zst")? / kept as f64;
        self.harness("capture", "slow.zst", 100_000, SLOW, false)?;
        let slow = self.size("slow.zst")? / 1e5;
        self.budget(
            "an event on disk",
            "20 bytes",
            format!("{size:.1}; at {SLOW} events/s, where times differ more, {slow:.1}"),
        );
        let some = self.harness("capture", "few.zst", few, RATE, true)?;
        let (_, some_kept) = self.report("few.zst")?;
        self.budget(
            "memory of the writer, at most",
            "flat",
            format!(
                "{:.1} MB after {few} events, {:.1} MB after {events}",
                some.megabytes, many.megabytes
            ),
        );
        let json = self.harness("json", "few.json", few, RATE, true)?;
        let gzip = self.cost(&["gzip", "-1", "--keep", "few.json"])?;
        let zstd = self.cost(&["zstd", "-q", "-1", "few.json"])?;
        self.harness("rows", "few.tsv", few, RATE, false)?;
        let import = ["sqlite3", "few.db", ".mode tabs", ".import few.tsv event"];
        let sqlite = self.cost(&import)?;
        let rows = [
            ("a capture", some, some_kept, "few.zst"),
            ("plain JSON Lines", json, few, "few.json"),
            ("the same, then `gzip -1`", json + gzip, few, "few.json.gz"),
            ("the same, then `zstd -1`", json + zstd, few, "few.json.zst"),
            ("rows, `.import` of sqlite3", sqlite, few, "few.db"),
        ];
        let mut table = Table::new(["", "µs of a core", "×", "bytes", "×"]);
        let mut own = None;
        for (name, cost, events, file) in rows {
            let micros = cost.processor * 1e6 / events as f64;
            let bytes = self.size(file)? / events as f64;
            let (own_micros, own_bytes) = *own.get_or_insert((micros, bytes));
            table.row([
                name.to_owned(),
                format!("{micros:.2}"),
                format!("{:.1}", micros / own_micros),
                format!("{bytes:.1}"),
                format!("{:.1}", bytes / own_bytes),
            ]);
        }
        Ok(format!("Writing, each of {few} events:\n\n{table}"))
    }

    fn counting(&mut self, few: u64) -> Result<String> {
        let (many, all) = self.report("many.zst")?;
        self.budget(
            &format!("report over {all} events"),
            "10 s, 100 MB (10,000,000 events)",
            format!("{:.1} s, {:.1} MB", many.seconds, many.megabytes),
        );
        let agrees = |bench: &Self| -> Result<()> {
            let told = bench.printed()?;
            ensure!(
                told.trim() == few.to_string(),
                "of {few} events it counts {told}"
            );
            Ok(())
        };
        let (some, counted) = self.report("few.zst")?;
        let jq = self.cost(&["jq", "-n", JQ, "few.json"])?;
        agrees(self)?;
        let packed = self.cost(&["sh", "-c", "zstdcat few.json.zst | jq -n \"$0\"", JQ])?;
        agrees(self)?;
        let sqlite = self.cost(&["sqlite3", "few.db", SQL])?;
        agrees(self)?;
        let mut table = Table::new(["", "events", "s", "µs an event", "×", "peak MB"]);
        let rows = [
            ("`tracer report` of a capture", many, all),
            ("the same", some, counted),
            ("`jq`, of plain JSON Lines", jq, few),
            ("`zstdcat` and `jq`", packed, few),
            ("`GROUP BY` of sqlite3, once rows are in", sqlite, few),
        ];
        let per = |cost: Cost, events: u64| cost.seconds * 1e6 / events as f64;
        for (name, cost, events) in rows {
            table.row([
                name.to_owned(),
                events.to_string(),
                format!("{:.2}", cost.seconds),
                format!("{:.2}", per(cost, events)),
                format!("{:.1}", per(cost, events) / per(many, all)),
                format!("{:.1}", cost.megabytes),
            ]);
        }
        Ok(format!("Counting events by program and cause:\n\n{table}"))
    }

    fn seeking(&mut self, events: u64) -> Result<String> {
        self.harness("capture", "long.zst", events, FAST, false)?;
        let gigabytes = self.size("long.zst")? / 1e9;
        let second = events / FAST * 9 / 10;
        let time = format!("2026-03-14T03:{:02}:{:02}", second / 60, second % 60);
        let found = |bench: &Self| -> Result<()> {
            let told = bench.printed()?;
            ensure!(
                told.contains(&format!("\"time\":\"{time}")),
                "not of {time}: {told}"
            );
            Ok(())
        };
        let script = "\"$0\" replay --from \"$1Z\" --format json long.zst | grep -m 1 event";
        let replay = self.cost(&["sh", "-c", script, &self.tracer, &time])?;
        found(self)?;
        let script = "zstdcat long.zst | grep -m 1 \"time\\\":\\\"$0\"";
        let grep = self.cost(&["sh", "-c", script, &time])?;
        found(self)?;
        self.budget(
            &format!("replay starts at nine tenths of {gigabytes:.2} GB"),
            "1 s (of 1 GB)",
            format!("{:.2} s", replay.seconds),
        );
        let mut table = Table::new(["", "s", "×", "peak MB"]);
        let rows = [
            ("`tracer replay --from`", replay),
            ("`zstdcat` and `grep -m 1`", grep),
        ];
        for (name, cost) in rows {
            table.row([
                name.to_owned(),
                format!("{:.2}", cost.seconds),
                // Less than the clock of `time` can tell.
                format!("{:.0}", cost.seconds / replay.seconds.max(0.01)),
                format!("{:.1}", cost.megabytes),
            ]);
        }
        Ok(format!("The first event after nine tenths:\n\n{table}"))
    }
}
