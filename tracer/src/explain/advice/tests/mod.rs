//! Every rule speaks when it should, and only then.

mod cases;
pub(crate) mod dice;
mod findings;

use std::collections::BTreeSet;

use tracer_common::Cause;

use self::{
    cases::{Finding, Finding::Ports, Finding::Queue as OfQueue, cases},
    dice::Dice,
    findings::*,
};
use super::{on_census, on_queue, ports, queues};
use crate::explain::finding::{Advice, Part, PortState::*};

const DOCS: &str = include_str!("../../../../../docs/advice.md");

/// Every id there is.
fn all() -> Vec<&'static str> {
    let ports = ports::RULES.iter().map(|rule| rule.id);
    ports
        .chain(queues::RULES.iter().map(|rule| rule.id))
        .collect()
}

#[test]
fn every_rule_speaks_when_it_should_and_only_then() {
    for (number, (id, is_due, finding, quote)) in cases().iter().enumerate() {
        if !is_due {
            assert!(!finding.applies(id), "case {number}: {id} speaks");
            continue;
        }
        let advice = finding.advice();
        let piece = advice.iter().find(|piece| piece.id == *id);
        assert!(piece.is_some(), "case {number}: no {id} in {advice:?}");
        assert!(
            piece.is_some_and(|piece| piece.text.contains(quote)),
            "case {number}: no {quote:?} in {advice:?}"
        );
    }
}

#[test]
fn every_rule_has_a_case_and_a_near_miss() {
    let cases = cases();
    let seen: BTreeSet<_> = cases.iter().map(|case| (case.0, case.1)).collect();
    let wanted = all().into_iter().flat_map(|id| [(id, true), (id, false)]);
    assert_eq!(seen, wanted.collect());
    let ids: BTreeSet<_> = all().into_iter().collect();
    assert_eq!(ids.len(), all().len(), "an id is used twice");
}

#[test]
fn the_most_useful_comes_first() {
    let ids = |finding: Finding| -> Vec<_> {
        let advice = finding.advice();
        advice.into_iter().map(|piece| piece.id).collect()
    };
    let census = |parts| ids(Ports(connect(parts)));
    assert_eq!(
        census(vec![of(TimeWait, 28232)]),
        ["keep-alive", "tw-reuse", "widen-range"]
    );
    assert_eq!(
        census(vec![of(Established, 28232)]),
        ["limit-pool", "widen-range", "more-addresses"]
    );
    assert_eq!(
        census(vec![
            of(Established, 20000),
            of(BoundUnused, 5000),
            of(TimeWait, 3232)
        ]),
        ["limit-pool", "close-bound", "keep-alive"]
    );
    assert_eq!(census(vec![of(CloseWait, 28232)]), ["close-after-peer"]);
    assert_eq!(
        ids(Ports(bind(vec![of(TimeWait, 28232)]))),
        ["bind-no-port", "widen-range", "more-addresses"]
    );
    assert_eq!(
        ids(Ports(taken(8080, of(Listening, 1)))),
        ["port-owner", "share-port"]
    );
    assert_eq!(
        ids(Ports(taken(40000, of(TimeWait, 1)))),
        ["reuse-addr", "reserve-port"]
    );
    assert_eq!(
        ids(OfQueue(queue(|_| {}))),
        ["accept-faster", "raise-backlog"]
    );
    assert_eq!(
        ids(OfQueue(no_cookies(Cause::BacklogReserve))),
        ["syncookies", "max-syn-backlog"]
    );
}

#[test]
fn only_who_has_a_good_part_is_named() {
    let text = |of_curl, of_wrk| {
        let mut part = nobodys(of(TimeWait, 28000 - of_curl - of_wrk));
        part.ports = 28000;
        part.sockets = 28000;
        part.holders.push(holder("curl", of_curl));
        part.holders.push(holder("wrk", of_wrk));
        let advice = on_census(&connect(vec![part]));
        advice
            .first()
            .map(|piece| piece.text.clone())
            .unwrap_or_default()
    };
    assert!(text(14000, 14000).starts_with("Have curl[7] and wrk[7] keep"));
    assert!(text(14000, 6000).starts_with("Have curl[7] keep"));
    assert!(text(6000, 6000).starts_with("Have the clients keep"));
}

#[test]
fn a_name_cannot_drive_a_terminal() {
    let evil = "\u{1b}]0;x\u{7}\u{202e}";
    let part = Part {
        holders: vec![holder(evil, 28232)],
        ..of(TimeWait, 28232)
    };
    let ports = on_census(&connect(vec![part]));
    let queue = on_queue(&queue(|it| {
        it.process = Some(process(evil, 1));
        ghost(Some(process(evil, 2)))(it);
    }));
    let mut texts = ports.iter().chain(&queue).map(|piece| &piece.text);
    assert!(texts.any(|text| text.contains("\\x1b]0;x\\x07\\u{202e}")));
    for piece in ports.iter().chain(&queue) {
        assert!(!piece.text.contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }
}

#[test]
fn whatever_is_found_advice_is_short_and_clean() {
    let known = all();
    let mut dice = Dice(3);
    let mut said = BTreeSet::new();
    for number in 0..40_000 {
        let finding = match number % 2 {
            0 => Ports(dice.census()),
            _ => OfQueue(dice.queue()),
        };
        let advice = finding.advice();
        let ids: BTreeSet<_> = advice.iter().map(|piece| piece.id.clone()).collect();
        assert!(advice.len() <= 3 && ids.len() == advice.len());
        for Advice { id, text } in advice {
            assert!(known.contains(&id.as_ref()), "{id}");
            assert!(
                (30..=500).contains(&text.len()) && text.ends_with('.'),
                "{text}"
            );
            assert!(!text.contains("  ") && !text.contains("{}"), "{text}");
            assert!(
                !text.chars().any(|it| it.is_control() || it == '\u{2028}'),
                "{text:?}"
            );
            assert!(BANNED.iter().all(|banned| !text.contains(banned)), "{text}");
            said.insert(id);
        }
    }
    assert_eq!(
        said,
        known.into_iter().map(Into::into).collect(),
        "the dice leave rules out"
    );
}

/// Never advised: docs/advice.md says why, in the section of that name.
const BANNED: [&str; 3] = ["tcp_tw_recycle", "tcp_fin_timeout", "tcp_max_tw_buckets"];

#[test]
fn docs_explain_every_rule_and_nothing_else() {
    let headings: Vec<_> = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    assert_eq!(headings, all());
    let (before, after) = DOCS.split_once("\n## Never advised\n").unwrap_or_default();
    assert!(!after.contains("\n## "), "it is the last section");
    for banned in BANNED {
        assert!(!before.contains(banned), "{banned}");
        assert!(after.contains(banned), "{banned}");
    }
}
