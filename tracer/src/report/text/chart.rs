//! When did it happen? A chart of bars, with what is missing marked.

use jiff::Timestamp;

use super::{
    super::{
        analyse::Analysis,
        timeline::{Bucket, Columns},
    },
    Page,
};

/// Heights of a bar, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Columns before the bars and after them.
const LABEL: usize = 17;
const SCALE: usize = 9;

/// More bars than this are no clearer.
const MOST: usize = 100;

pub(super) fn draw(page: &mut Page<'_>, analysis: &Analysis, since: Timestamp, until: Timestamp) {
    let room = page
        .style
        .width
        .saturating_sub(LABEL + SCALE)
        .clamp(10, MOST);
    let (from, to) = (since.as_millisecond(), until.as_millisecond());
    let columns = analysis.timeline.columns(from, to, room);
    // Few columns are drawn wide.
    let wide = (room / columns.columns.len().max(1)).clamp(1, 8);
    page.heading(&format!("timeline, {} a bar", step(columns.width_ms)));
    bars(page, "failed calls", &columns, wide, |bucket| bucket.calls);
    bars(page, "drops", &columns, wide, |bucket| bucket.drops);
    marks(page, analysis, &columns, wide);
    ticks(page, &columns, wide);
}

fn bars(
    page: &mut Page<'_>,
    label: &str,
    columns: &Columns,
    wide: usize,
    value: fn(&Bucket) -> u64,
) {
    let values: Vec<u64> = columns.columns.iter().map(value).collect();
    let highest = values.iter().copied().max().unwrap_or(0);
    if highest == 0 {
        return;
    }
    let drawn: String = values
        .iter()
        .flat_map(|value| std::iter::repeat_n(bar(*value, highest), wide))
        .collect();
    page.verbatim(&format!("   {label:<13} {drawn} ≤{highest}"));
}

fn bar(value: u64, highest: u64) -> char {
    if value == 0 {
        return '·';
    }
    // 128 bits: any count times eight.
    let height = (u128::from(value) * 8).div_ceil(u128::from(highest.max(1)));
    let height = usize::try_from(height).unwrap_or(BARS.len());
    BARS[height.clamp(1, BARS.len()) - 1]
}

/// `~`: nothing was recorded. `!`: counted, but not described.
fn marks(page: &mut Page<'_>, analysis: &Analysis, columns: &Columns, wide: usize) {
    let mut start = columns.start_ms;
    let mut drawn = String::new();
    let (mut is_gap, mut is_lost) = (false, false);
    for bucket in &columns.columns {
        let end = start.saturating_add(columns.width_ms);
        let gap = analysis
            .gaps
            .iter()
            .any(|gap| gap.since.as_millisecond() < end && gap.until.as_millisecond() > start);
        let mark = match (bucket.lost > 0, gap) {
            (true, _) => '!',
            (false, true) => '~',
            (false, false) => ' ',
        };
        is_lost |= mark == '!';
        is_gap |= mark == '~';
        drawn.extend(std::iter::repeat_n(mark, wide));
        start = end;
    }
    if is_lost {
        let legend = if is_gap { "lost !, gap ~" } else { "lost !" };
        page.verbatim(&format!("   {legend:<13} {drawn}"));
    } else if is_gap {
        page.verbatim(&format!("   {:<13} {drawn}", "gap ~"));
    }
}

/// The time below the first bar, and below others where there is room.
fn ticks(page: &mut Page<'_>, columns: &Columns, wide: usize) {
    let count = columns.columns.len();
    let at = |index: usize| {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let ms = columns
            .start_ms
            .saturating_add(columns.width_ms.saturating_mul(index));
        Timestamp::from_millisecond(ms).ok()
    };
    let mut line = String::new();
    let mut used = 0;
    for index in 0..count {
        let column = index * wide;
        let Some(time) = at(index).filter(|_| column >= used) else {
            continue;
        };
        let tick = page.tick(time, columns.width_ms);
        let padding = column.saturating_sub(line.chars().count());
        line.extend(std::iter::repeat_n(' ', padding));
        line.push_str(&tick);
        // As much room again, so that they do not crowd.
        used = column + tick.chars().count() * 2;
    }
    page.verbatim(&format!("{}{line}", " ".repeat(LABEL)));
}

/// `500 ms`, `5 s`, `15 min`, `3 h`, `7 d`
fn step(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        3_600_000..86_400_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
