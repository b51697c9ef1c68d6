//! A program that binds every port and uses none, and an FTP client of someone
//! else that finds none left.

use super::lab::{Lab, Wire};
use super::records::{Culprit, advises, blames, names};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::time::Duration;

const HOARDER: &str = include_str!("scripts/hoarder.py");

const PORTS: u64 = 2000;
const FTP: u16 = 21;

pub(super) const CASE: Case = Case {
    name: "bound-and-unused",
    wire: Wire::Short,
    stage,
    report: Some(Told {
        of: "tnftp",
        words: &[
            "ports exhausted",
            "bound, unused           hoarder[",
            "[close-bound]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let (client, server) = (&lab.client, &lab.server);
    client.ports(PORTS)?;
    let daemon = ["-m", "pyftpdlib", "-i", server.ip, "-p", &FTP.to_string()];
    lab.start(server, Path::new("/usr/bin/python3"), &daemon)?;
    server.await_listener(FTP)?;
    let hoarder = lab.script("hoarder", HOARDER)?;
    let pid = lab.start(client, &hoarder, &[&PORTS.to_string()])?;
    lab.await_log("hoarder", "holds")?;
    let held = open_sockets(pid)?;
    ensure!(
        held == PORTS,
        "the hoarder should hold {PORTS} sockets, not {held}"
    );
    let ftp = lab.run(
        client,
        Path::new("/usr/bin/tnftp"),
        &["-n", server.ip],
        Duration::from_secs(10),
    )?;
    ensure!(
        ftp.text.contains("Cannot assign requested address"),
        "the FTP client should fail with error 99: {}",
        ftp.text
    );

    let netns = client.netns;
    Ok(Box::new(move |records| {
        let event = records.failures(netns, "connect_failed", "ports_exhausted")?[0];
        names(event, "tnftp", ftp.pid)?;
        let census = records.census(event)?;
        let culprit = Culprit {
            state: "bound_unused",
            comm: "hoarder",
            pid,
            ports: PORTS,
        };
        blames(census, culprit)?;
        advises(census)
    }))
}

fn open_sockets(pid: u32) -> Result<u64> {
    let mut sockets = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = fs::read_link(entry?.path())?;
        sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok(sockets)
}
