//! The report as one HTML file: the same story as text, with drawings. Pure.
//!
//! It needs nothing else and may do nothing: no script, no network.

mod course;
mod markup;
mod ports;
mod queue;

use jiff::tz::TimeZone;

use super::{
    analyse::Analysis,
    clock::Clock,
    story::{ALL_SEEN, Beside, Block, Compared, List, Story, Told},
    timeline::COLUMNS,
    words,
};
use course::{About, Chart};
use markup::Markup;

/// Nothing is loaded, run, or sent, whatever comes into the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// What gaps and lost failures are filled with.
const PATTERNS: &str = r##"<svg class="patterns" width="0" height="0" aria-hidden="true"><defs>
<pattern id="gap" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="mark" d="M0 0V8"/></pattern>
<pattern id="lost" width="6" height="6" patternUnits="userSpaceOnUse"><circle class="dot" cx="3" cy="3" r="1.4"/></pattern>
</defs></svg>
"##;

/// `notes`: what could not be read of the files. `top`: entries of each list.
pub(super) fn report(analysis: &Analysis, notes: &[String], zone: &TimeZone, top: usize) -> String {
    let clock = Clock::new(zone.clone(), analysis.window());
    let story = Story::of(analysis, notes, &clock, top);
    let axis = analysis.axis(COLUMNS);
    let chart = axis.map(|axis| Chart::new(analysis, axis, &clock));
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n");
    page.within("html", &[("lang", "en")], |html| {
        head(html, &story);
        html.within("body", &[], |body| {
            body.raw(PATTERNS);
            captured(body, &story, analysis, &clock);
            body.within("main", &[], |main| {
                findings(main, &story, chart.as_ref());
                if let Some(chart) = &chart {
                    timeline(main, &story, chart);
                }
                list(
                    main,
                    "programs",
                    &story.programs,
                    &["failed", "program", "why"],
                );
                let columns = ["dropped", "listener", "whose, why, when"];
                list(main, "listeners", &story.listeners, &columns);
                totals(main, &story.totals);
                not_seen(main, &story);
            });
        });
    });
    page.finish()
}

fn head(html: &mut Markup, story: &Story<'_>) {
    html.within("head", &[], |head| {
        head.leaf("meta", &[("charset", "utf-8")]);
        let policy = [
            ("http-equiv", "Content-Security-Policy"),
            ("content", POLICY),
        ];
        head.leaf("meta", &policy);
        let width = "width=device-width, initial-scale=1";
        let metas = [
            ("viewport", width),
            ("color-scheme", "light dark"),
            ("referrer", "no-referrer"),
            ("generator", concat!("tracer ", env!("CARGO_PKG_VERSION"))),
        ];
        for (name, content) in metas {
            head.leaf("meta", &[("name", name), ("content", content)]);
        }
        head.element("title", &[], &format!("tracer report: {}", story.title));
        head.raw(concat!(
            "<style>\n",
            include_str!("html/style.css"),
            "</style>\n"
        ));
    });
}

fn captured(body: &mut Markup, story: &Story<'_>, analysis: &Analysis, clock: &Clock) {
    body.within("header", &[], |header| {
        header.element("p", &[("class", "tool")], "tracer report");
        header.element("h1", &[], &story.title);
        header.within("dl", &[], |list| {
            for (label, line) in &story.captured {
                if !label.is_empty() {
                    list.element("dt", &[], label);
                }
                list.element("dd", &[], line);
            }
            if let Some((first, last)) = analysis.window() {
                list.element("dt", &[], "times");
                list.element("dd", &[], &clock.zone_name(first, last));
            }
        });
    });
}

/// A part of the page with a heading.
fn section(main: &mut Markup, id: &'static str, heading: &str, inside: impl FnOnce(&mut Markup)) {
    let attributes = [("class", id), ("aria-labelledby", id)];
    main.within("section", &attributes, |section| {
        section.element("h2", &[("id", id)], heading);
        inside(section);
    });
}

fn findings(main: &mut Markup, story: &Story<'_>, chart: Option<&Chart<'_>>) {
    section(main, "findings", "findings", |section| {
        for (index, told) in story.findings.iter().enumerate() {
            finding(section, index + 1, told, chart);
        }
        if let Some(remark) = &story.remark {
            section.element("p", &[("class", "remark")], remark);
        }
    });
}

fn finding(section: &mut Markup, number: usize, told: &Told<'_>, chart: Option<&Chart<'_>>) {
    let class = if told.is_drops { "drops" } else { "calls" };
    section.within("article", &[("class", class)], |article| {
        article.within("h3", &[], |headline| {
            headline.element("span", &[("class", "rank")], &number.to_string());
            headline.element("span", &[], &told.headline);
        });
        article.element("p", &[("class", "extent")], &told.extent);
        let gists = told.blocks.iter().filter_map(|block| match block {
            Block::Gist(gist) => Some(gist),
            _ => None,
        });
        for gist in told.culprit.iter().chain(gists) {
            article.element("p", &[("class", "gist")], gist);
        }
        if let Some(chart) = chart {
            let about = About {
                name: &told.headline,
                what: if told.is_drops { "drop" } else { "failed call" },
                is_drops: told.is_drops,
            };
            chart.strip(article, &chart.of(told.course), &about);
        }
        article.within("div", &[("class", "body")], |body| {
            let is_advice = |block: &&Block<'_>| matches!(block, Block::Advice(_));
            body.within("div", &[("class", "evidence")], |evidence| {
                for block in told.blocks.iter().filter(|block| !is_advice(block)) {
                    tell(evidence, block);
                }
            });
            for block in told.blocks.iter().filter(is_advice) {
                tell(body, block);
            }
        });
    });
}

