//! A server that cannot be restarted: its port has a connection in TIME_WAIT
//! that the old server closed, and the new one does not set `SO_REUSEADDR`.

use super::lab::{Lab, Wire, until};
use super::records::{Culprit, advises, blames, names};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

const SOCAT: &str = "/usr/bin/socat";
const LIMIT: Duration = Duration::from_secs(10);

/// Of a server that never sets `SO_REUSEADDR`, and of one that always does.
const WITHOUT: u16 = 8080;
const WITH: u16 = 8081;

pub(super) const CASE: Case = Case {
    name: "server-restart",
    wire: Wire::Short,
    stage,
    report: Some(Told {
        of: "socat",
        words: &[
            "port in use",
            "TIME_WAIT               closed by socat[",
            "[reuse-addr]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let server = &lab.server;
    let old = serve_one(lab, WITHOUT, "")?;
    // The kernel wants the option on the old sockets as well as on the new one.
    let mut failed = Vec::new();
    for option in ["", ",reuseaddr"] {
        let new = lab.run(server, Path::new(SOCAT), &hello(WITHOUT, option), LIMIT)?;
        ensure!(
            !new.success && new.text.contains("Address already in use"),
            "the new server{option} should not start: {}",
            new.text
        );
        failed.push(new.pid);
    }
    serve_one(lab, WITH, ",reuseaddr")?;
    lab.start(server, Path::new(SOCAT), &hello(WITH, ",reuseaddr"))?;
    server.await_listener(WITH)?;

    let netns = server.netns;
    Ok(Box::new(move |records| {
        let events = records.failures(netns, "bind_failed", "port_in_use")?;
        ensure!(
            records.events(netns).len() == failed.len(),
            "there should be no other failure than those {}",
            failed.len()
        );
        for (event, new) in events.into_iter().zip(&failed) {
            names(event, "socat", *new)?;
            let census = records.census(event)?;
            let range = &census["range"];
            ensure!(
                range["low"] == WITHOUT && range["high"] == WITHOUT,
                "the census should be of port {WITHOUT}, not of {range}"
            );
            let culprit = Culprit {
                state: "time_wait",
                comm: "socat",
                pid: old,
                ports: 1,
            };
            blames(census, culprit)?;
            advises(census)?;
        }
        Ok(())
    }))
}

/// A server that says hello on one connection, closes it and ends; its pid.
fn serve_one(lab: &Lab, port: u16, option: &str) -> Result<u32> {
    let (client, server) = (&lab.client, &lab.server);
    let pid = lab.start(server, Path::new(SOCAT), &hello(port, option))?;
    server.await_listener(port)?;
    let connect = format!("TCP:{}:{port}", server.ip);
    lab.run(client, Path::new(SOCAT), &["-u", &connect, "STDOUT"], LIMIT)?;
    let on_port = format!("sport = :{port}");
    until("a TIME_WAIT socket of the old server", || {
        Ok(server.sockets(&["state", "time-wait", &on_port])? == 1)
    })?;
    lab.stop(pid)?;
    Ok(pid)
}

fn hello(port: u16, option: &str) -> [String; 2] {
    [
        format!("TCP-LISTEN:{port}{option}"),
        "EXEC:/bin/echo hello".to_owned(),
    ]
}
