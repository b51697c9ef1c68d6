//! What is in the HTML, whatever is in the records?

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use super::{
    super::{
        clock::Clock,
        html,
        story::{Block, Story},
    },
    *,
};

fn told(analysis: &Analysis, notes: &[String]) -> String {
    html::report(analysis, notes, &TimeZone::UTC, 1000)
}

/// Start tags with their attributes, and a failure if tags do not nest, a
/// reference is unknown, or a character is not where it may be.
fn tags(html: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let mut rest = html
        .strip_prefix("<!DOCTYPE html>\n")
        .context("no doctype")?;
    let (mut open, mut found) = (Vec::new(), Vec::new());
    while let Some((text, after)) = rest.split_once('<') {
        let is_style = open.last().is_some_and(|tag| tag == "style");
        ensure!(is_style || plain(text), "text: {text}");
        let (tag, after) = after.split_once('>').context("a tag without an end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            ensure!(open.pop().as_deref() == Some(name), "</{name}> in {open:?}");
            continue;
        }
        let is_leaf = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut map = BTreeMap::new();
        while !attributes.is_empty() {
            let (attribute, after) = attributes.split_once("=\"").context("no value")?;
            let (value, after) = after.split_once('"').context("an open value")?;
            ensure!(plain(value), "{attribute}: {value}");
            map.insert(attribute.to_owned(), value.to_owned());
            attributes = after.trim_start();
        }
        let is_name = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        ensure!(
            is_name(name) && map.keys().all(|key| is_name(key)),
            "<{tag}>"
        );
        found.push((name.to_owned(), map));
        if !is_leaf {
            open.push(name.to_owned());
        }
    }
    ensure!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    Ok(found)
}

/// Neither markup nor anything that a terminal would act on.
fn plain(text: &str) -> bool {
    let entities = ["amp;", "lt;", "gt;", "quot;", "#39;"];
    let mut parts = text.split('&').skip(1);
    parts.all(|part| entities.iter().any(|entity| part.starts_with(entity)))
        && !text.contains(['>', '"'])
        && !text
            .chars()
            .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
}

/// Elements and attributes that a report has; none of them loads or runs
/// anything.
const ELEMENTS: &str = "article body circle code dd defs desc div dl dt figure h1 h2 h3 h4 head header html li line main meta p path pattern rect section span style svg table tbody td text th thead title tr ul";
const ATTRIBUTES: &str = "aria-hidden aria-labelledby charset class content cx cy d fill height http-equiv id lang name patternTransform patternUnits r role rowspan rx scope width x x1 x2 y y1 y2";

fn harmless(html: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let found = tags(html)?;
    let allowed = |list: &'static str, name: &str| list.split(' ').any(|allowed| allowed == name);
    for (tag, attributes) in &found {
        ensure!(allowed(ELEMENTS, tag), "<{tag}>");
        for (name, value) in attributes {
            ensure!(allowed(ATTRIBUTES, name), "{name}");
            let is_mark = ["url(#gap)", "url(#lost)"].contains(&value.as_str());
            ensure!(name != "fill" || is_mark, "{value}");
        }
    }
    Ok(found)
}

fn has(html: &str, text: &str) -> bool {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;");
    html.contains(&escaped)
}

#[test]
fn the_story_is_told_in_the_same_words_and_order() -> Result<()> {
    let mut records = capture();
    records.push(json!({"v": 1, "type": "lost", "time": "2026-11-21T03:00:30Z", "count": 12}));
    let analysis = all(&records);
    let notes = ["x.zst: 17 bytes at the end are \"torn\"".to_owned()];
    let html = told(&analysis, &notes);
    harmless(&html)?;
    let clock = Clock::new(TimeZone::UTC, analysis.window());
    let story = Story::of(&analysis, &notes, &clock, 1000);
    let mut words: Vec<String> = story
        .captured
        .iter()
        .map(|(_, line)| line.clone())
        .collect();
    for found in story.findings {
        words.extend([found.headline, found.extent]);
        words.extend(found.culprit);
        for block in found.blocks {
            match block {
                Block::Line(line) | Block::Gist(line) | Block::Queue { line, .. } => {
                    words.push(line);
                }
                Block::Ports(ports) => {
                    words.push(ports.heading);
                    words.extend(
                        ports
                            .rows
                            .into_iter()
                            .flat_map(|row| [row.what, row.holders]),
                    );
                }
                Block::Advice(steps) => {
                    words.extend(steps.into_iter().flat_map(|step| [step.text, step.id]));
                }
            }
        }
    }
    for list in [story.programs, story.listeners] {
        words.push(list.heading.to_owned());
        words.extend(list.rows.into_iter().flat_map(|row| [row.name, row.text]));
    }
    words.extend([story.totals.heading.to_owned(), story.totals.sum]);
    words.extend(story.not_seen);
    for text in &words {
        ensure!(has(&html, text), "{text}\n{html}");
    }
    let order = [
        "<header",
        "id=\"findings\"",
        "id=\"timeline\"",
        "id=\"programs\"",
        "id=\"listeners\"",
        "id=\"totals\"",
        "id=\"blind\"",
    ];
    let places: Vec<_> = order.iter().map(|part| html.find(part)).collect();
    ensure!(places.is_sorted() && places[0].is_some(), "{places:?}");
    Ok(())
}

