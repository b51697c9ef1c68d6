//! What is forgotten when too much is remembered? What was read longest ago.

use std::{collections::HashMap, hash::Hash, time::Instant};

/// Makes room for one more if there are `most`: forgets half, those that were read
/// longest ago. Halves, so that who is full does not look for the oldest each time.
pub(super) fn make_room<K: Hash + Eq, V>(known: &mut HashMap<K, (V, Instant)>, most: usize) {
    if known.len() < most || known.is_empty() {
        return;
    }
    let mut times: Vec<Instant> = known.values().map(|(_, read)| *read).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    known.retain(|_, (_, read)| *read > *median);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_older_half_goes() {
        let begun = Instant::now();
        let mut known = HashMap::new();
        for n in 0..100_u64 {
            make_room(&mut known, 10);
            known.insert(n, ((), begun + Duration::from_secs(n)));
            assert!(known.len() <= 10 && known.contains_key(&n));
            assert!(n < 4 || known.contains_key(&(n - 3)), "{n}");
        }
    }

    #[test]
    fn what_was_read_at_once_goes_at_once() {
        let now = Instant::now();
        let mut known: HashMap<_, _> = (0..10).map(|n| (n, ((), now))).collect();
        make_room(&mut known, 10);
        assert!(known.is_empty());
        make_room(&mut known, 0);
        assert!(known.is_empty());
    }
}
