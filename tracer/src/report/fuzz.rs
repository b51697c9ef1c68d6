//! Reports of lines that are in no file, for fuzzing.

use jiff::tz::TimeZone;

use super::{
    analyse::{Analysis, Filter},
    html, json,
    line::{self, Line, Skipped},
    text,
};
use crate::capture::read::Damage;

/// Text, JSON and HTML. `fast`: lines are read the way that [`super::run`] reads them.
pub(crate) fn tell(lines: &[&[u8]], fast: bool) -> [String; 3] {
    let mut analysis = Analysis::new(Filter::default());
    let mut damage = Damage::default();
    let mut skipped = Skipped::default();
    for line in lines {
        let record = damage.parse(line, |line| match fast {
            true => line::parse(line, &mut skipped),
            false => line::whole(line),
        });
        match record {
            Some(Line::Event(event)) => analysis.feed_event(&event),
            Some(Line::Other(record)) => analysis.feed(&record),
            None => {}
        }
    }
    let style = text::Style {
        width: 100,
        colour: false,
        zone: TimeZone::UTC,
        top: 5,
    };
    [
        text::report(&analysis, &[], &style),
        json::report(&analysis, &damage, 5).to_string(),
        html::report(&analysis, &[], &TimeZone::UTC, 5),
    ]
}
