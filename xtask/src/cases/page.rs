//! tracer's answer in a case's page: the part between two marks is written by
//! `xtask cases --write`, the rest by hand.

use super::lab::Lab;
use crate::place::Place;
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const BEGIN: &str = "<!-- written by `cargo xtask cases --write` -->\n```text\n";
const END: &str = "```\n<!-- end -->\n";

/// Events of one kind in a row that are shown; the others are counted.
const SHOWN: usize = 3;

/// Stands for pieces of advice that are shown above.
const SAME_ADVICE: &str = "      → …\n";

/// Replaces the answer in a page.
pub(super) fn write(place: &Place, name: &str, output: &str, lab: &Lab) -> Result<()> {
    let strangers: Vec<u64> = namespaces(output)
        .filter(|netns| ![lab.client.netns, lab.server.netns].contains(netns))
        .collect();
    ensure!(
        strangers.is_empty(),
        "something failed outside of the case too, in namespaces {strangers:?}: try again when that is over"
    );
    let answer = as_in_pages(&cut(output), lab);
    ensure!(
        !answer.contains(&place.root.display().to_string()),
        "tracer's output has paths of this machine:\n{answer}"
    );
    let path = path(place, name);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, _, after) = split(&page)?;
    fs::write(&path, format!("{before}{BEGIN}{answer}{END}{after}"))?;
    Ok(())
}

/// The namespaces under the names that the pages' commands give them.
fn as_in_pages(answer: &str, lab: &Lab) -> String {
    let answer = answer.replace(&lab.client.namespace, "client");
    answer.replace(&lab.server.namespace, "server")
}

fn path(place: &Place, name: &str) -> PathBuf {
    place.root.join("docs/cases").join(format!("{name}.md"))
}

/// What stands before, between and after the marks.
fn split(page: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("the page has no place for tracer's output")?;
    let (answer, after) = rest
        .split_once(END)
        .context("the place for tracer's output has no end")?;
    Ok((before, answer, after))
}

/// Of what `tracer ports` says: the lab's namespaces, each with the lines below
/// it, and the line about all namespaces that use no port.
pub(super) fn of_namespaces(output: &str, lab: &Lab) -> String {
    of_these(output, [lab.client.netns, lab.server.netns])
}

fn of_these(output: &str, netns: [u64; 2]) -> String {
    let mut text = String::new();
    let mut is_wanted = false;
    for line in output.lines() {
        if !line.starts_with(' ') {
            is_wanted = match line.strip_prefix("netns ") {
                Some(_) => namespaces(line).any(|one| netns.contains(&one)),
                None => line.contains(" network namespaces: "),
            };
        }
        if is_wanted {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Every namespace that tracer's totals name.
fn namespaces(output: &str) -> impl Iterator<Item = u64> {
    output.split("netns ").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    })
}

/// Leaves out what this kernel cannot show (the same in every case), all but
/// the first of many events that say the same, and advice that was given before.
fn cut(output: &str) -> String {
    let mut text = String::new();
    let mut given = BTreeSet::new();
    let mut last = None;
    let mut alike = 0;
    let end = |alike: usize| match alike.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("…             and {more} more like it\n"),
    };
    for line in output.lines().filter(|line| !line.starts_with("tracer: ")) {
        if advice(line).is_some_and(|id| !given.insert(id)) {
            if !text.ends_with(SAME_ADVICE) {
                text.push_str(SAME_ADVICE);
            }
            continue;
        }
        let this = gist(line);
        if this.is_none() || this != last {
            text.push_str(&end(alike));
            alike = 0;
        }
        last = this;
        alike += 1;
        if alike <= SHOWN || last.is_none() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text.push_str(&end(if last.is_some() { alike } else { 0 }));
    text
}

/// The `id` at the end of `      → What to do. [id]`.
fn advice(line: &str) -> Option<&str> {
    line.trim_start()
        .strip_prefix('→')?
        .strip_suffix(']')?
        .rsplit_once('[')
        .map(|(_, id)| id)
}

/// Process, kind and cause of an event's line: its second to fourth column.
fn gist(line: &str) -> Option<[&str; 3]> {
    let mut columns = line.split("  ").map(str::trim).filter(|c| !c.is_empty());
    let time = columns.next()?;
    if !time.starts_with(|c: char| c.is_ascii_digit()) || time.matches(':').count() != 2 {
        return None;
    }
    Some([columns.next()?, columns.next()?, columns.next()?])
}

#[cfg(test)]
mod tests {
    use super::super::CASES;
    use super::*;
    use std::path::Path;

    fn place() -> Result<Place> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Ok(Place::at(root.context("the crate is in a workspace")?))
    }

    #[test]
    fn every_case_has_a_page_with_an_answer() -> Result<()> {
        let place = place()?;
        let index = fs::read_to_string(path(&place, "README"))?;
        for case in CASES {
            let name = case.name;
            let page = fs::read_to_string(path(&place, name)).context(name)?;
            let (_, answer, _) = split(&page).context(name)?;
            assert!(answer.contains("-- totals"), "{name} has no answer");
            assert!(
                index.contains(&format!("({name}.md)")),
                "{name} is not in the index"
            );
        }
        Ok(())
    }

    #[test]
    fn events_that_say_the_same_are_counted() {
        let event = |second: u8, pid: u8| {
            format!(
                "12:00:0{second}.000  api[{pid}]                  SYN dropped     accept queue full     10.0.0.2:80 ← 10.0.0.1:5000{second}  3/2\n"
            )
        };
        let same: String = (0..5).map(|second| event(second, 7)).collect();
        let output = format!(
            "tracer on 6.1: all\ntracer: not seen\n{same}{}   a finding\n-- totals\n",
            event(6, 8)
        );
        let wanted = format!(
            "tracer on 6.1: all\n{}{}{}…             and 2 more like it\n{}   a finding\n-- totals\n",
            event(0, 7),
            event(1, 7),
            event(2, 7),
            event(6, 8)
        );
        assert_eq!(cut(&output), wanted);
    }

    #[test]
    fn advice_is_given_once() {
        let output = "   queue 1\n      → Do. [a]\n      → Do it. [b]\n\
                      queue 1\n      → Do. [a]\n      → Do it. [b]\n      → More. [c]\n";
        let wanted = "   queue 1\n      → Do. [a]\n      → Do it. [b]\n\
                      queue 1\n      → …\n      → More. [c]\n";
        assert_eq!(cut(output), wanted);
    }

    #[test]
    fn ports_of_strangers_are_left_out() {
        let output = "netns 5 (other): ports 1-2, 2 usable\n   TCP: 1 used\n\
                      netns 7 (server): ports 1-2, 2 usable\n   TCP: 0 used\n\
                      2 network namespaces: no port of the range is taken\nunknown: why\n";
        let wanted = "netns 7 (server): ports 1-2, 2 usable\n   TCP: 0 used\n\
                      2 network namespaces: no port of the range is taken\n";
        assert_eq!(of_these(output, [7, 8]), wanted);
    }

    #[test]
    fn namespaces_are_found_in_totals() {
        let output = "  2  bind failed, port in use  netns 402\n   kernel's own, netns 403: x";
        assert_eq!(namespaces(output).collect::<Vec<_>>(), [402, 403]);
    }
}
