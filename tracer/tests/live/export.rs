//! `tracer export` of what `tracer watch -w` kept.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value;

use crate::cli::{self, Desert, fail_once};
use crate::record::Directory;
use crate::tracer::{self, Tracer};

const FAILURES: usize = 20;

/// A row by the names of its columns; null is empty.
type Row = HashMap<String, String>;

/// What it writes to standard output.
fn exported(tracer: &Path, words: &[&str]) -> Result<Vec<u8>> {
    // Read while it writes: it may be more than fits into a pipe.
    let output = tracer::verb(tracer, "export").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.is_empty(),
        "{words:?} ended with {}: {said}",
        output.status
    );
    Ok(output.stdout)
}

fn csv(tracer: &Path, file: &str, table: &str) -> Result<Vec<Row>> {
    let words = [file, "--format", "csv", "--table", table];
    let text = exported(tracer, &words)?;
    let rows = csv::Reader::from_reader(&text[..]).into_deserialize();
    Ok(rows.collect::<csv::Result<_>>()?)
}

fn parquet(tracer: &Path, file: &str, table: &str) -> Result<Vec<Row>> {
    let words = [file, "--format", "parquet", "--table", table];
    let reader = SerializedFileReader::new(bytes::Bytes::from(exported(tracer, &words)?))?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let fields = row.get_column_iter().map(|(name, field)| {
            let text = match field {
                parquet::record::Field::Null => String::new(),
                parquet::record::Field::Str(text) => text.clone(),
                other => other.to_string(),
            };
            (name.clone(), text)
        });
        rows.push(fields.collect());
    }
    Ok(rows)
}

/// Rows of the tables are the records of the capture, and add up as these do.
pub(crate) fn all(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let capture = directory.path.join("capture.zst");
    let capture = capture.to_str().context("not UTF-8")?;
    let desert = Desert::new()?;
    // What a spreadsheet would take for a formula, in quotes and with a comma.
    let role = desert.role("=a,\"b\"")?;
    let watch = Tracer::started(path, &["-w", capture])?;
    for _ in 0..FAILURES {
        fail_once(&role)?;
    }
    let netns = desert.space.inum;
    watch.await_events(netns, |events| events.len() >= FAILURES);
    watch.await_record(|record| record["type"] == "census" && record["netns"] == netns)?;
    let records = watch.stop()?;
    let seen = watch.events_in(netns);
    ensure!(seen.len() == FAILURES, "{} events", seen.len());

    let lines = exported(path, &[capture, "--format", "jsonl"])?;
    let bytes = zstd::stream::decode_all(&std::fs::read(capture)?[..])?;
    ensure!(lines == bytes, "jsonl is not what is in the capture");

    let number = netns.to_string();
    for (format, events) in [
        ("csv", csv(path, capture, "events")?),
        ("parquet", parquet(path, capture, "events")?),
    ] {
        let all = lines
            .split(|byte| *byte == b'\n')
            .map(serde_json::from_slice);
        let all = all.filter_map(Result::ok);
        let all = all
            .filter(|record: &Value| record["type"] == "event")
            .count();
        ensure!(events.len() == all, "{format}: {} of {all}", events.len());
        let rows: Vec<_> = events.iter().filter(|row| row["netns"] == number).collect();
        ensure!(rows.len() == FAILURES, "{format}: {} rows", rows.len());
        for (row, event) in rows.iter().zip(&seen) {
            alike(row, event).with_context(|| format!("{format}: {row:?}: {event}"))?;
        }
    }
    adds_up(&csv(path, capture, "censuses")?, netns)?;
    let totals = csv(path, capture, "totals")?;
    let of_here = totals
        .iter()
        .filter(|row| row["netns"] == number && row["final"] == "true");
    let compared = of_here.map(|row| [&row["counted"], &row["events"], &row["missing"]]);
    let expected = FAILURES.to_string();
    ensure!(
        compared.collect::<Vec<_>>() == [[&expected, &expected, "0"]],
        "{totals:?}"
    );
    let last = tracer::final_totals(&records)?;
    let counted = last["counted"].to_string();
    ensure!(totals[0]["all_counted"] == counted, "{last}");
    Ok(())
}

