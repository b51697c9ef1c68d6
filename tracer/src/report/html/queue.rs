//! How full was the queue, and who was faster: those who came or the one who
//! accepts?

use super::{
    super::{record::Queue, words::rate},
    markup::{Markup, percent, share},
};

const HEIGHT: u32 = 16;

pub(super) fn draw(markup: &mut Markup, spell: &Queue) {
    let queues = [
        ("accept queue", spell.len, spell.max),
        ("request queue", spell.request_len, spell.request_max),
    ];
    let queues = queues.into_iter().filter_map(|(name, len, max)| {
        let (len, max) = (len?, max?);
        // As in the sentence: an empty request queue says nothing.
        (len > 0 || name == "accept queue").then_some((name, len, max))
    });
    let queues: Vec<_> = queues.collect();
    let rates = spell.arrivals_per_s.zip(spell.accepts_per_s);
    if queues.is_empty() && rates.is_none() {
        return;
    }
    markup.within("div", &[("class", "gauges")], |gauges| {
        for (name, len, max) in queues {
            gauge(gauges, name, len, max);
        }
        if let Some((came, accepted)) = rates {
            let most = came.max(accepted).max(f64::MIN_POSITIVE);
            speed(gauges, "came", came, most);
            speed(gauges, "accepted", accepted, most);
        }
    });
}

/// The bar ends where the queue does; a line is its limit.
fn gauge(markup: &mut Markup, name: &str, len: u64, max: u64) {
    let whole = len.max(max);
    let value = format!("{len}/{max}");
    let class = if len >= max { "level full" } else { "level" };
    line(markup, name, &value, |svg| {
        rect(svg, class, share(len, whole));
        if max > 0 && max < whole {
            let at = percent(share(max, whole));
            let height = HEIGHT.to_string();
            let limit = [
                ("class", "limit"),
                ("x1", &*at),
                ("x2", &at),
                ("y1", "0"),
                ("y2", &height),
            ];
            svg.leaf("line", &limit);
        }
    });
}

fn speed(markup: &mut Markup, name: &str, per_second: f64, most: f64) {
    let value = format!("{} a second", rate(per_second));
    line(markup, name, &value, |svg| {
        rect(svg, "level", per_second / most);
    });
}

fn line(markup: &mut Markup, name: &str, value: &str, bar: impl FnOnce(&mut Markup)) {
    markup.element("p", &[("class", "label")], name);
    markup.drawing("gauge", HEIGHT, (name, value), |svg| {
        rect(svg, "track", 1.0);
        bar(svg);
    });
    markup.element("p", &[("class", "value")], value);
}

fn rect(svg: &mut Markup, class: &'static str, width: f64) {
    let height = HEIGHT.to_string();
    let attributes = [
        ("class", class),
        ("width", &*percent(width)),
        ("height", &height),
        ("rx", "3"),
    ];
    svg.leaf("rect", &attributes);
}
