//! Censuses and findings about queues.

use serde_json::Value;

use super::{Untrusted, asked, netns_name, protocol};
use crate::{
    explain::finding::{
        Advice, BoundUnused, Census, Ghost, Holder, Owner, Part, PortState, Program, QueueFinding,
        Range, Settings,
    },
    model::{Process, accept_errno_named},
    replay::fields::{Field, get, named},
};

pub(super) fn census(record: &Value) -> Option<Census> {
    Some(Census {
        id: get(record, "id")?,
        time: get(record, "time")?,
        netns: get(record, "netns")?,
        netns_cookie: get::<Option<_>>(record, "netns_cookie")?.unwrap_or_default(),
        netns_name: netns_name(record)?,
        kind: get(record, "kind")?,
        cause: get(record, "cause")?,
        protocol: protocol(record)?,
        source: get(record, "source")?,
        destination: get(record, "destination")?,
        range: get(record, "range")?,
        parts: get(record, "parts")?,
        free: get(record, "free")?,
        unexplained: get(record, "unexplained")?,
        bound_unused: get(record, "bound_unused")?,
        settings: get(record, "sysctls")?,
        sockets: get(record, "sockets")?,
        took_ms: get(record, "took_ms")?,
        advice: get(record, "advice")?,
    })
}

pub(super) fn queue(record: &Value) -> Option<QueueFinding> {
    let (drops, ghosts) = (record.get("drops")?, record.get("ghosts")?);
    Some(QueueFinding {
        id: get(record, "id")?,
        time: get(record, "time")?,
        netns: get(record, "netns")?,
        netns_cookie: get::<Option<_>>(record, "netns_cookie")?.unwrap_or_default(),
        netns_name: netns_name(record)?,
        local: get(record, "local")?,
        inode: get(record.get("socket")?, "inode")?,
        cause: get(record, "cause")?,
        process: get(record, "process")?,
        holders: get(record, "holders")?,
        since: get(record, "since")?,
        until: get(record, "until")?,
        accept_queue: get(record, "accept_queue")?,
        request_queue: get(record, "request_queue")?,
        asked: asked(record.get("accept_queue")?),
        syn_drops: get(drops, "syn_dropped")?,
        ack_drops: get(drops, "ack_dropped")?,
        resets: get(drops, "overflow_reset")?,
        connections: get(record, "connections")?,
        connections_capped: get(record, "connections_capped")?,
        arrivals_per_s: get(record, "arrivals_per_s")?,
        accepts_per_s: get(record, "accepts_per_s")?,
        accepts: get(record, "accepts")?,
        // Older captures lack these.
        disagreement: match record.get("disagreement").filter(|it| !it.is_null()) {
            Some(both) => Some((get(both, "tracer")?, get(both, "kernel")?)),
            None => None,
        },
        accept_failures: get::<Option<_>>(record, "accept_failures")?.unwrap_or_default(),
        accept_errno: get::<Option<String>>(record, "accept_errno")?
            .and_then(|name| accept_errno_named(&name)),
        ghosts: get(ghosts, "peers")?,
        ghost_count: get(ghosts, "count")?,
        settings: get(record, "sysctls")?,
        advice: get(record, "advice")?,
    })
}

impl Field for Range {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            low: get(value, "low")?,
            high: get(value, "high")?,
            is_own: get(value, "own")?,
            reserved: get(value, "reserved")?,
            usable: get(value, "usable")?,
        })
    }
}

impl Field for Part {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            state: get(value, "state")?,
            ports: get(value, "ports")?,
            sockets: get(value, "sockets")?,
            holders: get(value, "holders")?,
        })
    }
}

impl Field for PortState {
    fn read(value: &Value) -> Option<Self> {
        let all = [
            Self::Established,
            Self::CloseWait,
            Self::SynSent,
            Self::SynRecv,
            Self::Closing,
            Self::TimeWait,
            Self::Listening,
            Self::BoundUnused,
            Self::BoundElsewhere,
        ];
        named(&all, Self::name, value)
    }
}

impl Field for Holder {
    fn read(value: &Value) -> Option<Self> {
        let owner = match value.get("owner")?.as_str()? {
            "process" => Owner::Processes(program(value)?),
            "kernel" => Owner::Kernel,
            "not_accepted" => Owner::NotAccepted,
            "before_tracer" => Owner::BeforeTracer,
            "unknown" => Owner::Unknown(get(value, "reason")?),
            _ => return None,
        };
        Some(Self {
            owner,
            ports: get(value, "ports")?,
            sockets: get(value, "sockets")?,
        })
    }
}

fn program(holder: &Value) -> Option<Program> {
    let Untrusted(comm) = get(holder, "comm")?;
    let processes = holder.get("processes")?.as_array()?.iter();
    let named = processes.map(|process| Some((Process::read(process)?, get(process, "ports")?)));
    Some(Program {
        comm,
        count: get(holder, "process_count")?,
        named: named.collect::<Option<_>>()?,
    })
}

impl Field for BoundUnused {
    fn read(value: &Value) -> Option<Self> {
        match value.get("method")?.as_str()? {
            "sock_diag" => Some(Self::SockDiag),
            "pidfd_getfd" => Some(Self::PidfdGetfd),
            "incomplete" => get(value, "reason").map(Self::Incomplete),
            _ => None,
        }
    }
}

impl Field for Settings {
    fn read(value: &Value) -> Option<Self> {
        let reserved = match value.get("ip_local_reserved_ports") {
            Some(ranges) => ports(ranges.as_str()?, ',', '-')?,
            None => Vec::new(),
        };
        let range = match value.get("ip_local_port_range") {
            Some(range) => Some(ports(range.as_str()?, ',', ' ')?.pop()?),
            None => None,
        };
        Some(Self {
            port_range: range,
            reserved_ports: reserved,
            tw_reuse: get(value, "tcp_tw_reuse")?,
            tw_reuse_delay: get(value, "tcp_tw_reuse_delay")?,
            timestamps: get(value, "tcp_timestamps")?,
            max_tw_buckets: get(value, "tcp_max_tw_buckets")?,
            somaxconn: get(value, "somaxconn")?,
            max_syn_backlog: get(value, "tcp_max_syn_backlog")?,
            syncookies: get(value, "tcp_syncookies")?,
            abort_on_overflow: get(value, "tcp_abort_on_overflow")?,
            synack_retries: get(value, "tcp_synack_retries")?,
            // No record says it, and nothing that is printed depends on it.
            has_own_range: false,
        })
    }
}

/// `1-5,9`: ranges of ports, and single ones.
fn ports(text: &str, between: char, within: char) -> Option<Vec<(u16, u16)>> {
    let ranges = text.split(between).filter(|range| !range.is_empty());
    ranges
        .map(|range| {
            let (low, high) = range.split_once(within).unwrap_or((range, range));
            Some((low.parse().ok()?, high.parse().ok()?))
        })
        .collect()
}

impl Field for Advice {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: get(value, "id")?,
            text: get(value, "text")?,
        })
    }
}

impl Field for Ghost {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            peer: get(value, "address")?,
            process: get(value, "process")?,
        })
    }
}
