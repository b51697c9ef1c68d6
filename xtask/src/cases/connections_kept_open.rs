//! A program that opens a connection for every request and closes none.

use super::lab::{Lab, Wire};
use super::programs::{HTTP, url, web_server};
use super::records::{Culprit, advises, blames, names};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};

const PROGRAM: &str = include_str!("scripts/pool.py");

/// Few enough for the usual limit of 1024 open files.
const PORTS: u64 = 500;

pub(super) const CASE: Case = Case {
    name: "connections-kept-open",
    wire: Wire::Short,
    stage,
    report: Some(Told {
        of: "pool",
        words: &[
            "ports exhausted",
            "connected               pool[",
            "[limit-pool]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let client = &lab.client;
    client.ports(PORTS)?;
    web_server(lab, "")?;
    let program = lab.script("pool", PROGRAM)?;
    let pid = lab.start(client, &program, &[&url(lab)])?;
    lab.await_log("pool", "error 99")?;
    let open = client.sockets(&["state", "established", &format!("dport = :{HTTP}")])?;
    ensure!(
        open == PORTS,
        "ss should show {PORTS} established connections, not {open}"
    );

    let netns = client.netns;
    Ok(Box::new(move |records| {
        let event = records.failures(netns, "connect_failed", "ports_exhausted")?[0];
        names(event, "pool", pid)?;
        let census = records.census(event)?;
        let culprit = Culprit {
            state: "established",
            comm: "pool",
            pid,
            ports: PORTS,
        };
        blames(census, culprit)?;
        advises(census)
    }))
}
