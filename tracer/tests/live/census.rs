//! What a census must say, and whether it adds up.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::case::Case;
use crate::netns::Namespace;

/// Who holds how many ports (or sockets) in which state: the key is `state name` or,
/// for what is no process, `state owner`.
pub(crate) type Shares = BTreeMap<String, u64>;

/// The first census about `cause` in `space` that tells of a failure of `kind`.
pub(crate) fn of(case: &Case, space: &Namespace, kind: &str, cause: &str) -> Result<Option<Value>> {
    let Some(tracer) = &case.tracer else {
        return Ok(None);
    };
    let record = tracer.await_record(|record| is_census(record, space, kind, cause))?;
    adds_up(&record)?;
    Ok(Some(record))
}

fn is_census(record: &Value, space: &Namespace, kind: &str, cause: &str) -> bool {
    record["type"] == "census"
        && record["netns"] == space.inum
        && record["kind"] == kind
        && record["cause"] == cause
}

/// The parts and what is left are the range, the holders are the parts.
pub(crate) fn adds_up(census: &Value) -> Result<()> {
    if census["unavailable"].is_string() {
        return Ok(());
    }
    let number = |value: &Value| {
        value
            .as_u64()
            .with_context(|| format!("a number in {census}"))
    };
    let mut sum = number(&census["free"])? + number(&census["unexplained"])?;
    for part in list(&census["parts"]) {
        let ports = number(&part["ports"])?;
        sum += ports;
        for what in ["ports", "sockets"] {
            let held: u64 = list(&part["holders"])
                .filter_map(|holder| holder[what].as_u64())
                .sum();
            ensure!(held == number(&part[what])?, "{what} of holders: {part}");
        }
        ensure!(
            ports > 0 || number(&part["sockets"])? > 0,
            "an empty part: {part}"
        );
    }
    let usable = number(&census["range"]["usable"])?;
    ensure!(sum == usable, "{sum} ports explained of {usable}: {census}");
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A census as shares, counted in `what` (ports or sockets).
pub(crate) fn shares(census: &Value, what: &str) -> Shares {
    let mut shares = Shares::new();
    for part in list(&census["parts"]) {
        let state = part["state"].as_str().unwrap_or_default();
        for holder in list(&part["holders"]) {
            let owner = holder["comm"].as_str().or(holder["owner"].as_str());
            let key = format!("{state} {}", owner.unwrap_or_default());
            *shares.entry(key).or_default() += holder[what].as_u64().unwrap_or_default();
        }
    }
    shares
}

/// Shares as a table in a scenario.
pub(crate) fn expected<const N: usize>(table: [(&str, u64); N]) -> Shares {
    table
        .into_iter()
        .map(|(key, count)| (key.to_owned(), count))
        .collect()
}

/// Compares.
pub(crate) fn agree(census: &Value, what: &str, wanted: &Shares) -> Result<()> {
    let seen = shares(census, what);
    ensure!(
        seen == *wanted,
        "expected {wanted:?}, got {seen:?} in {census}"
    );
    Ok(())
}

/// The pids that a census names for a state and a name.
pub(crate) fn pids(census: &Value, state: &str, comm: &str) -> Vec<u64> {
    let parts = list(&census["parts"]).filter(|part| part["state"] == state);
    let holders = parts.flat_map(|part| list(&part["holders"]));
    let mut pids: Vec<u64> = holders
        .filter(|holder| holder["comm"] == comm)
        .flat_map(|holder| list(&holder["processes"]))
        .filter_map(|process| process["pid"].as_u64())
        .collect();
    pids.sort_unstable();
    pids
}

/// How many sockets in `state` (as /proc/net/tcp writes it) the kernel lists in
/// `space`, with a local port in the range 40000 to 40099: the oracle.
pub(crate) fn listed(space: &Namespace, state: &str) -> Result<u64> {
    space.run(|| {
        let mut count = 0;
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/thread-self/net/{table}");
            let Ok(text) = std::fs::read_to_string(&path) else {
                bail!("{path} cannot be read");
            };
            count += text
                .lines()
                .skip(1)
                .filter(|row| is_listed(row, state))
                .count();
        }
        Ok(count as u64)
    })
}

fn is_listed(row: &str, state: &str) -> bool {
    let mut fields = row.split_ascii_whitespace().skip(1);
    let port = fields
        .next()
        .and_then(|local| local.rsplit_once(':'))
        .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    port.is_some_and(|port| (40000..40100).contains(&port)) && fields.nth(1) == Some(state)
}
