//! What is true of everything that strangers give: names, times, events.

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use tracer_common::{Cause, Event, Family, Hook, Kind};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    decode::{Malformed, comm, decode},
    output::sanitize::{harmless, printable},
    when,
};

/// Undoes what [`printable`] does, which shows that nothing got lost.
fn unescape(shown: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some(character) = rest.chars().next() {
        let (escaped, length) = match rest.get(..2) {
            Some("\\\\") => (vec![b'\\'], 2),
            Some("\\x") => (vec![u8::from_str_radix(rest.get(2..4)?, 16).ok()?], 4),
            Some("\\u") => {
                let end = rest.find('}')?;
                let code = u32::from_str_radix(rest.get(3..end)?, 16).ok()?;
                (char::from_u32(code)?.to_string().into_bytes(), end + 1)
            }
            _ => (character.to_string().into_bytes(), character.len_utf8()),
        };
        bytes.extend(escaped);
        rest = rest.get(length..)?;
    }
    Some(bytes)
}

/// An event whose tags are known, or nearly.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let tags = (
        0..8_u8,
        0..12_u8,
        any::<u8>(),
        prop::sample::select(vec![0, 4, 5, 6]),
    );
    (vec(any::<u8>(), size_of::<Event>()), tags).prop_map(|(bytes, tags)| {
        let mut event =
            Event::read_from_bytes(&bytes).unwrap_or_else(|_| zerocopy::FromZeros::new_zeroed());
        (event.kind, event.cause, event.hook, event.family) = tags;
        event.as_bytes().to_vec()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes are shown on one line, move no terminal, and can be told apart.
    #[test]
    fn what_is_shown_can_be_told_apart(bytes in vec(any::<u8>(), 0..60), text in any::<String>()) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let shown = printable(bytes);
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
            prop_assert_eq!(unescape(&shown), Some(bytes.to_vec()), "{:?}", shown);
            prop_assert_eq!(printable(shown.as_bytes()).replace("\\\\", "\\"), shown);
        }
        prop_assert!(!harmless(&text).chars().any(char::is_control));
        // Sentences hold names that are printable already.
        let shown = printable(&bytes);
        prop_assert_eq!(harmless(&shown), shown);
    }

    /// An event is read if its tags are known; its addresses are those in it.
    #[test]
    fn an_event_is_decoded_or_refused(bytes in event()) {
        let raw = Event::read_from_bytes(&bytes).map_err(|_| TestCaseError::fail("size"))?;
        let is_known = Kind::from_u8(raw.kind).is_some()
            && Cause::from_u8(raw.cause).is_some()
            && Hook::from_u8(raw.hook).is_some()
            && Family::from_u8(raw.family).is_some();
        match decode(&bytes) {
            Err(why) => prop_assert!(!is_known && why == Malformed::Tag),
            Ok(decoded) => {
                prop_assert!(is_known);
                let has_address = raw.family != Family::None as u8;
                prop_assert_eq!(decoded.local.map(|local| local.port()), has_address.then_some(raw.local_port));
                let has_remote = has_address && !matches!(decoded.kind, Kind::BindFailed | Kind::ListenFailed);
                prop_assert_eq!(decoded.remote.map(|remote| remote.port()), has_remote.then_some(raw.remote_port));
                let name = comm(&decoded.raw.caller);
                prop_assert!(!name.contains(&0) && raw.caller.comm.starts_with(name));
            }
        }
    }

    /// Bytes of any other size are no event.
    #[test]
    fn only_one_size_is_an_event(bytes in vec(any::<u8>(), 0..500)) {
        prop_assume!(bytes.len() != size_of::<Event>());
        prop_assert_eq!(decode(&bytes).err(), Some(Malformed::Size));
    }

    /// Whatever is given as a time is one or is not; a moment that was written is
    /// read as itself.
    #[test]
    fn times(text in any::<String>(), near in "[0-9T:Zago+. -]{0,24}", seconds in -200_000_000_000..200_000_000_000_i64, nanos in 0..1_000_000_000_i32) {
        for text in [text, near.clone(), format!("{near} ago")] {
            if let Ok(when) = when::parse(&text) {
                // It is one of any capture, too.
                let _ = when.before(Some(Timestamp::MIN));
                let _ = when.before(Some(Timestamp::MAX));
                let _ = when.after(Timestamp::MAX);
            }
        }
        let moment = Timestamp::new(seconds, nanos).map_err(|_| TestCaseError::fail("time"))?;
        prop_assert_eq!(when::parse(&moment.to_string()), Ok(when::When::Moment(moment)));
    }

    /// A time of day is less than a day (and what summer time takes) away.
    #[test]
    fn a_time_of_day_is_near(hour in 0..24, minute in 0..60, seconds in 0..4_000_000_000_i64) {
        let moment = Timestamp::from_second(seconds).map_err(|_| TestCaseError::fail("time"))?;
        let when = when::parse(&format!("{hour:02}:{minute:02}")).map_err(TestCaseError::fail)?;
        let before = when.before(Some(moment)).map_or(i64::MIN, Timestamp::as_second);
        let after = when.after(moment).map_or(i64::MAX, Timestamp::as_second);
        prop_assert!(before <= seconds && seconds <= after, "{} {} {}", before, seconds, after);
        prop_assert!(seconds - before < 26 * 3600 && after - seconds < 26 * 3600);
    }
}
