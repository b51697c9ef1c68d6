//! The order of Debian package versions.

use std::cmp::Ordering;

/// Compares two versions as dpkg does.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a) = epoch(a);
    let (b_epoch, b) = epoch(b);
    let (a_upstream, a_revision) = a.rsplit_once('-').unwrap_or((a, ""));
    let (b_upstream, b_revision) = b.rsplit_once('-').unwrap_or((b, ""));
    a_epoch
        .cmp(&b_epoch)
        .then_with(|| compare_part(a_upstream, b_upstream))
        .then_with(|| compare_part(a_revision, b_revision))
}

/// Whether `version` belongs to the release `series` (`6.1` holds 6.1.9, not 6.12).
pub(crate) fn is_of(version: &str, series: &str) -> bool {
    version
        .strip_prefix(series)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `(major, minor)` of a version.
pub(crate) fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Runs of non-digits and of digits take turns; `~` sorts before the end, letters before the rest.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_word, a_rest) = split(a, |c| !c.is_ascii_digit());
        let (b_word, b_rest) = split(b, |c| !c.is_ascii_digit());
        let (a_digits, a_rest) = split(a_rest, |c| c.is_ascii_digit());
        let (b_digits, b_rest) = split(b_rest, |c| c.is_ascii_digit());
        let number = |digits: &str| digits.parse::<u64>().unwrap_or(0);
        let order =
            compare_words(a_word, b_word).then_with(|| number(a_digits).cmp(&number(b_digits)));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

fn compare_words(a: &str, b: &str) -> Ordering {
    // The end of a word weighs more than `~` and less than any other character.
    let weights = |word: &str| -> Vec<u32> {
        word.chars()
            .map(|c| match c {
                '~' => 0,
                c if c.is_ascii_alphabetic() => u32::from(c) + 1,
                c => u32::from(c) + 1000,
            })
            .chain([1])
            .collect()
    };
    weights(a).cmp(&weights(b))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending() {
        let versions = [
            "5.10.223-1",
            "5.10.262-1",
            "6.1.192-1~deb11u1",
            "6.1.192-1",
            "6.1.192-2",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "6.18.9-1~bpo13+1",
            "6.18.15-1~bpo13+1",
            "1:0.1",
        ];
        for pair in versions.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            assert_eq!(compare(pair[0], pair[0]), Ordering::Equal, "{pair:?}");
        }
        assert_eq!(compare("1.0~rc1", "1.0"), Ordering::Less);
        assert_eq!(compare("1.0a", "1.0+"), Ordering::Less);
    }

    #[test]
    fn release_series() {
        assert!(is_of("6.1.192-2", "6.1"));
        assert!(!is_of("6.12.117-1", "6.1"));
        assert!(is_of("1.95.0+dfsg1-2", "1.95.0"));
        assert!(!is_of("1.95.01", "1.95.0"));
        assert_eq!(series("6.18.15-1~bpo13+1"), Some((6, 18)));
        assert_eq!(series("deb"), None);
    }
}
