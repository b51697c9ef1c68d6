//! Which keys are the heaviest, in memory that has a bound?
//!
//! A table that is full lets go of its lighter half. What it lets go of stays
//! in `others`, so the sum over everything is always exact; a key that comes
//! in later may have been here before, and says that it is partial.

use std::collections::BTreeMap;

/// A bounded table of counts, with a detail for each key.
#[derive(Clone, Debug)]
pub(super) struct Tally<K, V> {
    capacity: usize,
    rows: BTreeMap<K, Row<V>>,
    others: Others,
}

/// What is known about one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Row<V> {
    pub(super) count: u64,
    /// The key may have been let go of before: `count` is a lower limit.
    pub(super) is_partial: bool,
    pub(super) detail: V,
}

/// What is not told one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// Keys; one that was let go of twice is in here twice.
    pub(super) keys: u64,
    pub(super) count: u64,
}

impl<K: Clone + Ord, V: Default> Tally<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(2),
            rows: BTreeMap::new(),
            others: Others::default(),
        }
    }

    /// Adds to a key, which is new or not; returns its detail.
    pub(super) fn add(&mut self, key: &K, count: u64) -> &mut V {
        if self.rows.len() >= self.capacity && !self.rows.contains_key(key) {
            self.let_go();
        }
        let is_partial = self.others.keys > 0;
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row {
            count: 0,
            is_partial,
            detail: V::default(),
        });
        row.count = row.count.saturating_add(count);
        &mut row.detail
    }

    pub(super) fn get(&self, key: &K) -> Option<&Row<V>> {
        self.rows.get(key)
    }

    pub(super) fn detail(&mut self, key: &K) -> Option<&mut V> {
        self.rows.get_mut(key).map(|row| &mut row.detail)
    }

    /// Every key that is still here, the heaviest first.
    pub(super) fn by_weight(&self) -> Vec<(&K, &Row<V>)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        // Stable: equal counts stay in the order of their keys.
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.count));
        rows
    }

    /// What remains when the heaviest `shown` are told one by one.
    pub(super) fn others(&self, shown: usize) -> Others {
        let rest = self.by_weight().into_iter().skip(shown);
        rest.fold(self.others, |others, (_, row)| Others {
            keys: others.keys.saturating_add(1),
            count: others.count.saturating_add(row.count),
        })
    }

    /// Keys that were let go of.
    pub(super) fn let_go_of(&self) -> u64 {
        self.others.keys
    }

    fn let_go(&mut self) {
        let mut weights: Vec<(u64, K)> = self
            .rows
            .iter()
            .map(|(key, row)| (row.count, key.clone()))
            .collect();
        weights.sort_unstable();
        weights.truncate(self.capacity / 2);
        for (count, key) in weights {
            self.rows.remove(&key);
            self.others.keys = self.others.keys.saturating_add(1);
            self.others.count = self.others.count.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_keys_stay_within_the_bound() {
        let mut tally: Tally<u64, ()> = Tally::new(100);
        for key in 0..1_000_000 {
            tally.add(&key, 1);
            if key % 10 == 0 {
                tally.add(&7, 1);
            }
        }
        assert!(tally.rows.len() <= 100);
        let heaviest = tally.by_weight()[0];
        assert_eq!((*heaviest.0, heaviest.1.count), (7, 100_001));
        assert!(!heaviest.1.is_partial, "it never left");
        let rest = tally.others(1);
        assert_eq!(rest.count, 999_999);
        assert_eq!(rest.keys, 999_999);
    }

    #[test]
    fn who_comes_late_may_have_been_here() {
        let mut tally: Tally<u64, ()> = Tally::new(2);
        tally.add(&1, 5);
        tally.add(&2, 1);
        tally.add(&3, 1);
        let rows: Vec<_> = tally
            .by_weight()
            .iter()
            .map(|(key, row)| (**key, row.count, row.is_partial))
            .collect();
        assert_eq!(rows, [(1, 5, false), (3, 1, true)]);
        assert_eq!(tally.others(2), Others { keys: 1, count: 1 });
        assert_eq!(tally.let_go_of(), 1);
    }

    #[test]
    fn huge_counts_do_not_wrap() {
        let mut tally: Tally<u64, ()> = Tally::new(2);
        tally.add(&1, u64::MAX);
        tally.add(&1, u64::MAX);
        tally.add(&2, u64::MAX);
        assert_eq!(tally.others(0).count, u64::MAX);
    }
}