#[test]
fn it_may_do_nothing_and_needs_nothing() -> Result<()> {
    let html = told(&all(&capture()), &[]);
    let found = harmless(&html)?;
    let metas: Vec<_> = found.iter().filter(|(tag, _)| tag == "meta").collect();
    // Before anything that it could be about.
    assert_eq!(metas[0].1["charset"], "utf-8");
    assert_eq!(metas[1].1["http-equiv"], "Content-Security-Policy");
    assert!(
        metas[1].1["content"].starts_with("default-src 'none'; style-src 'unsafe-inline'")
            || metas[1].1["content"]
                .starts_with("default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;;")
    );
    for word in [
        "http:", "https:", "//", "@import", "src=", "href", "<script", "style=",
    ] {
        assert!(!html.contains(word), "{word}");
    }
    assert_eq!(html.matches("url(").count(), html.matches("url(#").count());
    Ok(())
}

#[test]
fn drawings_have_titles_and_tables_have_headings() -> Result<()> {
    let html = told(&all(&capture()), &[]);
    let found = harmless(&html)?;
    let all_ids: Vec<_> = found
        .iter()
        .filter_map(|(_, attributes)| attributes.get("id"))
        .collect();
    let ids: BTreeSet<_> = all_ids.iter().collect();
    assert_eq!(ids.len(), all_ids.len(), "an id is there twice");
    let mut drawings = 0;
    for (tag, attributes) in &found {
        if let Some(labels) = attributes.get("aria-labelledby") {
            assert!(
                labels.split(' ').all(|id| ids.contains(&&id.to_owned())),
                "{labels}"
            );
        }
        match tag.as_str() {
            "svg" => {
                let is_hidden = attributes.get("aria-hidden").is_some();
                let is_drawing = attributes.get("role").is_some_and(|role| role == "img")
                    && attributes.contains_key("aria-labelledby");
                assert!(is_hidden || is_drawing, "{attributes:?}");
                drawings += usize::from(is_drawing);
            }
            "th" => assert!(attributes.contains_key("scope")),
            _ => {}
        }
    }
    // Two strips, a census, a queue and two rates, two lines with a part each.
    assert_eq!(drawings, 2 + 1 + 3 + 4);
    Ok(())
}

#[test]
fn bars_gaps_and_losses_are_drawn() {
    let mut records = capture();
    let last = records.len() - 1;
    let lost = json!({"v": 1, "type": "lost", "time": "2026-11-21T03:00:30Z", "count": 12});
    records.insert(last, lost);
    let gap = json!({
        "v": 1, "type": "gap", "time": "2026-11-21T03:00:50Z", "since": "2026-11-21T03:00:45Z",
        "records": 12, "reason": "No space left on device",
    });
    records.insert(last, gap);
    let html = told(&all(&records), &[]);
    // 60.5 s in columns of half a second.
    let bar = "<rect class=\"bar\" x=\"1.702%\" y=\"0.0\" width=\"0.727%\" height=\"27.0\"><title>03:00:01.0: 1 failed call</title>";
    assert!(html.contains(bar), "{html}");
    let gap = "<rect class=\"gap\" fill=\"url(#gap)\" x=\"74.38%\" y=\"0\" width=\"8.264%\"";
    assert!(html.contains(gap), "{html}");
    let lost = "<rect class=\"lost\" fill=\"url(#lost)\" x=\"49.587%\" y=\"30\" width=\"0.826%\"";
    assert!(html.contains(lost), "{html}");
    assert!(html.contains("nothing was recorded</li>"), "{html}");
    assert!(
        html.contains("failures were counted, but not described</li>"),
        "{html}"
    );
    let description = "4 failed calls; at most 1 in 500 ms, at 03:00:01.0; 1 gap</desc>";
    assert!(html.contains(description), "{html}");
}

#[test]
fn hostile_records_inject_nothing() -> Result<()> {
    let evils = [
        json!("<script>alert(1)</script>"),
        json!("\"onload=alert(1) x=\""),
        json!("'><img src=x onerror=alert(1)>"),
        json!("</style></title><!-- &lt;b&gt; ]]>"),
        json!("\u{1b}[2J\u{202e}\u{2066}\u{9b}\0\r\n"),
        json!(u64::MAX),
        json!(1e308),
        json!(-1e308),
        json!("9999-12-30T22:00:00.999999999Z"),
        json!("-009999-01-02T01:59:59Z"),
        json!(null),
        json!([{}]),
    ];
    for evil in &evils {
        let analysis = poisoned(evil);
        let notes = [evil.as_str().unwrap_or_default().to_owned()];
        let html = told(&analysis, &notes);
        harmless(&html).with_context(|| evil.to_string())?;
        ensure!(!html.contains("NaN") && !html.contains("inf%"), "{evil}");
        ensure!(html.len() < 4_000_000, "{}", html.len());
    }
    Ok(())
}

#[test]
fn nothing_is_a_report_too() -> Result<()> {
    let empty = told(&all(&[]), &[]);
    harmless(&empty)?;
    assert!(has(&empty, "nothing: there is no record"));
    assert!(!empty.contains("id=\"timeline\""));
    let quiet = told(&all(&[startup(), end()]), &[]);
    harmless(&quiet)?;
    assert!(has(&quiet, "No failure was captured."), "{quiet}");
    assert!(has(&quiet, "0 failures on db7"), "{quiet}");
    Ok(())
}
