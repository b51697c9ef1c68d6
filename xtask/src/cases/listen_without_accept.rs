//! A server that listens and never accepts: it knows backlog + 1 connections,
//! its clients believe in many more.

use super::lab::{Lab, Wire, until};
use super::records::{advises, haunted, names, queue_was};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};
use std::time::Duration;

const SERVER: &str = include_str!("scripts/stuck.py");
const CLIENTS: &str = include_str!("scripts/crowd.py");

const PORT: u16 = 8080;
const BACKLOG: u64 = 2;

/// Clients that come while there is room, and after.
const AT_ONCE: u64 = 12;
const LATE: u64 = 4;

pub(super) const CASE: Case = Case {
    name: "listen-without-accept",
    wire: Wire::Long,
    stage,
    report: Some(Told {
        of: "stuck",
        words: &[
            "accept queue full",
            " final ACKs), ",
            "9 clients believed to be connected",
            "nothing was accepted",
            "[accept-faster]",
        ],
    }),
};

fn stage(lab: &Lab) -> Result<Judge> {
    let (client, server) = (&lab.client, &lab.server);
    let (port, backlog) = (PORT.to_string(), BACKLOG.to_string());
    let stuck = lab.script("stuck", SERVER)?;
    let pid = lab.start(server, &stuck, &[&port, &backlog])?;
    server.await_listener(PORT)?;
    // All SYNs are answered before the first final ACK is back.
    let crowd = lab.script("crowd", CLIENTS)?;
    let early = lab.start(client, &crowd, &[server.ip, &port, &AT_ONCE.to_string()])?;
    until("connected clients", || {
        Ok(client.sockets(&["state", "established"])? == AT_ONCE)
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let known = server.sockets(&["state", "established"])?;
    ensure!(
        known == BACKLOG + 1,
        "the server should know {} connections, not {known}",
        BACKLOG + 1
    );
    lab.start(client, &crowd, &[server.ip, &port, &LATE.to_string()])?;
    until("clients whose SYNs are dropped", || {
        Ok(client.sockets(&["state", "syn-sent"])? == LATE)
    })?;
    // The second SYN of each comes after a second, and within two seconds tracer
    // tells of the queue.
    std::thread::sleep(Duration::from_millis(2500));
    let dropped = server.counter("ListenOverflows")?;
    let ghosts = client.sockets(&["state", "established"])? - known;
    // They give up: their kernel tries to tell the server, in vain.
    lab.stop(early)?;

    let netns = server.netns;
    Ok(Box::new(move |records| {
        let syns = records.failures(netns, "syn_dropped", "accept_queue_full")?;
        let acks = records.failures(netns, "ack_dropped", "accept_queue_full")?;
        let events = syns.len() + acks.len();
        ensure!(
            events as u64 >= dropped,
            "{events} drops were seen, the kernel counted {dropped}"
        );
        for event in [syns[0], acks[0]] {
            names(event, "stuck", pid)?;
            queue_was(event, BACKLOG + 1, BACKLOG)?;
            let queues = records.queues(event)?;
            names(queues[0], "stuck", pid)?;
            haunted(&queues, ghosts, "crowd")?;
            advises(queues[0])?;
        }
        Ok(())
    }))
}
