//! A capture of every schema version that was ever released stays readable, and
//! tells what it told. docs/capture.md says when to add one.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The versions there are: none may get lost.
const VERSIONS: [&str; 1] = ["v1"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn tracer(arguments: &[&str], file: &Path) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracer"));
    let output = command
        .args(arguments)
        .arg(file)
        .env("TZ", "UTC")
        .output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(output)
}

fn report(file: &Path) -> Result<Value> {
    let output = tracer(&["report", "--format", "json"], file)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Says where something that is expected is not so. More may be there.
fn differs(found: &Value, expected: &Value, at: &str) -> Option<String> {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().find_map(|(name, value)| {
                let at = format!("{at}.{name}");
                match found.get(name) {
                    Some(found) => differs(found, value, &at),
                    None => Some(format!("{at} is missing")),
                }
            })
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let mut pairs = found.iter().zip(expected).enumerate();
            pairs.find_map(|(n, (found, value))| differs(found, value, &format!("{at}[{n}]")))
        }
        _ if found == expected => None,
        _ => Some(format!("{at} is {found} instead of {expected}")),
    }
}

#[test]
fn every_version_is_there_and_has_its_expectations() -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(golden(""))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let mut expected = vec!["make.sh".to_owned()];
    for version in VERSIONS {
        expected.extend(["json", "txt", "zst"].map(|kind| format!("{version}.{kind}")));
    }
    assert_eq!(names, expected);
    Ok(())
}

#[test]
fn every_version_is_replayed_as_ever() -> Result<()> {
    for version in VERSIONS {
        let file = golden(&format!("{version}.zst"));
        let shown = tracer(&["replay"], &file)?;
        let shown = [shown.stderr, shown.stdout].concat();
        let expected = fs::read_to_string(golden(&format!("{version}.txt")))?;
        assert_eq!(String::from_utf8_lossy(&shown), expected, "{version}");
        let json = tracer(&["replay", "--format", "json"], &file)?;
        let lines = zstd::stream::decode_all(fs::File::open(&file)?)?;
        assert!(json.stdout == lines && json.stderr.is_empty(), "{version}");
    }
    Ok(())
}

#[test]
fn every_version_is_reported_as_ever() -> Result<()> {
    for version in VERSIONS {
        let told = report(&golden(&format!("{version}.zst")))?;
        let expected = fs::read(golden(&format!("{version}.json")))?;
        let expected: Value = serde_json::from_slice(&expected)?;
        assert_eq!(differs(&told, &expected, version), None);
    }
    Ok(())
}

/// A file, gone with this.
struct Made(PathBuf);

impl Made {
    /// A capture with these lines, one in each frame.
    fn new(name: &str, lines: &[String]) -> Result<Self> {
        let mut bytes = Vec::new();
        for line in lines {
            let mut encoder = zstd::stream::write::Encoder::new(&mut bytes, 3)?;
            encoder.include_checksum(true)?;
            writeln!(encoder, "{line}")?;
            encoder.finish()?;
        }
        let name = format!("tracer-golden-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes)?;
        Ok(Self(path))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The lines of the newest version, and the same of a tracer yet to come.
fn now_and_then() -> Result<(Vec<String>, Vec<String>)> {
    let newest = VERSIONS.last().context("no version")?;
    let file = fs::File::open(golden(&format!("{newest}.zst")))?;
    let text = String::from_utf8(zstd::stream::decode_all(file)?)?;
    let now: Vec<_> = text.lines().map(str::to_owned).collect();
    let later = |line: &String| line.replacen("{\"v\":1,", "{\"v\":2,\"new\":[{}],", 1);
    let then: Vec<_> = now.iter().map(later).collect();
    ensure!(now.iter().zip(&then).all(|(now, then)| now != then));
    Ok((now, then))
}

#[test]
fn what_comes_from_the_future_is_skipped_and_counted() -> Result<()> {
    let (_, then) = now_and_then()?;
    let file = Made::new("future", &then)?;
    let shown = tracer(&["replay"], &file.0)?;
    let told = String::from_utf8_lossy(&shown.stderr).into_owned();
    let header = String::from_utf8_lossy(&shown.stdout).into_owned();
    let count = format!("does not know: {};", then.len());
    assert!(told.lines().count() == 1 && told.contains(&count), "{told}");
    assert!(header.lines().count() <= 1, "{header}");
    let json = tracer(&["replay", "--format", "json"], &file.0)?;
    assert_eq!(
        String::from_utf8_lossy(&json.stdout).lines().count(),
        then.len()
    );
    let told = report(&file.0)?;
    assert_eq!(told["captured"]["skipped"]["newer"], then.len());
    assert_eq!(told["captured"]["failures"], 0);
    Ok(())
}

/// Whatever is new between them, what is known is read as ever.
#[test]
fn the_future_hides_nothing() -> Result<()> {
    let (now, then) = now_and_then()?;
    let unknown = |line: &String| line.replacen("\"type\":\"", "\"type\":\"un\\u001bheard-of-", 1);
    let more = |line: &String| line.replacen("{\"v\":1,", "{\"v\":1,\"new\":[{\"n\":1}],", 1);
    let lines: Vec<_> = now
        .iter()
        .zip(&then)
        .flat_map(|(now, then)| [more(now), then.clone(), unknown(now)])
        .collect();
    let (mixed, plain) = (Made::new("mixed", &lines)?, Made::new("plain", &now)?);
    let [shown, expected] = [&mixed, &plain].map(|file| tracer(&["replay"], &file.0));
    let (shown, expected) = (shown?, expected?);
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout),
        String::from_utf8_lossy(&expected.stdout)
    );
    let told = String::from_utf8_lossy(&shown.stderr).into_owned();
    let count = format!("does not know: {};", 2 * now.len());
    assert!(told.contains(&count), "{told}");
    let (told, expected) = (report(&mixed.0)?, report(&plain.0)?);
    let skipped = &told["captured"]["skipped"];
    assert_eq!(skipped["newer"], now.len());
    assert_eq!(skipped["unknown_types"], now.len());
    for part in ["findings", "programs", "listeners", "timeline", "totals"] {
        assert_eq!(told[part], expected[part], "{part}");
    }
    Ok(())
}

/// Whenever a capture is read, a time of day is one of its own days.
#[test]
fn a_time_of_day_is_one_of_the_capture() -> Result<()> {
    let file = golden("v1.zst");
    for times in [
        &["--since", "16:31:01", "--until", "16:31:02"][..],
        &["--since", "2026-11-21 16:31:01", "--until", "16:31:02"],
    ] {
        let arguments = [&["report", "--format", "json"], times].concat();
        let told: Value = serde_json::from_slice(&tracer(&arguments, &file)?.stdout)?;
        assert_eq!(told["filter"]["shown"], 5, "{}", told["filter"]);
    }
    let shown = tracer(&["replay", "--from", "16:31:01"], &file)?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let first = shown.lines().next().unwrap_or_default();
    assert!(first.starts_with("16:31:01.063"), "{first}");
    Ok(())
}
