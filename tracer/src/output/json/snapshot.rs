//! Snapshots as JSON, documented in docs/records.md. Pure.

use serde_json::{Value, json};

use super::{VERSION, findings, process, text, time};
use crate::{
    attribute::namespaces::Netstat,
    explain::{
        census::Account,
        finding::{BoundUnused, Holder, Part},
    },
    snapshot::{
        Taken,
        listeners::Listener,
        ports::{Destination, Table},
    },
};

pub(in crate::output) fn ports(taken: Taken, table: &Table, bound_unused: &BoundUnused) -> Value {
    json!({
        "v": VERSION,
        "type": "ports",
        "time": time(taken.time),
        "netns": table.place.netns,
        "name": table.place.name.as_deref().map(text),
        "range": findings::range(table.tcp.range),
        "tcp": account(&table.tcp),
        "udp": table.udp.as_ref().map(account),
        "unavailable": table.unavailable,
        "bound_unused": findings::bound_unused(bound_unused),
        "servers_time_wait": table.servers_time_wait,
        "destination_count": table.destination_count,
        "destinations": table.destinations.iter().map(destination).collect::<Vec<_>>(),
        "sockets": table.sockets,
        "took_ms": taken.took_ms(),
    })
}

fn account(account: &Account) -> Value {
    json!({
        "used": account.used(),
        "free": account.free,
        "parts": parts(&account.parts),
        "holders": holders(&account.holders),
    })
}

fn destination(destination: &Destination) -> Value {
    json!({
        "source": destination.source.to_string(),
        "destination": destination.remote.to_string(),
        "own": destination.own,
        "used": destination.used,
        "free": destination.free,
        "parts": parts(&destination.parts),
        "holders": holders(&destination.holders),
    })
}

fn parts(parts: &[Part]) -> Vec<Value> {
    parts.iter().map(findings::part).collect()
}

fn holders(holders: &[Holder]) -> Vec<Value> {
    holders.iter().map(findings::holder).collect()
}

pub(in crate::output) fn listener(
    taken: Taken,
    listener: &Listener,
    netstat: Option<Netstat>,
) -> Value {
    json!({
        "v": VERSION,
        "type": "listener",
        "time": time(taken.time),
        "netns": listener.place.netns,
        "name": listener.place.name.as_deref().map(text),
        "family": if listener.is_ipv6 { "ipv6" } else { "ipv4" },
        "local": listener.local.to_string(),
        "socket": { "inode": listener.inode },
        "uid": listener.uid,
        "accept_queue": { "len": listener.len, "max": listener.max },
        "fill_percent": listener.fill_percent(),
        "waiting": listener.towards.waiting,
        "given_up": listener.towards.given_up,
        "half_open": listener.towards.half_open,
        "shared_by": listener.towards.listeners,
        "drops_at_most": listener.drops,
        "acceptor": Value::Null,
        "holders": listener.holders.iter().map(process).collect::<Vec<_>>(),
        "kernel": netstat.map(|netstat| json!({
            "listen_overflows": netstat.listen_overflows,
            "listen_drops": netstat.listen_drops,
            "tcp_req_qfull_drop": netstat.req_qfull_drop,
        })),
        "took_ms": taken.took_ms(),
    })
}
