//! Which records belong to what was asked for? Failures that meet the filter, what
//! explains them, and all that is about the run as a whole.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    filter::{Facts, Filter},
    record::Totals,
};

/// Most findings that are remembered as asked for; then the oldest are forgotten.
const MOST: usize = 65_536;

/// Chooses records.
pub(super) struct Chosen {
    filter: Filter,
    /// When and since which boot the present run began: ids are of one run.
    run: [Value; 2],
    /// Of censuses and queues that chosen failures refer to.
    findings: BTreeSet<u64>,
    /// Whether a failure met the filter.
    has_any: bool,
}

impl Chosen {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            run: [Value::Null, Value::Null],
            findings: BTreeSet::new(),
            has_any: false,
        }
    }

    /// The filter in words, if no failure met it.
    pub(super) fn unmet(&self) -> Option<String> {
        let is_unmet = !self.filter.is_off() && !self.has_any;
        is_unmet.then(|| self.filter.words().join(", "))
    }

    /// Leaves in totals what was asked for.
    pub(super) fn narrow(&self, totals: &mut Totals) {
        if !self.filter.is_off() {
            self.filter.narrow(totals, |_| true);
        }
    }

    /// Whether to show this record; in the order in which they stand in files.
    pub(super) fn has(&mut self, record: &Value) -> bool {
        if self.filter.is_off() {
            return true;
        }
        match record["type"].as_str() {
            Some("startup") => {
                let run = ["time", "boot_id"].map(|name| record[name].clone());
                if self.run != run {
                    self.run = run;
                    self.findings.clear();
                }
                true
            }
            Some("event") => {
                let is_wanted = self.filter.wants(&Facts::from(record));
                if is_wanted {
                    self.has_any = true;
                    self.note(&record["census"]);
                    self.note(&record["queue"]);
                }
                is_wanted
            }
            Some("census" | "queue") => {
                let id = record["id"].as_u64();
                id.is_some_and(|id| self.findings.contains(&id))
            }
            _ => true,
        }
    }

    fn note(&mut self, id: &Value) {
        self.findings.extend(id.as_u64());
        if self.findings.len() > MOST {
            self.findings.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_explains_a_chosen_failure_is_chosen() {
        let filter = Filter {
            ports: vec![80],
            ..Filter::default()
        };
        let mut chosen = Chosen::new(filter);
        let run = |time: &str| json!({ "type": "startup", "time": time, "boot_id": "a" });
        let event = |port: u16, id: u64| json!({ "type": "event", "kind": "connect_failed", "remote": format!("10.0.0.2:{port}"), "census": id, "queue": null });
        let census = |id: u64| json!({ "type": "census", "id": id });
        for (record, expected) in [
            (run("1"), true),
            (event(80, 1), true),
            (event(81, 2), false),
            (census(1), true),
            (census(2), false),
            // Another file of the same run.
            (run("1"), true),
            (census(1), true),
            // Another run.
            (run("2"), true),
            (census(1), false),
            (json!({ "type": "totals" }), true),
            (json!({ "type": "gap" }), true),
        ] {
            assert_eq!(chosen.has(&record), expected, "{record}");
        }
        assert!(Chosen::new(Filter::default()).has(&census(7)));
    }
}
