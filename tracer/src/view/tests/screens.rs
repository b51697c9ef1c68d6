//! Whole screens, stored as text beside this file.

use std::{fs, path::PathBuf};

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::scenes;
use crate::{
    record::Record,
    view::{draw, keys::Action, rows::Group, state::State},
};

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

/// Draws on a screen of this size.
pub(super) fn picture(state: &mut State, (columns, lines): (u16, u16)) -> Option<Buffer> {
    state.resize(columns, lines);
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).ok()?;
    let frame = terminal.draw(|frame| draw::draw(state, frame)).ok()?;
    Some(frame.buffer.clone())
}

pub(super) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let rows = buffer.content.chunks(width).map(|row| {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = cell.symbol();
            covered = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        line.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

/// Compares with what is stored, or stores it.
fn compare(name: &str, mut state: State) {
    for size in SIZES {
        let file = format!("{name}-{}x{}.txt", size.0, size.1);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("src/view/tests/screens")
            .join(&file);
        let shown = picture(&mut state, size).as_ref().map(text);
        let shown = shown.unwrap_or_default();
        if std::env::var_os("TRACER_WRITE_SCREENS").is_some() {
            let _ = fs::create_dir_all(path.parent().unwrap_or(&path));
            assert!(fs::write(&path, &shown).is_ok(), "{file}");
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(shown == stored, "{file} has changed:\n{shown}");
    }
}

fn with(mut state: State, actions: &[Action]) -> State {
    for action in actions {
        state.act(*action);
    }
    state
}

#[test]
fn nothing_yet() {
    compare("nothing", scenes::nothing());
    compare("blind", scenes::blind());
}

#[test]
fn ports_run_out() {
    compare("exhausted", scenes::exhausted());
}

#[test]
fn a_queue_runs_over() {
    let listeners = [Action::Group(Group::Listener)];
    compare("overflow", with(scenes::overflow(), &listeners));
    compare("both", scenes::overflow());
}

#[test]
fn containers_and_units() {
    let containers = [Action::Group(Group::Container)];
    compare("containers", with(scenes::overflow(), &containers));
}

#[test]
fn a_flood() {
    compare("flood", scenes::flood());
    compare("flood-messages", with(scenes::flood(), &[Action::Messages]));
}

#[test]
fn many_processes() {
    compare(
        "many",
        with(scenes::many(), &[Action::Down, Action::PageDown]),
    );
    let destinations = [Action::Group(Group::Destination), Action::Last];
    compare("many-destinations", with(scenes::many(), &destinations));
}

#[test]
fn hostile_names() {
    compare("hostile", scenes::hostile());
    let detail = with(scenes::hostile(), &[Action::Open]);
    compare("hostile-detail", detail);
    compare(
        "hostile-messages",
        with(scenes::hostile(), &[Action::Messages]),
    );
}

#[test]
fn a_filter() {
    let mut actions = vec![Action::Filter];
    actions.extend("api QUEUE".chars().map(Action::Type));
    compare("filter", with(scenes::overflow(), &actions));
    actions.extend([Action::Type('x'), Action::Accept]);
    compare("filter-nothing", with(scenes::overflow(), &actions));
}

#[test]
fn details() {
    compare("detail-census", with(scenes::overflow(), &[Action::Open]));
    let listener = [Action::Group(Group::Listener), Action::Open];
    compare("detail-queue", with(scenes::overflow(), &listener));
    let end = [Action::Open, Action::Last];
    compare("detail-end", with(scenes::overflow(), &end));
}

#[test]
fn help() {
    compare("help", with(scenes::overflow(), &[Action::Help]));
}

#[test]
fn a_pause() {
    let mut state = with(scenes::exhausted(), &[Action::Pause]);
    for ms in 0..7 {
        let failure = scenes::connect(5000 + ms, scenes::process(b"late", 5));
        state.record(crate::record::Record::Failure(&failure));
    }
    compare("pause", state);
}

/// What colours say, shapes and words say, too.
#[test]
fn without_colours() -> Result<(), &'static str> {
    let mut coloured = with(scenes::overflow(), &[Action::Open]);
    let mut plain = with(scenes::overflow(), &[Action::Open]);
    plain.scene.has_colour = false;
    for size in SIZES {
        let [coloured, plain] = [&mut coloured, &mut plain].map(|state| picture(state, size));
        let (Some(coloured), Some(plain)) = (coloured, plain) else {
            return Err("no picture");
        };
        let has_colour =
            |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset);
        assert!(has_colour(&coloured) && !has_colour(&plain));
        assert_eq!(text(&coloured), text(&plain));
    }
    Ok(())
}

#[test]
fn what_filters_left_out_is_not_lost() {
    let mut state = scenes::nothing();
    let mut totals = scenes::totals(1220, 3, 0, 0);
    totals.health.filtered = 1217;
    state.record(Record::Totals(&totals));
    let shown = picture(&mut state, SIZES[0]).as_ref().map(text);
    let shown = shown.unwrap_or_default();
    let expected = "1220 counted  3 described  1217 left out  0 lost";
    assert!(shown.contains(expected), "{shown}");
}
