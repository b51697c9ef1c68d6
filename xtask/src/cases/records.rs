//! What tracer said about a lab, and questions to it.

use super::lab::Lab;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The records of the lab's namespaces.
#[derive(Debug)]
pub(super) struct Records(Vec<Value>);

/// Connections that may still be on their way into a state.
const CLOSING: u64 = 2;

/// Who should hold the ports of a census.
#[derive(Debug, Clone, Copy)]
pub(super) struct Culprit {
    pub(super) state: &'static str,
    pub(super) comm: &'static str,
    pub(super) pid: u32,
    /// As someone else counted them, [`CLOSING`] of them perhaps not there yet.
    pub(super) ports: u64,
}

impl Records {
    /// Reads JSON lines; the last one may still be on its way.
    pub(super) fn read(text: &str, lab: &Lab) -> Result<Self> {
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let mut records = Vec::new();
        for line in whole.lines() {
            let record: Value =
                serde_json::from_str(line).with_context(|| format!("this is not JSON: {line}"))?;
            let netns = &record["netns"];
            if [&lab.client, &lab.server]
                .iter()
                .any(|side| *netns == side.netns)
            {
                records.push(record);
            }
        }
        Ok(Self(records))
    }

    fn of_type(&self, what: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |record| record["type"] == what)
    }

    /// The events of one namespace.
    pub(super) fn events(&self, netns: u64) -> Vec<&Value> {
        self.of_type("event")
            .filter(|event| event["netns"] == netns)
            .collect()
    }

    /// The events of one namespace with this kind and cause; there must be some.
    pub(super) fn failures(&self, netns: u64, kind: &str, cause: &str) -> Result<Vec<&Value>> {
        let events = self.events(netns);
        let seen: Vec<String> = events
            .iter()
            .map(|event| format!("{} {}", event["kind"], event["cause"]))
            .collect();
        let found: Vec<&Value> = events
            .into_iter()
            .filter(|event| event["kind"] == kind && event["cause"] == cause)
            .collect();
        ensure!(
            !found.is_empty(),
            "no event `{kind}, {cause}` among {}: {}",
            seen.len(),
            seen.join(", ")
        );
        Ok(found)
    }

    /// What `tracer ports` says of one namespace.
    pub(super) fn ports(&self, netns: u64) -> Result<&Value> {
        self.of_type("ports")
            .find(|record| record["netns"] == netns)
            .with_context(|| format!("there are no ports of namespace {netns}"))
    }

    /// The census that an event refers to.
    pub(super) fn census(&self, event: &Value) -> Result<&Value> {
        let census = self.referred("census", event)?[0];
        if let Some(why) = census["unavailable"].as_str() {
            bail!("there was no census: {why}");
        }
        Ok(census)
    }

    /// The records, one or more, about the listener that an event refers to.
    pub(super) fn queues(&self, event: &Value) -> Result<Vec<&Value>> {
        self.referred("queue", event)
    }

    fn referred(&self, what: &str, event: &Value) -> Result<Vec<&Value>> {
        let id = event[what]
            .as_u64()
            .with_context(|| format!("the event refers to no {what}"))?;
        let found: Vec<&Value> = self
            .of_type(what)
            .filter(|record| record["id"] == id)
            .collect();
        ensure!(!found.is_empty(), "there is no {what} {id}");
        Ok(found)
    }

    /// No port is left out of a census or counted twice.
    pub(super) fn add_up(&self) -> Result<()> {
        for census in self.of_type("census") {
            let parts = total(&census["parts"], "ports")?;
            let (free, unexplained) = (number(census, "free")?, number(census, "unexplained")?);
            let usable = number(&census["range"], "usable")?;
            ensure!(
                parts + free + unexplained == usable,
                "{parts} in parts + {free} free + {unexplained} unexplained are not {usable} usable ports"
            );
            for part in list(&census["parts"]) {
                let (ports, held) = (number(part, "ports")?, total(&part["holders"], "ports")?);
                ensure!(
                    ports == held,
                    "{} has {ports} ports, its holders {held}",
                    part["state"]
                );
            }
        }
        Ok(())
    }
}

/// A number that must be there.
pub(super) fn number(value: &Value, name: &str) -> Result<u64> {
    value[name]
        .as_u64()
        .with_context(|| format!("{name} is {}, not a number", value[name]))
}

/// The elements of an array.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn total(array: &Value, name: &str) -> Result<u64> {
    list(array).iter().map(|value| number(value, name)).sum()
}

/// The event, or the finding, names this process.
pub(super) fn names(record: &Value, comm: &str, pid: u32) -> Result<()> {
    let process = &record["process"];
    ensure!(
        process["comm"] == comm && process["pid"] == pid,
        "it should name {comm}[{pid}], not {}[{}]",
        process["comm"],
        process["pid"]
    );
    Ok(())
}

/// The greatest part of a census is in this state, and by this process.
pub(super) fn blames(census: &Value, culprit: Culprit) -> Result<()> {
    let Culprit {
        state,
        comm,
        pid,
        ports,
    } = culprit;
    let part = &census["parts"][0];
    let holder = &part["holders"][0];
    let process = &holder["processes"][0];
    ensure!(
        part["state"] == state
            && holder["owner"] == "process"
            && holder["comm"] == comm
            && process["pid"] == pid
            && number(holder, "ports")?.abs_diff(ports) <= CLOSING,
        "the culprit should be {comm}[{pid}] with {ports} ports in {state}, not {}[{}] with {} ports in {}",
        holder["comm"],
        process["pid"],
        holder["ports"],
        part["state"]
    );
    Ok(())
}

/// The accept queue as the kernel saw it when it dropped.
pub(super) fn queue_was(record: &Value, len: u64, max: u64) -> Result<()> {
    let queue = &record["accept_queue"];
    ensure!(
        queue["len"] == len && queue["max"] == max,
        "the accept queue should be {len}/{max}, not {}/{}",
        queue["len"],
        queue["max"]
    );
    Ok(())
}

/// One of the records of a listener counts exactly these ghosts, all of this
/// program, and the last one, after they have closed their sockets, none.
pub(super) fn haunted(queues: &[&Value], ghosts: u64, comm: &str) -> Result<()> {
    let seen: Vec<u64> = queues
        .iter()
        .map(|queue| number(&queue["ghosts"], "count"))
        .collect::<Result<_>>()?;
    let at = seen.iter().position(|count| *count == ghosts);
    let at = at.with_context(|| format!("{ghosts} ghosts should be counted, not {seen:?}"))?;
    let peers = list(&queues[at]["ghosts"]["peers"]);
    ensure!(
        !peers.is_empty() && peers.iter().all(|peer| peer["process"]["comm"] == comm),
        "the ghosts should be {comm}'s: {peers:?}"
    );
    ensure!(
        seen.last() == Some(&0),
        "in the end nobody should be a ghost any more: {seen:?}"
    );
    Ok(())
}

/// The finding says what to do.
pub(super) fn advises(finding: &Value) -> Result<()> {
    ensure!(!list(&finding["advice"]).is_empty(), "there is no advice");
    Ok(())
}
