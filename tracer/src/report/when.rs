//! Which moment does the user mean?

use jiff::{
    Span, Timestamp, Zoned,
    civil::{DateTime, Time},
};

/// Reads `2026-11-21T03:00:00Z`, `2026-11-21 03:00`, `03:00[:30]` or
/// `10m ago`, as seen `now`. A time without a date is the last such time: at
/// nine in the morning 03:00 was today, and 23:00 was yesterday.
pub(super) fn parse(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Some(ago) = text.strip_suffix("ago") {
        let ago = crate::cli::duration(ago.trim())?;
        let earlier = now.timestamp().checked_sub(ago);
        return earlier.map_err(|_| "that is too long ago".to_owned());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let has_date = text.get(..10).is_some_and(|date| !date.contains(':'));
    let wrong =
        |_| "expected 2026-11-21T03:00:00Z, \"2026-11-21 03:00\", 03:00 or \"10m ago\"".to_owned();
    let zone = now.time_zone().clone();
    if has_date {
        let civil: DateTime = text.parse().map_err(wrong)?;
        return Ok(civil.to_zoned(zone).map_err(wrong)?.timestamp());
    }
    let time: Time = text.parse().map_err(wrong)?;
    let today = now.datetime().date().to_datetime(time);
    let today = today.to_zoned(zone.clone()).map_err(wrong)?;
    if today.timestamp() <= now.timestamp() {
        return Ok(today.timestamp());
    }
    let yesterday = today.checked_sub(Span::new().days(1)).map_err(wrong)?;
    Ok(yesterday.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() -> Result<(), Box<dyn std::error::Error>> {
        // jiff knows fixed offsets without a time-zone database.
        let now: Zoned = "2026-11-21T09:00:00+01:00[+01:00]".parse()?;
        let table = [
            ("2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z"),
            ("2026-11-21T03:00:00.5+02:00", "2026-11-21T01:00:00.5Z"),
            ("2026-11-20 23:30", "2026-11-20T22:30:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("03:00", "2026-11-21T02:00:00Z"),
            ("03:00:30", "2026-11-21T02:00:30Z"),
            ("23:00", "2026-11-20T22:00:00Z"),
            ("10m ago", "2026-11-21T07:50:00Z"),
            ("2h ago", "2026-11-21T06:00:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text, &now), Ok(expected.parse()?), "{text}");
        }
        for bad in [
            "",
            "ago",
            "3",
            "25:00",
            "x ago",
            "yesterday",
            "-1m ago",
            "03:00 ago",
            "größer als ü",
        ] {
            assert!(parse(bad, &now).is_err(), "{bad}");
        }
        Ok(())
    }
}
