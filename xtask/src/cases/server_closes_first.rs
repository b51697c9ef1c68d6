//! A server that closes every connection first: TIME_WAIT sockets pile up on
//! its port, and nobody is short of ports.

use super::lab::{Lab, Wire};
use super::page::of_namespaces;
use super::programs::{AB, HTTP, url, web_server};
use super::records::{Records, number};
use super::{Case, Judge};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

const PORTS: u64 = 1000;

/// Several times as many as there are ports.
const REQUESTS: u64 = 5000;

pub(super) const CASE: Case = Case {
    name: "server-closes-first",
    wire: Wire::Short,
    stage,
    report: None,
};

fn stage(lab: &Lab) -> Result<Judge> {
    let (client, server) = (&lab.client, &lab.server);
    client.ports(PORTS)?;
    web_server(lab, "keepalive_timeout 0;")?;
    let requests = REQUESTS.to_string();
    let load = ["-q", "-n", &requests, &url(lab)];
    let load = lab.run(client, Path::new(AB), &load, Duration::from_secs(30))?;
    let wanted = format!("Complete requests:      {REQUESTS}\nFailed requests:        0\n");
    ensure!(
        load.success && load.text.contains(&wanted),
        "all {REQUESTS} requests should succeed: {}",
        load.text
    );
    let on_port = format!("sport = :{HTTP}");
    let waiting = server.sockets(&["state", "time-wait", &on_port])?;
    ensure!(
        waiting >= PORTS / 4,
        "the server should have hundreds of TIME_WAIT sockets on port {HTTP}, not {waiting}"
    );
    let all = server.sockets(&["state", "time-wait"])?;
    ensure!(
        all == waiting,
        "the server should have TIME_WAIT sockets on port {HTTP} alone"
    );
    let waiting = client.sockets(&["state", "time-wait"])?;
    ensure!(
        waiting == 0,
        "the client should have no TIME_WAIT socket, not {waiting}"
    );

    ports_agree(lab)?;
    let told = of_namespaces(&lab.ask_tracer(&["ports"])?, lab);
    lab.add_aside(&format!("\n$ tracer ports\n{told}"));

    let sides = [client.netns, server.netns];
    Ok(Box::new(move |records| {
        let failures: usize = sides.map(|netns| records.events(netns).len()).iter().sum();
        ensure!(
            failures == 0,
            "nothing failed, yet there are {failures} events"
        );
        Ok(())
    }))
}

/// `tracer ports` sees what `ss` sees: no port of either range is taken, and all
/// the server's TIME_WAIT sockets are on a port that it listens on.
fn ports_agree(lab: &Lab) -> Result<()> {
    let shown = || -> Result<[u64; 2]> {
        Ok([
            lab.client.sockets(&[])?,
            lab.server.sockets(&["state", "time-wait"])?,
        ])
    };
    let before = shown()?;
    let told = Records::read(&lab.ask_tracer(&["ports", "--format", "json"])?, lab)?;
    let after = shown()?;
    let client = told.ports(lab.client.netns)?;
    let server = told.ports(lab.server.netns)?;
    // Nothing new comes, so the numbers can only fall.
    let between = |what: &str, number: u64, side: usize| {
        ensure!(
            (after[side]..=before[side]).contains(&number),
            "{what}: tracer says {number}, ss said {} before and {} after",
            before[side],
            after[side]
        );
        Ok(())
    };
    between("the client's ports", number(&client["tcp"], "used")?, 0)?;
    let waiting = number(server, "servers_time_wait")?;
    between("TIME_WAIT sockets on the server's port", waiting, 1)?;
    let used = number(&server["tcp"], "used")?;
    ensure!(
        used == 0,
        "the server should use no port of its range, not {used}"
    );
    Ok(())
}
