//! When did it happen? Drawings on one common axis of time.

use jiff::Timestamp;

use super::{
    super::{
        analyse::Analysis,
        clock::Clock,
        timeline::{Axis, Bucket, Course},
        words::{many, step},
    },
    markup::{Markup, percent, share},
};

/// Heights, in pixels.
const TALL: u32 = 40;
const LOW: u32 = 28;
const TICKS: u32 = 22;

/// Below the bars: where failures were lost, and room above it.
const LOST: u32 = 6;
const ROOM: u32 = 2;

/// Times below a chart, at most; what is between them, milliseconds; and how
/// near to an edge half of one has no room.
const MARKS: i64 = 8;
const STEPS: [i64; 24] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
    1_209_600_000,
];
const EDGE: f64 = 0.06;

/// Room beside a bar.
const GAP: f64 = 0.12;

/// The axis, and what is missing on it.
pub(super) struct Chart<'a> {
    pub(super) axis: Axis,
    clock: &'a Clock,
    /// Where nothing was recorded: from, to.
    gaps: Vec<(f64, f64)>,
    /// Columns in which failures were not described.
    lost: Vec<usize>,
    columns: Vec<Bucket>,
}

/// What a line is about.
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    /// One of what is counted.
    pub(super) what: &'static str,
    pub(super) is_drops: bool,
}

impl<'a> Chart<'a> {
    pub(super) fn new(analysis: &Analysis, axis: Axis, clock: &'a Clock) -> Self {
        let columns = analysis.timeline.on(&axis);
        let lost = columns.iter().enumerate();
        let lost = lost.filter(|(_, bucket)| bucket.lost > 0);
        let gaps = analysis.gaps.iter().map(|gap| {
            let at = |time: Timestamp| place(&axis, time.as_millisecond());
            (at(gap.since), at(gap.until))
        });
        Self {
            gaps: gaps.filter(|(from, to)| *to > 0.0 && *from < 1.0).collect(),
            lost: lost.map(|(index, _)| index).collect(),
            axis,
            clock,
            columns,
        }
    }

    /// All failed calls, or all drops.
    pub(super) fn all(&self, amount: fn(&Bucket) -> u64) -> Vec<u64> {
        self.columns.iter().map(amount).collect()
    }

    pub(super) fn of(&self, course: &Course) -> Vec<u64> {
        course.on(&self.axis)
    }

    /// A small one, with when it begins and ends.
    pub(super) fn strip(&self, markup: &mut Markup, values: &[u64], about: &About<'_>) {
        markup.within("figure", &[("class", "strip")], |figure| {
            self.bars(figure, values, LOW, about);
            figure.within("p", &[("class", "ends"), ("aria-hidden", "true")], |ends| {
                ends.element("span", &[], &self.tick(0));
                let most = values.iter().copied().max().unwrap_or(0);
                let width = step(self.axis.width_ms);
                ends.element("span", &[], &format!("at most {most} in {width}"));
                ends.element("span", &[], &self.tick(self.axis.columns));
            });
        });
    }

    /// One line of several: whose it is, bars, and what the highest one is.
    pub(super) fn line(
        &self,
        markup: &mut Markup,
        class: &'static str,
        values: &[u64],
        about: &About<'_>,
    ) {
        let most = values.iter().copied().max().unwrap_or(0);
        markup.element("p", &[("class", class)], about.name);
        self.bars(markup, values, TALL, about);
        markup.element("p", &[("class", "most")], &format!("≤{most}"));
    }

    fn bars(&self, markup: &mut Markup, values: &[u64], height: u32, about: &About<'_>) {
        let most = values.iter().copied().max().unwrap_or(0);
        let class = if about.is_drops {
            "course drops"
        } else {
            "course calls"
        };
        let description = self.describe(values, about);
        let whole = match self.lost.is_empty() {
            true => height,
            false => height + ROOM + LOST,
        };
        markup.drawing(class, whole, (about.name, &description), |svg| {
            self.missing(svg, height);
            let pitch = share(1, count(values.len()));
            for (index, value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
                let bar = (share(*value, most) * f64::from(height - 1)).max(2.0);
                let top = f64::from(height - 1) - bar;
                let attributes = [
                    ("class", "bar"),
                    ("x", &*percent(pitch * (from(index) + GAP / 2.0))),
                    ("y", &format!("{top:.1}")),
                    ("width", &percent(pitch * (1.0 - GAP))),
                    ("height", &format!("{bar:.1}")),
                ];
                let title = format!("{}: {}", self.tick(index), many(*value, about.what));
                svg.within("rect", &attributes, |bar| {
                    bar.element("title", &[], &title);
                });
            }
            let foot = format!("{}.5", height - 1);
            let attributes = [
                ("class", "foot"),
                ("x1", "0"),
                ("x2", "100%"),
                ("y1", &*foot),
                ("y2", &foot),
            ];
            svg.leaf("line", &attributes);
        });
    }

