//! What tracer said about a namespace.

use super::watched::Line;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// The failures of a namespace by tracer's last totals.
pub(super) fn counted(lines: &[Line], netns: u64) -> Result<f64> {
    let totals = totals(lines)?;
    let rows = totals["counts"].as_array().into_iter().flatten();
    let own = rows.filter(|row| row["netns"] == netns);
    Ok(own.filter_map(|row| row["count"].as_f64()).sum())
}

/// tracer's last totals.
pub(super) fn totals(lines: &[Line]) -> Result<Value> {
    let last = lines
        .iter()
        .rfind(|(_, line)| line.contains("\"type\":\"totals\""));
    Ok(serde_json::from_str(&last.context("no totals")?.1)?)
}

/// Other records of a namespace.
pub(super) fn records(lines: &[Line], kind: &str, netns: u64) -> impl Iterator<Item = Value> {
    let of_kind = format!("\"type\":\"{kind}\"");
    let lines = lines
        .iter()
        .filter(move |(_, line)| line.contains(&of_kind));
    let records = lines.filter_map(|(_, line)| serde_json::from_str::<Value>(line).ok());
    records.filter(move |record| record["netns"] == netns)
}

/// An event of tracer.
pub(super) struct Event<'a> {
    pub(super) read: f64,
    pub(super) time: &'a str,
    /// How many failures it stands for.
    pub(super) count: f64,
}

/// The events of a namespace. There may be a million: what is needed is cut out.
pub(super) fn events(lines: &[Line], netns: u64) -> impl Iterator<Item = Event<'_>> {
    let of_namespace = format!("\"netns\":{netns},");
    lines.iter().filter_map(move |(read, line)| {
        let is_wanted = line.contains("\"type\":\"event\"") && line.contains(&of_namespace);
        let after = |name| line.split_once(name).map(|(_, rest)| rest);
        let (time, _) = after("\"time\":\"")?.split_once('"')?;
        let (count, _) = after("\"count\":")?.split_once(',')?;
        is_wanted.then_some(Event {
            read: *read,
            time,
            count: count.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_namespace() {
        let line = |netns| format!(r#"{{"type":"event","time":"now","count":3,"netns":{netns},"#);
        let lines = [(1.0, line(7)), (2.0, line(77))];
        let found: Vec<_> = events(&lines, 7)
            .map(|e| (e.read, e.time, e.count))
            .collect();
        assert_eq!(found, [(1.0, "now", 3.0)]);
    }
}
