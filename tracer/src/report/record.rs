//! What is in a record that a file gave us?
//!
//! Everything in it may be missing, of another type, or absurd. What is taken
//! from it is bounded in size; strings stay as they are until they are shown.

use jiff::Timestamp;
use serde_json::Value;
use tracer_common::{Cause, Kind};

/// Most bytes of a name or an address.
const NAME: usize = 128;
/// Most bytes of a sentence.
const SENTENCE: usize = 1024;
/// Most entries of a list of lines.
pub(super) const LIST: usize = 16;
/// Most holders of a part, most processes of a holder, most peers: text shows
/// fewer.
const FEW: usize = 4;

/// A process, as told in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) kernel: bool,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    pub(super) cause: Cause,
    pub(super) count: u64,
    pub(super) process: Option<Who>,
    pub(super) netns: u64,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) inode: u64,
    pub(super) census: Option<u64>,
}

/// Where the ports went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) time: Timestamp,
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) is_own: bool,
    pub(super) usable: u64,
    pub(super) parts: Vec<Part>,
    pub(super) free: u64,
    pub(super) unexplained: u64,
    /// Why bound, unused sockets may be missing.
    pub(super) incomplete: Option<String>,
    pub(super) advice: Vec<Advice>,
    pub(super) unavailable: Option<String>,
}

impl Census {
    /// Ports that something takes.
    pub(super) fn taken(&self) -> u64 {
        let ports = self.parts.iter().map(|part| part.ports);
        ports.fold(0, u64::saturating_add)
    }

    /// Who has most of them.
    pub(super) fn culprit(&self) -> Option<(&Part, &Holder)> {
        self.parts
            .iter()
            .flat_map(|part| part.holders.iter().map(move |holder| (part, holder)))
            .min_by_key(|(_, holder)| std::cmp::Reverse(holder.ports))
    }
}

/// The ports in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) state: String,
    pub(super) ports: u64,
    pub(super) holders: Vec<Holder>,
    /// Holders that are not in `holders`.
    pub(super) more: u64,
}

/// Who has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) owner: String,
    pub(super) comm: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) ports: u64,
    pub(super) sockets: u64,
    pub(super) process_count: u64,
    /// Those with most ports.
    pub(super) processes: Vec<Who>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) id: String,
    pub(super) text: String,
}

/// What the drops of one listener added up to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    pub(super) id: u64,
    pub(super) netns: u64,
    pub(super) local: String,
    pub(super) inode: u64,
    pub(super) process: Option<Who>,
    pub(super) holders: Vec<Who>,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) len: Option<u64>,
    pub(super) max: Option<u64>,
    pub(super) asked: Option<i64>,
    pub(super) somaxconn: Option<u64>,
    pub(super) request_len: Option<u64>,
    pub(super) request_max: Option<u64>,
    pub(super) drops: u64,
    pub(super) connections: u64,
    pub(super) is_capped: bool,
    pub(super) arrivals_per_s: Option<f64>,
    pub(super) accepts_per_s: Option<f64>,
    pub(super) accepts: Option<u64>,
    pub(super) accept_failures: u64,
    pub(super) accept_errno: Option<String>,
    pub(super) ghosts: u64,
    pub(super) ghost_peers: Vec<String>,
    pub(super) advice: Vec<Advice>,
}

/// The number in `value`; negative, fractional or too large: none.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64()
}

/// The same, 0 if there is none.
pub(super) fn amount(value: &Value) -> u64 {
    number(value).unwrap_or(0)
}

/// The name in `value`.
pub(super) fn name(value: &Value) -> Option<String> {
    value.as_str().map(short)
}

/// A name of bounded length.
pub(super) fn short(text: &str) -> String {
    cut(text, NAME)
}

/// A sentence of bounded length.
pub(super) fn sentence(value: &Value) -> Option<String> {
    value.as_str().map(|text| cut(text, SENTENCE))
}

pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// The entries of a list, `most` of them.
pub(super) fn list(value: &Value, most: usize) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten().take(most)
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

pub(super) fn who(value: &Value) -> Option<Who> {
    value.as_object()?;
    Some(Who {
        pid: number(&value["pid"]).and_then(|pid| u32::try_from(pid).ok())?,
        comm: name(&value["comm"]).unwrap_or_default(),
        kernel: value["kernel"] == true,
    })
}

fn people(value: &Value, most: usize) -> Vec<Who> {
    list(value, most).filter_map(who).collect()
}

