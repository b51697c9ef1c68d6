//! When did it happen? A chart of bars, with what is missing marked.

use jiff::Timestamp;

use super::{
    super::{
        analyse::Analysis,
        clock::Clock,
        timeline::{Axis, Bucket},
        words,
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

pub(super) fn draw(page: &mut Page<'_>, analysis: &Analysis, clock: &Clock) {
    let room = page
        .style
        .width
        .saturating_sub(LABEL + SCALE)
        .clamp(10, MOST);
    let Some(axis) = analysis.axis(room) else {
        return;
    };
    let columns = analysis.timeline.on(&axis);
    // Few columns are drawn wide.
    let wide = (room / axis.columns).clamp(1, 8);
    page.heading(&words::timeline(&axis));
    bars(page, "failed calls", &columns, wide, |bucket| bucket.calls);
    bars(page, "drops", &columns, wide, |bucket| bucket.drops);
    marks(page, analysis, &axis, &columns, wide);
    ticks(page, clock, &axis, wide);
}

fn bars(
    page: &mut Page<'_>,
    label: &str,
    columns: &[Bucket],
    wide: usize,
    value: fn(&Bucket) -> u64,
) {
    let values: Vec<u64> = columns.iter().map(value).collect();
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
fn marks(page: &mut Page<'_>, analysis: &Analysis, axis: &Axis, columns: &[Bucket], wide: usize) {
    let mut drawn = String::new();
    let (mut is_gap, mut is_lost) = (false, false);
    for (index, bucket) in columns.iter().enumerate() {
        let (start, end) = (axis.start_of(index), axis.start_of(index + 1));
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
    }
    if is_lost {
        let legend = if is_gap { "lost !, gap ~" } else { "lost !" };
        page.verbatim(&format!("   {legend:<13} {drawn}"));
    } else if is_gap {
        page.verbatim(&format!("   {:<13} {drawn}", "gap ~"));
    }
}

/// The time below the first bar, and below others where there is room.
fn ticks(page: &mut Page<'_>, clock: &Clock, axis: &Axis, wide: usize) {
    let mut line = String::new();
    let mut used = 0;
    for index in 0..axis.columns {
        let column = index * wide;
        let time = Timestamp::from_millisecond(axis.start_of(index)).ok();
        let Some(time) = time.filter(|_| column >= used) else {
            continue;
        };
        let tick = clock.tick(time, axis.width_ms);
        let padding = column.saturating_sub(line.chars().count());
        line.extend(std::iter::repeat_n(' ', padding));
        line.push_str(&tick);
        // As much room again, so that they do not crowd.
        used = column + tick.chars().count() * 2;
    }
    page.verbatim(&format!("{}{line}", " ".repeat(LABEL)));
}
