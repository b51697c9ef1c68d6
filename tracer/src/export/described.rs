//! How many events of each kind, cause and namespace did a run's files hold so
//! far? Totals are set beside that.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Most kinds, causes and namespaces, of all runs, that are counted, and most runs.
const MOST: usize = 16_384;
/// Most bytes of what tells one from another.
const NAME: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Described {
    /// Numbers of runs, by when and since which boot they began.
    runs: HashMap<String, u64>,
    /// The number of the present one.
    run: Option<u64>,
    counts: HashMap<Key, u64>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    run: u64,
    netns: u64,
    kind: String,
    cause: String,
}

impl Described {
    /// Goes on with the run of this `startup` record; where there is none, of
    /// this file.
    pub(super) fn begin(&mut self, startup: &Value, file: u64) {
        let name = match startup {
            Value::Null => format!("file {file}"),
            _ => format!("run {} {}", startup["time"], startup["boot_id"]),
        };
        self.run = None;
        if name.len() > NAME {
            return;
        }
        let next = u64::try_from(self.runs.len()).unwrap_or(u64::MAX);
        if self.runs.len() < MOST || self.runs.contains_key(&name) {
            self.run = Some(*self.runs.entry(name).or_insert(next));
        }
    }

    /// Counts an event.
    pub(super) fn count(&mut self, event: &Value) {
        let Some(key) = self.key(event) else {
            return;
        };
        let count = event["count"].as_u64().unwrap_or(1);
        if self.counts.len() < MOST || self.counts.contains_key(&key) {
            let sum = self.counts.entry(key).or_insert(0);
            *sum = sum.saturating_add(count);
        }
    }

    /// What stands beside an entry of `counts` of a `totals` record: `events`,
    /// and how many are `missing`. `null`: there were too many to count.
    pub(super) fn beside(&self, counted: &Value) -> Value {
        let Some(key) = self.key(counted) else {
            return Value::Null;
        };
        let events = match self.counts.get(&key) {
            Some(events) => *events,
            None if self.counts.len() < MOST => 0,
            None => return Value::Null,
        };
        let missing = counted["count"]
            .as_u64()
            .and_then(|counted| i64::try_from(i128::from(counted) - i128::from(events)).ok());
        let mut fields = Map::new();
        fields.insert("events".into(), events.into());
        fields.insert("missing".into(), missing.into());
        Value::Object(fields)
    }

    fn key(&self, of: &Value) -> Option<Key> {
        let name = |name| {
            let text = of[name].as_str()?;
            (text.len() <= NAME).then(|| text.to_owned())
        };
        Some(Key {
            run: self.run?,
            netns: of["netns"].as_u64()?,
            kind: name("kind")?,
            cause: name("cause")?,
        })
    }
}