fn tell(markup: &mut Markup, block: &Block<'_>) {
    match block {
        // It is at the top.
        Block::Gist(_) => {}
        Block::Line(line) => markup.element("p", &[], line),
        Block::Ports(found) => ports::draw(markup, found),
        Block::Queue { line, spell } => {
            queue::draw(markup, spell);
            markup.element("p", &[], line);
        }
        Block::Advice(steps) => {
            markup.within("div", &[("class", "advice")], |advice| {
                advice.element("h4", &[], "what to do");
                advice.within("ul", &[], |list| {
                    for step in steps {
                        list.within("li", &[], |item| {
                            item.text(&step.text);
                            item.raw(" ");
                            item.element("code", &[], &step.id);
                        });
                    }
                });
            });
        }
    }
}

fn timeline(main: &mut Markup, story: &Story<'_>, chart: &Chart<'_>) {
    section(main, "timeline", &words::timeline(&chart.axis), |section| {
        section.within("div", &[("class", "lines")], |lines| {
            let groups = [
                ("failed calls", "failed call", false, &story.programs),
                ("drops", "drop", true, &story.listeners),
            ];
            for (name, what, is_drops, list) in groups {
                let values = match is_drops {
                    true => chart.all(|bucket| bucket.drops),
                    false => chart.all(|bucket| bucket.calls),
                };
                if values.iter().all(|value| *value == 0) {
                    continue;
                }
                let about = About {
                    name,
                    what,
                    is_drops,
                };
                chart.line(lines, "label all", &values, &about);
                for row in &list.rows {
                    let about = About {
                        name: &row.name,
                        what,
                        is_drops,
                    };
                    chart.line(lines, "label", &chart.of(row.course), &about);
                }
            }
            chart.ticks(lines);
        });
        chart.legend(section);
    });
}

fn list(main: &mut Markup, id: &'static str, list: &List<'_>, columns: &[&str; 3]) {
    if list.rows.is_empty() {
        return;
    }
    section(main, id, list.heading, |section| {
        section.within("table", &[("class", "lists people")], |table| {
            table.within("thead", &[], |head| {
                head.within("tr", &[], |row| {
                    let [count, name, text] = columns;
                    row.element("th", &[("scope", "col"), ("class", "number")], count);
                    row.element("th", &[("scope", "col")], name);
                    row.element("th", &[("scope", "col")], text);
                });
            });
            table.within("tbody", &[], |body| {
                for row in &list.rows {
                    body.within("tr", &[], |line| {
                        line.element("td", &[("class", "number")], &row.count);
                        line.element("th", &[("scope", "row")], &row.name);
                        line.element("td", &[], &row.text);
                    });
                }
                if let Some((count, what)) = &list.others {
                    body.within("tr", &[("class", "others")], |line| {
                        line.element("td", &[("class", "number")], count);
                        line.element("th", &[("scope", "row")], what);
                        line.element("td", &[], "");
                    });
                }
            });
        });
    });
}

fn totals(main: &mut Markup, totals: &Compared) {
    section(main, "totals", totals.heading, |section| {
        section.element("p", &[], &totals.sum);
        if !totals.rows.is_empty() {
            section.within("table", &[], |table| {
                table.within("thead", &[], |head| {
                    head.within("tr", &[], |row| {
                        row.element("th", &[("scope", "col")], "netns");
                        row.element("th", &[("scope", "col")], "counter");
                        for name in ["kernel", "tracer", "difference"] {
                            row.element("th", &[("scope", "col"), ("class", "number")], name);
                        }
                    });
                });
                for row in &totals.rows {
                    table.within("tbody", &[], |body| compared(body, row));
                }
            });
        }
        for row in &totals.rows {
            if let Some(why) = &row.why {
                section.element("p", &[], &format!("netns {}: {why}", row.netns));
            }
        }
        for remark in &totals.remarks {
            section.element("p", &[], remark);
        }
    });
}

fn compared(body: &mut Markup, row: &Beside) {
    let rows = row.pairs.len().to_string();
    for (index, (label, pair)) in row.pairs.iter().enumerate() {
        let difference = pair.difference();
        let class = match difference {
            Some(0) => "agrees",
            _ => "differs",
        };
        body.within("tr", &[("class", class)], |line| {
            if index == 0 {
                let attributes = [("scope", "rowgroup"), ("rowspan", &*rows)];
                line.element("th", &attributes, &row.netns.to_string());
            }
            line.element("th", &[("scope", "row")], label);
            let unknown = || "unknown".to_owned();
            let cells = [
                pair.kernel
                    .map_or_else(unknown, |kernel| kernel.to_string()),
                pair.tracer.to_string(),
                difference.map_or_else(unknown, |difference| match difference {
                    0 => "0".to_owned(),
                    _ => format!("{difference:+}"),
                }),
            ];
            for cell in cells {
                line.element("td", &[("class", "number")], &cell);
            }
        });
    }
}

fn not_seen(main: &mut Markup, story: &Story<'_>) {
    section(main, "blind", "not seen, and why", |section| {
        if story.not_seen.is_empty() {
            section.element("p", &[], ALL_SEEN);
            return;
        }
        section.within("ul", &[], |list| {
            for sentence in &story.not_seen {
                list.element("li", &[], sentence);
            }
        });
    });
}
