//! nginx before one slow FastCGI worker with a short queue: some requests wait
//! for a connection, others on a connection that the worker's side has forgotten.

use super::lab::{Lab, Wire, until};
use super::programs::{PROXY, nginx};
use super::records::{advises, haunted, names, queue_was};
use super::{Case, Judge, Told};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

const SCRIPT: &str = include_str!("scripts/slow.sh");

const PORT: u16 = 9000;
const BACKLOG: u64 = 2;

/// Requests that come while there is room, and after.
const AT_ONCE: u64 = 12;
const LATE: u64 = 4;

pub(super) const CASE: Case = Case {
    name: "fastcgi-slow-worker",
    wire: Wire::Long,
    stage,
    report: Some(Told {
        of: "fcgiwrap",
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
    let spawn = [
        "-n",
        "-a",
        server.ip,
        "-p",
        &port,
        "-b",
        &backlog,
        "--",
        "/usr/sbin/fcgiwrap",
    ];
    let worker = lab.start(server, Path::new("/usr/bin/spawn-fcgi"), &spawn)?;
    server.await_listener(PORT)?;
    let script = lab.script("slow", SCRIPT)?;
    // tracer tells of a queue within two seconds: until then nginx must wait.
    let frontend = format!(
        "listen {PROXY};\n\
         location / {{ fastcgi_pass {}:{PORT};\n\
         fastcgi_connect_timeout 2s; fastcgi_read_timeout 3s;\n\
         fastcgi_param REQUEST_METHOD GET; fastcgi_param SCRIPT_FILENAME {}; }}",
        server.ip,
        script.display()
    );
    nginx(lab, client, &frontend)?;
    client.await_listener(PROXY)?;
    let load = |count: u64| {
        let urls = format!("http://127.0.0.1:{PROXY}/[1-{count}]");
        let at_once = ["-s", "--parallel", "--parallel-immediate", &urls];
        lab.start(client, Path::new("/usr/bin/curl"), &at_once)
    };
    let to_worker = format!("dport = :{PORT}");
    let connected = |count: u64| {
        until("connections to the worker", || {
            Ok(client.sockets(&["state", "established", &to_worker])? == count)
        })?;
        // The final ACK is still under way.
        std::thread::sleep(Duration::from_millis(300));
        server.sockets(&["state", "established", &format!("sport = :{PORT}")])
    };
    // The worker has something to do, then there is room for a few in its queue.
    load(1)?;
    connected(1)?;
    load(AT_ONCE)?;
    let known = connected(1 + AT_ONCE)?;
    let ghosts = 1 + AT_ONCE - known;
    ensure!(
        known == 1 + BACKLOG + 1,
        "the worker's side should know {} connections, not {known}",
        1 + BACKLOG + 1
    );
    load(LATE)?;
    let timeouts = |during: &str| -> Result<u64> {
        let log = lab.log("nginx")?;
        let line = format!("upstream timed out (110: Connection timed out) while {during}");
        Ok(log.lines().filter(|l| l.contains(&line)).count() as u64)
    };
    until("nginx's timeouts", || {
        Ok(
            timeouts("reading response header from upstream")? == 1 + AT_ONCE
                && timeouts("connecting to upstream")? == LATE,
        )
    })?;
    let dropped = server.counter("ListenOverflows")?;

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
            names(event, "fcgiwrap", worker)?;
            ensure!(
                event["process"]["role"] == "acceptor",
                "fcgiwrap accepts, so it should be the acceptor"
            );
            queue_was(event, BACKLOG + 1, BACKLOG)?;
            let queues = records.queues(event)?;
            names(queues[0], "fcgiwrap", worker)?;
            haunted(&queues, ghosts, "nginx")?;
            advises(queues[0])?;
        }
        Ok(())
    }))
}
