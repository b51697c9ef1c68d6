//! Which tables are there, and which columns have they? docs/export.md describes
//! each.

use clap::ValueEnum;

use super::column::{
    Column,
    From::{Inner, Part, Record, Run},
    Holds::{
        Address, Bool, F64, I32, I64, Ids, Json, Length, Port, Sentence, Text, Time, U16, U32, U64,
        Word,
    },
    column,
};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Table {
    /// A row for each failure
    Events,
    /// A row for each holder of ports of each census
    Censuses,
    /// A row for each account of a listener's drops
    Queues,
    /// A row for each kind and cause of each namespace, of all totals
    Totals,
}

impl Table {
    /// The type of the records that rows are made of.
    pub(super) fn of(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::Censuses => "census",
            Self::Queues => "queue",
            Self::Totals => "totals",
        }
    }

    /// The name in `--table`, and of the schema in a Parquet file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Censuses => "censuses",
            Self::Queues => "queues",
            Self::Totals => "totals",
        }
    }

    /// Its columns, in order.
    pub(super) fn columns(self) -> Vec<Column> {
        match self {
            Self::Events => [
                &ALL[..],
                &FAILURE,
                &EVENT,
                &SOCKET,
                &PROCESS,
                &ROLE,
                &HOLDERS,
                &QUEUE,
                &EXPLAINED,
            ]
            .concat(),
            Self::Censuses => [&ALL[..], &CENSUS_ID, &FAILURE, &CENSUS, &PART, &HOLDER].concat(),
            Self::Queues => [
                &ALL[..],
                &QUEUE_ID,
                &LISTENER,
                &PROCESS,
                &HOLDERS,
                &QUEUE,
                &QUEUE_SUMS,
            ]
            .concat(),
            Self::Totals => [&ALL[..], &TOTALS].concat(),
        }
    }
}

const ALL: [Column; 4] = [
    column("time", Time, Record, &["time"]),
    column("host", Word, Run, &["host"]),
    column("boot_id", Word, Run, &["boot_id"]),
    column("run", Time, Run, &["time"]),
];

const FAILURE: [Column; 3] = [
    column("netns", U32, Record, &["netns"]),
    column("kind", Word, Record, &["kind"]),
    column("cause", Word, Record, &["cause"]),
];

const EVENT: [Column; 4] = [
    column("errno", Word, Record, &["errno"]),
    column("count", U64, Record, &["count"]),
    column("family", Word, Record, &["family"]),
    column("protocol", Word, Record, &["protocol"]),
];

const SOCKET: [Column; 5] = [
    column("local_address", Address, Record, &["local"]),
    column("local_port", Port, Record, &["local"]),
    column("remote_address", Address, Record, &["remote"]),
    column("remote_port", Port, Record, &["remote"]),
    column("socket_inode", U64, Record, &["socket", "inode"]),
];

const PROCESS: [Column; 10] = [
    column("pid", U32, Record, &["process", "pid"]),
    column("tid", U32, Record, &["process", "tid"]),
    column("comm", Text, Record, &["process", "comm"]),
    column("exe", Text, Record, &["process", "exe"]),
    column("cmdline", Text, Record, &["process", "cmdline"]),
    column("uid", U32, Record, &["process", "uid"]),
    column("kernel", Bool, Record, &["process", "kernel"]),
    column("container", Text, Record, &["process", "container", "id"]),
    column("unit", Text, Record, &["process", "unit"]),
    column("pod", Text, Record, &["process", "pod", "uid"]),
];

const ROLE: [Column; 1] = [column("role", Word, Record, &["process", "role"])];

const HOLDERS: [Column; 2] = [
    column("holder_count", Length, Record, &["holders"]),
    column("holders", Json, Record, &["holders"]),
];

const QUEUE: [Column; 6] = [
    column("accept_queue_len", U32, Record, &["accept_queue", "len"]),
    column("accept_queue_max", U32, Record, &["accept_queue", "max"]),
    column(
        "accept_queue_asked",
        I32,
        Record,
        &["accept_queue", "asked"],
    ),
    column(
        "accept_queue_somaxconn",
        U32,
        Record,
        &["accept_queue", "somaxconn"],
    ),
    column("request_queue_len", U32, Record, &["request_queue", "len"]),
    column("request_queue_max", U32, Record, &["request_queue", "max"]),
];

const EXPLAINED: [Column; 6] = [
    column("syncookie", Bool, Record, &["syncookie"]),
    column("port_range_low", U16, Record, &["port_range", "low"]),
    column("port_range_high", U16, Record, &["port_range", "high"]),
    column("census", U64, Record, &["census"]),
    column("queue", U64, Record, &["queue"]),
    column("hook", Word, Record, &["hook"]),
];

const CENSUS_ID: [Column; 1] = [column("census", U64, Record, &["id"])];

