//! How is a moment told? In one zone, without a date where everything is of
//! one day, which the head of the report names.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{analyse::Times, words::seconds};

/// The zone, and whether everything is of one day.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    is_one_day: bool,
}

impl Clock {
    pub(super) fn new(zone: TimeZone, window: Option<(Timestamp, Timestamp)>) -> Self {
        let mut clock = Self {
            zone,
            is_one_day: false,
        };
        clock.is_one_day = window.is_some_and(|(first, last)| clock.are_one_day(first, last));
        clock
    }

    fn zoned(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.zone.clone())
    }

    /// `2026-11-21 03:00:00 +01:00`
    pub(super) fn day_and_time(&self, time: Timestamp) -> String {
        let zoned = self.zoned(time);
        zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// The end of what began at `first`: without a date if it is the same.
    pub(super) fn end_time(&self, first: Timestamp, last: Timestamp) -> String {
        match self.zoned(first).date() == self.zoned(last).date() {
            true => self.zoned(last).strftime("%H:%M:%S").to_string(),
            false => self.day_and_time(last),
        }
    }

    /// `03:00:00.123`
    fn time_of_day(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%H:%M:%S%.3f").to_string()
    }

    /// `11-21 03:00`, within a day `03:00:00`, and with a tenth where it needs
    /// one.
    pub(super) fn tick(&self, time: Timestamp, step_ms: i64) -> String {
        let format = match (self.is_one_day, step_ms) {
            (false, _) => "%m-%d %H:%M",
            (true, ..1000) => "%H:%M:%S%.1f",
            (true, _) => "%H:%M:%S",
        };
        self.zoned(time).strftime(format).to_string()
    }

    fn are_one_day(&self, first: Timestamp, last: Timestamp) -> bool {
        self.zoned(first).date() == self.zoned(last).date()
    }

    /// `03:00:00.123 to 03:00:05.220 (5.1 s)`
    pub(super) fn between(&self, times: Times) -> String {
        let Some((first, last)) = times.0 else {
            return "at an unknown time".to_owned();
        };
        if first == last {
            return format!("at {}", self.moment(first));
        }
        let until = match self.are_one_day(first, last) {
            true => self.time_of_day(last),
            false => self.moment(last),
        };
        format!(
            "{} to {until} ({})",
            self.moment(first),
            seconds(first, last)
        )
    }

    /// `03:00:00.123`, or `11-21 03:00:00.123`
    pub(super) fn moment(&self, time: Timestamp) -> String {
        match self.is_one_day {
            true => self.time_of_day(time),
            false => self.zoned(time).strftime("%m-%d %H:%M:%S%.3f").to_string(),
        }
    }

    /// How far clocks are ahead of UTC at that time.
    pub(super) fn offset_ms(&self, time: Timestamp) -> i64 {
        i64::from(self.zoned(time).offset().seconds()) * 1000
    }

    /// `Europe/Berlin, +01:00`; both offsets where a clock was changed between.
    pub(super) fn zone_name(&self, first: Timestamp, last: Timestamp) -> String {
        let offset = |time| self.zoned(time).strftime("%:z").to_string();
        let (begin, end) = (offset(first), offset(last));
        let offsets = match begin == end {
            true => begin,
            false => format!("{begin}, at the end {end}"),
        };
        match self.zone.iana_name() {
            Some(name) => format!("{name}, {offsets}"),
            None => offsets,
        }
    }
}
