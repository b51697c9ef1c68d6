//! Which moment of a capture does the user mean?

use jiff::{
    Span, Timestamp, Zoned,
    civil::{DateTime, Time},
    tz::TimeZone,
};

const EXPECTED: &str = "expected 2026-01-31T03:00:00Z, \"2026-01-31 03:00\", 03:00 or \"10m ago\"";

/// A moment, or a time of day that only a capture makes one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Moment(Timestamp),
    /// In the local time zone, as everything is shown.
    TimeOfDay(Time),
}

/// Reads a moment of the command line.
pub(crate) fn parse(text: &str) -> Result<When, String> {
    When::read(text, &Zoned::now())
}

impl When {
    /// Reads `2026-01-31T03:00:00Z`, `2026-01-31 03:00[:30]`, `2026-01-31`,
    /// `03:00[:30]` or `10m ago`, as seen `now`.
    fn read(text: &str, now: &Zoned) -> Result<Self, String> {
        let text = text.trim();
        if let Some(ago) = text.strip_suffix("ago") {
            let ago = crate::cli::duration(ago.trim())?;
            let earlier = now.timestamp().checked_sub(ago);
            return earlier
                .map(Self::Moment)
                .map_err(|_| "that is too long ago".to_owned());
        }
        if let Ok(moment) = text.parse() {
            return Ok(Self::Moment(moment));
        }
        let is_clock = |byte: u8| byte.is_ascii_digit() || byte == b':';
        if text.bytes().all(is_clock) && text.contains(':') {
            let time = text.parse().map_err(|_| EXPECTED)?;
            return Ok(Self::TimeOfDay(time));
        }
        let civil: DateTime = text.parse().map_err(|_| EXPECTED)?;
        let moment = civil.to_zoned(now.time_zone().clone());
        Ok(Self::Moment(moment.map_err(|_| EXPECTED)?.timestamp()))
    }

    /// The moment in a capture: a time of day is the last such before its records
    /// end at `last`. `None`: there is no record.
    pub(crate) fn before(self, last: Option<Timestamp>) -> Option<Timestamp> {
        self.near(last?, &TimeZone::system(), -1)
    }

    /// The same for an end: a time of day is the first such after the `begin`.
    pub(crate) fn after(self, begin: Timestamp) -> Option<Timestamp> {
        self.near(begin, &TimeZone::system(), 1)
    }

    /// The time of day on the day of `moment`, or some days later if it is not on
    /// that side.
    fn near(self, moment: Timestamp, zone: &TimeZone, days: i64) -> Option<Timestamp> {
        let time = match self {
            Self::Moment(moment) => return Some(moment),
            Self::TimeOfDay(time) => time,
        };
        let day = moment.to_zoned(zone.clone()).date();
        let on = |day: jiff::civil::Date| {
            let zoned = day.to_datetime(time).to_zoned(zone.clone());
            zoned.ok().map(|zoned| zoned.timestamp())
        };
        let first = on(day)?;
        let is_there = match days {
            ..0 => first <= moment,
            _ => first >= moment,
        };
        if is_there {
            return Some(first);
        }
        on(day.checked_add(Span::new().days(days)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// jiff knows fixed offsets without a time-zone database.
    const NOW: &str = "2026-11-21T09:00:00+01:00[+01:00]";

    fn read(text: &str) -> Result<When, String> {
        let now: Zoned = NOW.parse().map_err(|_| "NOW")?;
        When::read(text, &now)
    }

    #[test]
    fn what_people_write() -> Result<(), Box<dyn std::error::Error>> {
        let table = [
            ("2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z"),
            ("2026-11-21T03:00:00.5+02:00", "2026-11-21T01:00:00.5Z"),
            ("2026-11-20 23:30", "2026-11-20T22:30:00Z"),
            ("2026-11-20T23:30:05", "2026-11-20T22:30:05Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("10m ago", "2026-11-21T07:50:00Z"),
            ("2h ago", "2026-11-21T06:00:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), Ok(When::Moment(expected.parse()?)), "{text}");
        }
        for (text, expected) in [("03:00", (3, 0, 0)), ("23:00:30", (23, 0, 30))] {
            let (hour, minute, second) = expected;
            let time = Time::new(hour, minute, second, 0)?;
            assert_eq!(read(text), Ok(When::TimeOfDay(time)), "{text}");
        }
        for bad in [
            "",
            "ago",
            "3",
            "03",
            "0300",
            "25:00",
            "03:60",
            "T03:00",
            "03:00Z",
            "x ago",
            "yesterday",
            "-1m ago",
            "03:00 ago",
            "größer als ü",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn a_time_of_day_is_in_the_capture() -> Result<(), Box<dyn std::error::Error>> {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let near = |text: &str, moment: &str, days| {
            let moment = moment.parse().ok()?;
            let when = read(text).ok()?.near(moment, &zone, days)?;
            Some(when.to_string())
        };
        // Until nine in the morning, in a zone an hour ahead of UTC.
        let end = "2026-10-02T08:00:00Z";
        for (text, expected) in [
            ("03:00", "2026-10-02T02:00:00Z"),
            ("09:00", "2026-10-02T08:00:00Z"),
            ("09:00:01", "2026-10-01T08:00:01Z"),
            ("23:30", "2026-10-01T22:30:00Z"),
            ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ] {
            assert_eq!(near(text, end, -1).as_deref(), Some(expected), "{text}");
        }
        // From eleven in the evening on.
        let begin = "2026-10-01T22:00:00Z";
        for (text, expected) in [
            ("23:00", "2026-10-01T22:00:00Z"),
            ("23:30", "2026-10-01T22:30:00Z"),
            ("03:00", "2026-10-02T02:00:00Z"),
            ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ] {
            assert_eq!(near(text, begin, 1).as_deref(), Some(expected), "{text}");
        }
        // Nothing is before the first day of the calendar.
        assert_eq!(
            near("23:00", "-009999-01-03T00:00:00Z", -1).as_deref(),
            Some("-009999-01-02T22:00:00Z")
        );
        assert_eq!(When::TimeOfDay(Time::midnight()).before(None), None);
        Ok(())
    }
}
