//! A load generator on libcurl that closes every connection after one request,
//! until its own TIME_WAIT sockets hold every port.

use super::lab::{Lab, Wire};
use super::programs::{HTTP, url, web_server};
use super::records::{Culprit, advises, blames, names};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};
use std::time::Duration;

const PROGRAM: &str = include_str!("scripts/stress.py");

/// A third of the kernel's default: the fewer are free, the longer the kernel
/// looks for one, and the first TIME_WAIT socket must not end before the last begins.
const PORTS: u64 = 10_000;

pub(super) const CASE: Case = Case {
    name: "libcurl-without-keepalive",
    wire: Wire::Short,
    stage,
    report: Some(Told {
        of: "stress",
        words: &[
            "ports exhausted",
            "TIME_WAIT               closed by stress[",
            "[keep-alive]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let client = &lab.client;
    client.ports(PORTS)?;
    // Small machines keep fewer TIME_WAIT sockets than there are ports.
    client.sysctl("net/ipv4/tcp_max_tw_buckets", "100000")?;
    web_server(lab, "")?;
    let program = lab.script("stress", PROGRAM)?;
    let stress = lab.run(client, &program, &[&url(lab)], Duration::from_secs(50))?;
    ensure!(
        stress.text.contains("error 99"),
        "stress should end with error 99: {}",
        stress.text
    );
    let waiting = client.sockets(&["state", "time-wait", &format!("dport = :{HTTP}")])?;
    ensure!(
        waiting == PORTS,
        "ss should show {PORTS} TIME_WAIT sockets, not {waiting}"
    );
    ensure!(
        lab.server.sockets(&["state", "time-wait"])? == 0,
        "the server should not have closed first"
    );

    let netns = client.netns;
    Ok(Box::new(move |records| {
        let event = records.failures(netns, "connect_failed", "ports_exhausted")?[0];
        names(event, "stress", stress.pid)?;
        let census = records.census(event)?;
        let culprit = Culprit {
            state: "time_wait",
            comm: "stress",
            pid: stress.pid,
            ports: PORTS,
        };
        blames(census, culprit)?;
        advises(census)
    }))
}