    /// Marked by patterns: not everybody sees colours.
    fn missing(&self, svg: &mut Markup, height: u32) {
        let mut mark = |class, fill, (from, to): (f64, f64), top: u32, height: u32| {
            let attributes = [
                ("class", class),
                ("fill", fill),
                ("x", &*percent(from)),
                ("y", &top.to_string()),
                // However short it was, it shows.
                ("width", &percent((to - from).max(0.004))),
                ("height", &height.to_string()),
            ];
            svg.leaf("rect", &attributes);
        };
        for (from, to) in &self.gaps {
            let range = (from.clamp(0.0, 0.996), to.clamp(0.0, 1.0));
            mark("gap", "url(#gap)", range, 0, height);
        }
        let pitch = share(1, count(self.axis.columns));
        for index in &self.lost {
            let start = from(*index) * pitch;
            let range = (start, start + pitch);
            mark("lost", "url(#lost)", range, height + ROOM, LOST);
        }
    }

    /// `12 drops; at most 5 in 500 ms, at 03:00:00`
    fn describe(&self, values: &[u64], about: &About<'_>) -> String {
        let sum = values.iter().copied().fold(0, u64::saturating_add);
        let mut text = many(sum, about.what);
        let highest = values.iter().copied().enumerate();
        if let Some((index, most)) = highest.min_by_key(|(_, value)| std::cmp::Reverse(*value))
            && most > 0
        {
            let (width, at) = (step(self.axis.width_ms), self.tick(index));
            text.push_str(&format!("; at most {most} in {width}, at {at}"));
        }
        if !self.gaps.is_empty() {
            text.push_str(&format!("; {}", many(count(self.gaps.len()), "gap")));
        }
        text
    }

    /// Times below all lines.
    pub(super) fn ticks(&self, markup: &mut Markup) {
        let attributes = [
            ("class", "ticks"),
            ("width", "100%"),
            ("height", &*TICKS.to_string()),
            ("aria-hidden", "true"),
        ];
        markup.within("svg", &attributes, |svg| {
            for (number, (at, time)) in self.marks().into_iter().enumerate() {
                let x = percent(at);
                // On a phone every other is left out.
                let class = match (number % 2 == 0, at < EDGE) {
                    (true, true) => "first",
                    (true, false) => "even",
                    (false, _) => "odd",
                };
                let line = [
                    ("class", class),
                    ("x1", &*x),
                    ("x2", &x),
                    ("y1", "0"),
                    ("y2", "5"),
                ];
                svg.leaf("line", &line);
                let text = [("class", class), ("x", &*x), ("y", "18")];
                svg.element("text", &text, &self.clock.tick(time, self.axis.width_ms));
            }
        });
    }

    /// Round times, and where they are on the axis.
    fn marks(&self) -> Vec<(f64, Timestamp)> {
        let (start, end) = (self.axis.start_ms, self.axis.end_ms());
        let length = end.saturating_sub(start);
        let step = STEPS.into_iter().find(|step| length / step <= MARKS);
        let step = step.unwrap_or((length / MARKS).max(1));
        let offset = Timestamp::from_millisecond(start);
        let offset = offset.map_or(0, |start| self.clock.offset_ms(start));
        // The first one from the start on that is round on a clock there.
        let past = start.saturating_add(offset).rem_euclid(step);
        let first = start.saturating_add((step - past) % step);
        let times = (0..=MARKS).map(|number| first.saturating_add(number.saturating_mul(step)));
        times
            .map(|ms| (place(&self.axis, ms), Timestamp::from_millisecond(ms)))
            .filter_map(|(at, time)| Some((at, time.ok()?)))
            // The last one must not stand out.
            .filter(|(at, _)| *at <= 1.0 - EDGE)
            .collect()
    }

    /// What the patterns mean that are there.
    pub(super) fn legend(&self, markup: &mut Markup) {
        let marks = [
            (
                !self.gaps.is_empty(),
                "gap",
                "url(#gap)",
                "nothing was recorded",
            ),
            (
                !self.lost.is_empty(),
                "lost",
                "url(#lost)",
                "failures were counted, but not described",
            ),
        ];
        let marks = marks.into_iter().filter(|(is_there, ..)| *is_there);
        let marks: Vec<_> = marks.collect();
        if marks.is_empty() {
            return;
        }
        markup.within("ul", &[("class", "legend")], |list| {
            for (_, class, fill, words) in marks {
                list.within("li", &[], |item| {
                    let svg = [
                        ("class", "swatch"),
                        ("width", "28"),
                        ("height", "14"),
                        ("aria-hidden", "true"),
                    ];
                    item.within("svg", &svg, |svg| {
                        let all = [
                            ("class", class),
                            ("fill", fill),
                            ("width", "28"),
                            ("height", "14"),
                        ];
                        svg.leaf("rect", &all);
                    });
                    item.text(words);
                });
            }
        });
    }

    fn tick(&self, column: usize) -> String {
        let time = Timestamp::from_millisecond(self.axis.start_of(column));
        time.map_or_else(
            |_| "?".to_owned(),
            |time| self.clock.tick(time, self.axis.width_ms),
        )
    }
}

/// Where on the axis is that moment? 0 is its start, 1 its end.
fn place(axis: &Axis, at_ms: i64) -> f64 {
    let since = at_ms.saturating_sub(axis.start_ms);
    let length = axis.end_ms().saturating_sub(axis.start_ms);
    let share = share(since.unsigned_abs(), length.unsigned_abs());
    if since < 0 { -share } else { share }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn from(index: usize) -> f64 {
    share(count(index), 1)
}