fn alike(row: &Row, event: &Value) -> Result<()> {
    let (remote, process) = (&event["remote"], &event["process"]);
    let address = format!("{}:{}", row["remote_address"], row["remote_port"]);
    ensure!(*remote == address.as_str(), "remote");
    for (column, value) in [
        ("kind", &event["kind"]),
        ("cause", &event["cause"]),
        ("errno", &event["errno"]),
        ("hook", &event["hook"]),
        ("comm", &process["comm"]),
        ("cmdline", &process["cmdline"]),
    ] {
        ensure!(
            value.as_str().unwrap_or_default() == row[column],
            "{column}"
        );
    }
    for (column, value) in [
        ("count", &event["count"]),
        ("pid", &process["pid"]),
        ("socket_inode", &event["socket"]["inode"]),
        ("syncookie", &event["syncookie"]),
    ] {
        let text = value.to_string();
        ensure!(text == row[column], "{column}");
    }
    ensure!(row["boot_id"] == boot_id()?, "boot_id");
    Ok(())
}

fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// The holders' ports, and what is free or unexplained, are the usable ports.
fn adds_up(rows: &[Row], netns: u64) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| row["netns"] == netns.to_string())
        .collect();
    let first = rows.first().context("no census")?;
    let number = |row: &Row, column: &str| -> Result<u64> {
        row[column].parse().with_context(|| column.to_owned())
    };
    let mut sum = number(first, "free")? + number(first, "unexplained")?;
    for row in rows.iter().filter(|row| row["census"] == first["census"]) {
        sum += number(row, "ports")?;
    }
    ensure!(sum == number(first, "range_usable")?, "{rows:?}");
    Ok(())
}

/// Where it must not write, and what it leaves behind.
pub(crate) fn files(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let file = |name: &str| directory.path.join(name).display().to_string();
    let (capture, out, link) = (file("capture"), file("out"), file("link"));
    let startup = r#"{"v":1,"type":"startup","time":"2026-11-21T03:00:00Z"}"#;
    std::fs::write(&capture, format!("{startup}\n{{\"type\":\"portrait\"}}\n"))?;
    let words = |out, more: &[&'static str]| {
        let mut command = tracer::verb(path, "export");
        command
            .args([&capture, "--format", "csv", "-o", out])
            .args(more);
        command
    };
    let made = cli::output(&mut words(&out, &[]))?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(
        made.status.success() && said.contains("does not know, left out: 1"),
        "{made:?}"
    );
    let text = std::fs::read_to_string(&out)?;
    ensure!(
        text.starts_with("time,host,") && text.lines().count() == 1,
        "{text}"
    );
    let mode = std::fs::metadata(&out)?.permissions().mode();
    ensure!(mode & 0o7777 == 0o600, "mode {mode:o}");
    symlink(&out, &link)?;
    for (target, more, expected) in [
        (&out, &[][..], "--overwrite replaces it"),
        (&link, &["--overwrite"], "symbolic link"),
        (&capture, &["--overwrite"], "is to be read, too"),
    ] {
        let said = cli::refuses(&mut words(target, more), 1, true)?;
        ensure!(said.contains(expected), "{said}");
    }
    ensure!(
        std::fs::read_to_string(&capture)?.starts_with(startup),
        "the capture is gone"
    );
    ensure!(
        cli::output(&mut words(&out, &["--overwrite"]))?
            .status
            .success(),
        "--overwrite"
    );
    Ok(())
}

/// A full disk leaves no half a table.
pub(crate) fn full_disk(path: &Path) -> Result<()> {
    let (directory, disk) = (Directory::new()?, Directory::in_memory("64k")?);
    let capture = directory.path.join("capture");
    let gap = r#"{"v":1,"type":"event","kind":"bind_failed","hook":"x"}"#;
    std::fs::write(&capture, format!("{gap}\n").repeat(10_000))?;
    for format in ["csv", "jsonl"] {
        let out = disk.path.join("out");
        let mut command = tracer::verb(path, "export");
        command
            .arg(&capture)
            .args(["--format", format, "-o"])
            .arg(&out);
        let said = cli::refuses(&mut command, 1, true)?;
        ensure!(said.contains("No space left"), "{said}");
        ensure!(!out.exists(), "half a file is left");
    }
    Ok(())
}

/// Nobody reads: no failure.
pub(crate) fn stdout_closed(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let capture = directory.path.join("capture");
    std::fs::write(&capture, "{\"v\":1,\"type\":\"event\"}\n".repeat(100))?;
    for format in ["jsonl", "csv", "parquet"] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = tracer::verb(path, "export");
        command.arg(&capture).args(["--format", format]);
        let output = command.stdout(writer).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty(),
            "{format}: {}: {said}",
            output.status
        );
    }
    Ok(())
}
