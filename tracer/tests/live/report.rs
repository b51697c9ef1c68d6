//! `tracer report` of records given here.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::tracer;

const RECORDS: &str = r#"{"v":1,"type":"startup","time":"2026-11-21T03:00:00.000000Z","version":"0.1.0","kernel":"6.1.0","boot_id":"b","host":"db7","hooks":[{"purpose":"bind","tier":"portable"}],"degradations":["closers are not seen"]}
{"v":1,"type":"event","time":"2026-11-21T03:00:01.250000Z","kind":"bind_failed","cause":"port_in_use","errno":"EADDRINUSE","count":1,"process":{"pid":7,"comm":"a\u001b[31mpi","kernel":false,"role":"caller"},"holders":[],"netns":1,"local":"127.0.0.1:80","remote":null,"socket":{"inode":5},"census":1,"queue":null}
{"v":1,"type":"census","time":"2026-11-21T03:00:01.300000Z","id":1,"netns":1,"kind":"bind_failed","cause":"port_in_use","range":{"low":80,"high":80,"usable":1},"parts":[{"state":"listening","ports":1,"sockets":1,"holders":[{"owner":"process","comm":"nginx","ports":1,"sockets":1,"process_count":1,"processes":[{"pid":9,"comm":"nginx","kernel":false}]}]}],"advice":[{"id":"port-owner","text":"Stop nginx[9]."}]}
{"v":1,"type":"end","time":"2026-11-21T03:00:02.000000Z","reason":"duration","exit_code":0}
"#;

const TOLD: &str = r"
1  a\x1b[31mpi[7]: bind to 127.0.0.1:80: port in use
   1 failed, at 03:00:01.250, netns 1
   who had port 80 at 03:00:01.300:
        1  listening               nginx[9]
   → Stop nginx[9]. [port-owner]
";

fn report(tracer: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = tracer::verb(tracer, "report");
    command.env("TZ", "UTC").arg("-").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(RECORDS.as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

/// The story, filters, the object, the page, a file that is not there.
pub(crate) fn all(tracer: &Path) -> Result<()> {
    let text = report(tracer, &[])?;
    let told = String::from_utf8_lossy(&text.stdout);
    ensure!(text.status.success() && told.contains(TOLD), "{text:?}");
    let none = report(tracer, &["--since", "2026-11-21 03:00:02"])?;
    let told = String::from_utf8_lossy(&none.stdout);
    ensure!(told.contains("shown     0 of 1 failure: "), "{told}");
    let json = report(tracer, &["--format", "json"])?;
    let object: Value = serde_json::from_slice(&json.stdout)?;
    let culprit = &object["findings"][0]["culprit"]["processes"][0]["pid"];
    ensure!(culprit == 9, "{object}");
    let html = report(tracer, &["--format", "html"])?;
    let page = String::from_utf8_lossy(&html.stdout);
    let headline = r"a\x1b[31mpi[7]: bind to 127.0.0.1:80: port in use";
    ensure!(
        page.starts_with("<!DOCTYPE html>") && page.contains(headline),
        "{page}"
    );
    let absent = tracer::verb(tracer, "report").arg("/nowhere").output()?;
    ensure!(absent.status.code() == Some(1), "{absent:?}");
    Ok(())
}