const CENSUS: [Column; 17] = [
    column("protocol", Word, Record, &["protocol"]),
    column("source", Word, Record, &["source"]),
    column("destination_address", Address, Record, &["destination"]),
    column("destination_port", Port, Record, &["destination"]),
    column("range_low", U16, Record, &["range", "low"]),
    column("range_high", U16, Record, &["range", "high"]),
    column("range_own", Bool, Record, &["range", "own"]),
    column("range_reserved", U32, Record, &["range", "reserved"]),
    column("range_usable", U32, Record, &["range", "usable"]),
    column("free", U64, Record, &["free"]),
    column("unexplained", U64, Record, &["unexplained"]),
    column("method", Word, Record, &["bound_unused", "method"]),
    column("incomplete", Sentence, Record, &["bound_unused", "reason"]),
    column("sockets_read", U64, Record, &["sockets"]),
    column("took_ms", U64, Record, &["took_ms"]),
    column("advice", Ids, Record, &["advice"]),
    column("unavailable", Sentence, Record, &["unavailable"]),
];

const PART: [Column; 3] = [
    column("state", Word, Part, &["state"]),
    column("state_ports", U64, Part, &["ports"]),
    column("state_sockets", U64, Part, &["sockets"]),
];

const HOLDER: [Column; 14] = [
    column("owner", Word, Inner, &["owner"]),
    column("comm", Text, Inner, &["comm"]),
    column("reason", Text, Inner, &["reason"]),
    column("ports", U64, Inner, &["ports"]),
    column("sockets", U64, Inner, &["sockets"]),
    column("process_count", U64, Inner, &["process_count"]),
    column("pid", U32, Inner, &["processes", "0", "pid"]),
    column("exe", Text, Inner, &["processes", "0", "exe"]),
    column("cmdline", Text, Inner, &["processes", "0", "cmdline"]),
    column("uid", U32, Inner, &["processes", "0", "uid"]),
    column(
        "container",
        Text,
        Inner,
        &["processes", "0", "container", "id"],
    ),
    column("unit", Text, Inner, &["processes", "0", "unit"]),
    column("pod", Text, Inner, &["processes", "0", "pod", "uid"]),
    column("processes", Json, Inner, &["processes"]),
];

const QUEUE_ID: [Column; 3] = [
    column("queue", U64, Record, &["id"]),
    column("since", Time, Record, &["since"]),
    column("until", Time, Record, &["until"]),
];

const LISTENER: [Column; 5] = [
    column("netns", U32, Record, &["netns"]),
    column("cause", Word, Record, &["cause"]),
    column("local_address", Address, Record, &["local"]),
    column("local_port", Port, Record, &["local"]),
    column("socket_inode", U64, Record, &["socket", "inode"]),
];

const QUEUE_SUMS: [Column; 13] = [
    column("syn_dropped", U64, Record, &["drops", "syn_dropped"]),
    column("ack_dropped", U64, Record, &["drops", "ack_dropped"]),
    column("overflow_reset", U64, Record, &["drops", "overflow_reset"]),
    column("connections", U64, Record, &["connections"]),
    column("connections_capped", Bool, Record, &["connections_capped"]),
    column("arrivals_per_s", F64, Record, &["arrivals_per_s"]),
    column("accepts_per_s", F64, Record, &["accepts_per_s"]),
    column("accepts", U64, Record, &["accepts"]),
    column("accept_failures", U64, Record, &["accept_failures"]),
    column("accept_errno", Word, Record, &["accept_errno"]),
    column("ghosts", U64, Record, &["ghosts", "count"]),
    column("ghost_peers", Json, Record, &["ghosts", "peers"]),
    column("advice", Ids, Record, &["advice"]),
];

const TOTALS: [Column; 17] = [
    column("since", Time, Record, &["since"]),
    column("final", Bool, Record, &["final"]),
    column("netns", U32, Part, &["netns"]),
    column("kind", Word, Part, &["kind"]),
    column("cause", Word, Part, &["cause"]),
    column("counted", U64, Part, &["count"]),
    column("events", U64, Inner, &["events"]),
    column("missing", I64, Inner, &["missing"]),
    column("all_counted", U64, Record, &["counted"]),
    column("all_described", U64, Record, &["described"]),
    column("all_summed", U64, Record, &["summed"]),
    column("all_lost", U64, Record, &["lost"]),
    column("all_filtered", U64, Record, &["filtered"]),
    column(
        "all_filtered_in_kernel",
        U64,
        Record,
        &["filtered_in_kernel"],
    ),
    column("all_malformed", U64, Record, &["malformed"]),
    column("all_unplaced", U64, Record, &["unplaced"]),
    column("all_unjudged", U64, Record, &["unjudged"]),
];
