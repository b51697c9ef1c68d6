//! Whatever records say, whatever keys are pressed, however large the screen is:
//! no panic, no control character, and every failure is accounted for.

use tracer_common::{Cause, Kind};

use super::{
    scenes::{self, HOSTILE, at, connect, drop, process},
    screens::picture,
};
use crate::{
    explain::advice::tests::dice::Dice,
    record::{End, Record},
    view::{
        keys::Action,
        rows::{Group, ROWS},
        state::{Page, State},
    },
};

const ACTIONS: [Action; 23] = [
    Action::Redraw,
    Action::Pause,
    Action::Group(Group::Process),
    Action::Group(Group::Listener),
    Action::Group(Group::Destination),
    Action::Group(Group::Container),
    Action::Back,
    Action::Open,
    Action::Help,
    Action::Messages,
    Action::Up,
    Action::Down,
    Action::PageUp,
    Action::PageDown,
    Action::First,
    Action::Last,
    Action::Filter,
    Action::Type('a'),
    Action::Type('\u{1b}'),
    Action::Type('プ'),
    Action::Rub,
    Action::Accept,
    Action::Clear,
];

fn record(state: &mut State, dice: &mut Dice) {
    let comm = match dice.roll(3) {
        0 => dice.of(&HOSTILE).unwrap_or_default().to_vec(),
        1 => b"curl".to_vec(),
        _ => format!("p{}", dice.roll(400)).into_bytes(),
    };
    let who = process(&comm, dice.roll(500));
    let ms = i64::from(dice.roll(200_000));
    match dice.roll(12) {
        0 => {
            let mut census = dice.census();
            census.id = dice.roll(4).into();
            state.record(Record::Census(&census));
        }
        1 => {
            let mut finding = dice.queue();
            finding.id = dice.roll(4).into();
            state.record(Record::Queue(&finding));
        }
        2 => state.record(Record::Lost(at(ms), dice.roll(u32::MAX).into())),
        3 => {
            let [counted, described, kernel] = [(); 3].map(|()| dice.roll(u32::MAX).into());
            let totals = scenes::totals(counted, described, kernel, dice.roll(9).into());
            state.record(Record::Totals(&totals));
        }
        4 => state.say("tracer: \u{1b}[2J"),
        5 if dice.roll(20) == 0 => state.record(Record::Startup(&scenes::startup())),
        5 if dice.roll(20) == 0 => state.record(Record::End(&End {
            time: at(ms),
            reason: "count".to_owned(),
            exit_code: 0,
        })),
        6..9 => {
            let kind = dice.of(Kind::ALL).unwrap_or(Kind::SynDropped);
            let mut failure = drop(ms, kind, who, 5);
            failure.inode = dice.of(&[None, Some(0), Some(1), Some(u64::MAX)]).flatten();
            failure.cause = dice.of(Cause::ALL).unwrap_or(Cause::Other);
            failure.queue = Some(dice.roll(4).into());
            failure.local = failure.local.filter(|_| dice.roll(3) > 0);
            state.record(Record::Failure(&failure));
        }
        _ => {
            let mut failure = connect(ms, who);
            failure.census = Some(dice.roll(4).into());
            if let Some(remote) = &mut failure.remote {
                remote.set_port(u16::try_from(dice.roll(900)).unwrap_or(0));
            }
            if dice.roll(9) == 0 {
                failure.process = None;
            }
            state.record(Record::Failure(&failure));
        }
    }
}

#[test]
fn nothing_can_break_it() {
    let mut dice = Dice(7);
    for round in 0..16 {
        let mut state = scenes::nothing();
        let (mut seen, mut size) = (0_u64, (80, 24));
        for _ in 0..50 {
            for _ in 0..dice.roll(40) {
                record(&mut state, &mut dice);
            }
            if dice.roll(4) == 0 {
                state.tick(at(i64::from(dice.roll(300_000))));
            }
            if dice.roll(5) == 0 {
                let side = |dice: &mut Dice, most| u16::try_from(dice.roll(most)).unwrap_or(1);
                size = (side(&mut dice, 260), side(&mut dice, 70));
            }
            if let Some(action) = dice.of(&ACTIONS) {
                state.act(action);
            }
            let buffer = picture(&mut state, size);
            let is_clean = buffer.is_some_and(|buffer| {
                let mut symbols = buffer.content.iter().map(ratatui::buffer::Cell::symbol);
                symbols.all(|symbol| !symbol.chars().any(char::is_control))
            });
            assert!(is_clean, "round {round}, {size:?}");
            seen = seen.max(state.data().seen);
            if state.is_paused() {
                continue;
            }
            for group in Group::ALL {
                let table = state.data().table(group);
                let in_rows: u64 = table.rows.values().map(|row| row.total).sum();
                assert!(table.rows.len() <= ROWS);
                assert_eq!(in_rows + table.forgotten.1 + table.apart, state.data().seen);
            }
        }
        assert!(seen > 0);
    }
}

#[test]
fn a_row_stays_selected_while_others_overtake_it() {
    let mut state = scenes::overflow();
    state.act(Action::Down);
    let name = |state: &State| {
        let rows = state.rows();
        let at = state.position(&rows);
        at.and_then(|at| rows.get(at)).map(|row| row.name.clone())
    };
    let before = name(&state);
    for ms in 0..200 {
        let who = process(b"api", 15_631);
        state.record(Record::Failure(&drop(4800 + ms, Kind::SynDropped, who, 9)));
    }
    assert_eq!(name(&state), before);
    assert_eq!(before.as_deref(), Some("api[15631]"));
    state.act(Action::Open);
    assert!(matches!(state.page, Page::Detail(_)));
    assert_eq!(state.opened().map(|row| row.total), Some(217));
}

#[test]
fn scrolling_ends_with_the_text() {
    let mut state = scenes::overflow();
    picture(&mut state, (80, 24));
    state.act(Action::Open);
    state.act(Action::Last);
    let most = state.scroll;
    assert!(most > 0 && most < 100, "{most}");
    state.act(Action::PageDown);
    assert_eq!(state.scroll, most);
    state.act(Action::Up);
    assert_eq!(state.scroll, most - 1);
    state.act(Action::First);
    assert_eq!(state.scroll, 0);
}

/// A thousand short-lived processes have one row.
#[test]
fn namesakes_share_a_row() {
    let state = scenes::many();
    let rows = state.rows();
    assert_eq!(rows[0].name, "curl (others)");
    assert_eq!(rows[0].total, 992);
}