pub(super) fn kind_named(name: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| kind.name() == name)
}

pub(super) fn cause_named(name: &str) -> Option<Cause> {
    Cause::ALL
        .iter()
        .copied()
        .find(|cause| cause.name() == name)
}

/// `None`: without a time, a kind or a cause that we know it says nothing.
pub(super) fn event(record: &Value) -> Option<Event> {
    Some(Event {
        time: time(&record["time"])?,
        kind: kind_named(record["kind"].as_str()?)?,
        cause: cause_named(record["cause"].as_str()?)?,
        count: number(&record["count"]).unwrap_or(1),
        process: who(&record["process"]),
        netns: amount(&record["netns"]),
        local: name(&record["local"]).unwrap_or_default(),
        remote: name(&record["remote"]).unwrap_or_default(),
        inode: amount(&record["socket"]["inode"]),
        census: number(&record["census"]),
    })
}

pub(super) fn census(record: &Value) -> Option<Census> {
    let range = &record["range"];
    let is_incomplete = record["bound_unused"]["method"] == "incomplete";
    let incomplete = sentence(&record["bound_unused"]["reason"]);
    Some(Census {
        time: time(&record["time"])?,
        source: name(&record["source"]),
        destination: name(&record["destination"]),
        low: amount(&range["low"]),
        high: amount(&range["high"]),
        is_own: range["own"] == true,
        usable: amount(&range["usable"]),
        parts: list(&record["parts"], LIST).map(part).collect(),
        free: amount(&record["free"]),
        unexplained: amount(&record["unexplained"]),
        incomplete: is_incomplete.then(|| incomplete.unwrap_or_default()),
        advice: advice(&record["advice"]),
        unavailable: sentence(&record["unavailable"]),
    })
}

fn part(value: &Value) -> Part {
    let all = value["holders"].as_array().map_or(0, Vec::len);
    Part {
        state: name(&value["state"]).unwrap_or_default(),
        ports: amount(&value["ports"]),
        holders: list(&value["holders"], FEW).map(holder).collect(),
        more: u64::try_from(all.saturating_sub(FEW)).unwrap_or(u64::MAX),
    }
}

fn holder(value: &Value) -> Holder {
    Holder {
        owner: name(&value["owner"]).unwrap_or_default(),
        comm: name(&value["comm"]),
        reason: sentence(&value["reason"]),
        ports: amount(&value["ports"]),
        sockets: amount(&value["sockets"]),
        process_count: amount(&value["process_count"]),
        processes: people(&value["processes"], FEW),
    }
}

fn advice(value: &Value) -> Vec<Advice> {
    list(value, FEW)
        .filter_map(|advice| {
            Some(Advice {
                id: name(&advice["id"])?,
                text: sentence(&advice["text"])?,
            })
        })
        .collect()
}

pub(super) fn queue(record: &Value) -> Option<Queue> {
    let accept = &record["accept_queue"];
    let request = &record["request_queue"];
    let drops = record["drops"].as_object().into_iter().flatten();
    let peers = list(&record["ghosts"]["peers"], FEW);
    Some(Queue {
        id: number(&record["id"])?,
        netns: amount(&record["netns"]),
        local: name(&record["local"]).unwrap_or_default(),
        inode: amount(&record["socket"]["inode"]),
        process: who(&record["process"]),
        holders: people(&record["holders"], LIST),
        since: time(&record["since"])?,
        until: time(&record["until"])?,
        len: number(&accept["len"]),
        max: number(&accept["max"]),
        asked: accept["asked"].as_i64(),
        somaxconn: number(&accept["somaxconn"]),
        request_len: number(&request["len"]),
        request_max: number(&request["max"]),
        drops: drops.fold(0, |sum, (_, count)| sum.saturating_add(amount(count))),
        connections: amount(&record["connections"]),
        is_capped: record["connections_capped"] == true,
        arrivals_per_s: record["arrivals_per_s"].as_f64(),
        accepts_per_s: record["accepts_per_s"].as_f64(),
        accepts: number(&record["accepts"]),
        accept_failures: amount(&record["accept_failures"]),
        accept_errno: name(&record["accept_errno"]),
        ghosts: amount(&record["ghosts"]["count"]),
        ghost_peers: peers.filter_map(|peer| name(&peer["address"])).collect(),
        advice: advice(&record["advice"]),
    })
}
