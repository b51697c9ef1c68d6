//! Where a replay begins.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// A moment, or a time of the day on which a capture begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Moment(Timestamp),
    /// In the local time zone, as `tracer watch` shows it.
    TimeOfDay(Time),
}

impl From {
    /// Reads RFC 3339, `HH:MM` or `HH:MM:SS`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::Moment(moment));
        }
        let is_clock = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b':');
        match text.parse() {
            Ok(time) if is_clock && text.contains(':') => Ok(Self::TimeOfDay(time)),
            _ => Err("expected HH:MM, HH:MM:SS or 2026-01-31T03:00:00Z".into()),
        }
    }

    /// The moment that is meant, in a capture that begins at `first`.
    pub(super) fn after(self, first: Timestamp) -> Timestamp {
        self.on_day_of(first, TimeZone::system())
    }

    fn on_day_of(self, first: Timestamp, zone: TimeZone) -> Timestamp {
        match self {
            Self::Moment(moment) => moment,
            Self::TimeOfDay(time) => {
                let day = first.to_zoned(zone.clone()).date();
                let moment = day.to_datetime(time).to_zoned(zone);
                moment.map_or(first, |moment| moment.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(from: &str) -> Option<String> {
        let first = "2026-11-20T22:30:00Z".parse().ok()?;
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let from = From::parse(from).ok()?;
        Some(from.on_day_of(first, zone).to_string())
    }

    #[test]
    fn times_of_day_are_local_and_of_the_first_day() {
        let is = |from, expected: &str| assert_eq!(at(from).as_deref(), Some(expected), "{from}");
        is("03:00", "2026-11-21T01:00:00Z");
        is("03:00:30", "2026-11-21T01:00:30Z");
        is("2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z");
        is("2026-11-21T03:00:00+01:00", "2026-11-21T02:00:00Z");
    }

    #[test]
    fn all_else_is_wrong() {
        for bad in [
            "",
            "3",
            "03",
            "0300",
            "25:00",
            "03:60",
            "yesterday",
            "2026-11-21",
            "T03:00",
            "03:00Z",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
