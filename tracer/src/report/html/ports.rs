//! Where did the ports go? A bar, and the table that is its legend.

use super::{
    super::story::{Ports, Share},
    markup::{Markup, percent, share},
};

const HEIGHT: u32 = 28;

/// Colours that differ; further shares look like the last.
const COLOURS: [&str; 6] = ["p1", "p2", "p3", "p4", "p5", "p6"];
const KEYS: [&str; 18] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R",
];

/// The least that is seen, and the least in which a letter has room.
const NARROWEST: f64 = 0.004;
const READABLE: f64 = 0.045;

pub(super) fn draw(markup: &mut Markup, ports: &Ports) {
    markup.element("h4", &[], &ports.heading);
    let sum = ports.rows.iter().map(|row| row.ports);
    let sum = sum.fold(0, u64::saturating_add);
    // One port has no shares.
    let is_bar = sum > 1;
    if is_bar {
        bar(markup, ports, sum);
    }
    if ports.rows.is_empty() {
        return;
    }
    markup.within("table", &[("class", "lists shares")], |table| {
        table.within("thead", &[], |head| {
            head.within("tr", &[], |row| {
                if is_bar {
                    row.within("th", &[("scope", "col"), ("class", "key")], |cell| {
                        cell.element("span", &[("class", "unseen")], "in the bar");
                    });
                }
                row.element("th", &[("scope", "col"), ("class", "number")], "ports");
                row.element("th", &[("scope", "col")], "state");
                row.element("th", &[("scope", "col")], "who");
            });
        });
        table.within("tbody", &[], |body| {
            for (index, row) in ports.rows.iter().enumerate() {
                body.within("tr", &[], |line| {
                    if is_bar {
                        line.within("td", &[("class", "key")], |cell| {
                            let class = format!("badge {}", colour(index, row));
                            cell.element("span", &[("class", &class)], key(index));
                        });
                    }
                    line.element("td", &[("class", "number")], &row.ports.to_string());
                    line.element("th", &[("scope", "row")], &row.what);
                    line.element("td", &[], &row.holders);
                });
            }
        });
    });
}

fn bar(markup: &mut Markup, ports: &Ports, sum: u64) {
    let told: Vec<_> = ports
        .rows
        .iter()
        .map(|row| {
            let told = format!("{} {} {}", row.ports, row.what, row.holders);
            told.trim_end().to_owned()
        })
        .collect();
    let widths = ports.rows.iter().map(|row| match row.ports {
        0 => 0.0,
        ports => share(ports, sum).max(NARROWEST),
    });
    let all: f64 = widths.clone().sum();
    let words = (ports.heading.as_str(), told.join("; "));
    markup.drawing("stack", HEIGHT, (words.0, &words.1), |svg| {
        let mut start = 0.0;
        for (index, (row, width)) in ports.rows.iter().zip(widths).enumerate() {
            let width = width / all.max(NARROWEST);
            let class = format!("part {}", colour(index, row));
            let attributes = [
                ("class", class.as_str()),
                ("x", &percent(start)),
                ("width", &percent(width)),
                ("height", &HEIGHT.to_string()),
            ];
            svg.leaf("rect", &attributes);
            if width >= READABLE {
                let class = format!("letter {}", colour(index, row));
                let middle = percent(start + width / 2.0);
                let attributes = [("class", class.as_str()), ("x", &middle), ("y", "19")];
                svg.element("text", &attributes, key(index));
            }
            start += width;
        }
    });
}

fn colour(index: usize, row: &Share) -> &'static str {
    match row.is_free {
        true => "free",
        false => COLOURS[index.min(COLOURS.len() - 1)],
    }
}

fn key(index: usize) -> &'static str {
    KEYS.get(index).copied().unwrap_or("…")
}
