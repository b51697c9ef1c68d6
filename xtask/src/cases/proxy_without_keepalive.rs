//! nginx as a proxy that keeps no connections to its backend: a new one for
//! every request, closed by nginx, while its clients keep theirs.

use super::lab::{Lab, Wire};
use super::programs::{AB, HTTP, PROXY, nginx, url, web_server};
use super::records::{Culprit, advises, blames, names};
use super::{Case, Judge, Told};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::Duration;

const PORTS: u64 = 2000;

/// Requests for which no port is left.
const TOO_MANY: u64 = 20;

pub(super) const CASE: Case = Case {
    name: "proxy-without-keepalive",
    wire: Wire::Short,
    stage,
    report: Some(Told {
        of: "nginx",
        words: &[
            "ports exhausted",
            "20 failed",
            "TIME_WAIT               closed by nginx[",
            "[keep-alive]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let client = &lab.client;
    client.ports(PORTS)?;
    web_server(lab, "")?;
    // HTTP/1.1 without `Connection: close`: the backend leaves closing to nginx.
    let proxy = format!(
        "listen {PROXY}; keepalive_requests 100000;\n\
         location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}",
        url(lab)
    );
    nginx(lab, client, &proxy)?;
    client.await_listener(PROXY)?;
    let requests = (PORTS + TOO_MANY).to_string();
    let proxied = format!("http://127.0.0.1:{PROXY}/");
    let load = ["-q", "-k", "-c", "2", "-n", &requests, &proxied];
    let load = lab.run(client, Path::new(AB), &load, Duration::from_secs(30))?;
    let log = lab.log("nginx")?;
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| {
            line.contains("(99: Cannot assign requested address) while connecting to upstream")
        })
        .collect();
    ensure!(
        errors.len() as u64 == TOO_MANY,
        "nginx should log error 99 {TOO_MANY} times, not {}: {}",
        errors.len(),
        load.text
    );
    let worker = errors.first().and_then(|line| logged_by(line));
    let worker = worker.context("nginx's log does not say which worker wrote it")?;
    let waiting = client.sockets(&["state", "time-wait", &format!("dport = :{HTTP}")])?;
    ensure!(
        waiting == PORTS,
        "ss should show {PORTS} TIME_WAIT sockets, not {waiting}"
    );

    let netns = client.netns;
    Ok(Box::new(move |records| {
        let events = records.failures(netns, "connect_failed", "ports_exhausted")?;
        ensure!(
            events.len() as u64 == TOO_MANY,
            "there should be {TOO_MANY} events, not {}",
            events.len()
        );
        for event in &events {
            names(event, "nginx", worker)?;
        }
        let census = records.census(events[0])?;
        let culprit = Culprit {
            state: "time_wait",
            comm: "nginx",
            pid: worker,
            ports: PORTS,
        };
        blames(census, culprit)?;
        advises(census)
    }))
}

/// The pid in `2026/01/31 12:00:00 [crit] 123#123: *1 connect() …`.
fn logged_by(line: &str) -> Option<u32> {
    line.split_whitespace()
        .find_map(|word| word.split_once('#')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_tells_its_worker() {
        let line = "2026/01/31 12:00:00 [crit] 123#124: *1 connect() to 10.0.0.2:80 failed";
        assert_eq!(logged_by(line), Some(123));
        assert_eq!(logged_by("nginx: the configuration"), None);
    }
}
