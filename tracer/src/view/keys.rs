//! Which key does what? Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::Group;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Suspend,
    Redraw,
    Pause,
    Group(Group),
    /// Back, or nothing more to leave.
    Back,
    Open,
    Help,
    Messages,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    /// Begins to type a filter.
    Filter,
    Type(char),
    Rub,
    /// The filter is as wanted.
    Accept,
    /// No filter after all.
    Clear,
}

/// A terminal sends Alt with a key as Esc and that key; so it does when somebody
/// presses both quickly, and only that means anything here.
pub(super) fn pressed(key: KeyEvent) -> impl Iterator<Item = KeyEvent> {
    let alone = key.modifiers.difference(KeyModifiers::ALT);
    let escape = KeyEvent::new_with_kind(KeyCode::Esc, KeyModifiers::NONE, key.kind);
    let escape = (alone != key.modifiers).then_some(escape);
    escape.into_iter().chain([KeyEvent {
        modifiers: alone,
        ..key
    }])
}

/// `typing`: a filter is being typed.
pub(super) fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let action = match key.code {
        KeyCode::Char('c') if control => Action::Quit,
        KeyCode::Char('z') if control => Action::Suspend,
        KeyCode::Char('l') if control => Action::Redraw,
        KeyCode::Char('u') if control && typing => Action::Clear,
        KeyCode::Char('h') if control && typing => Action::Rub,
        KeyCode::Char('b') if control && !typing => Action::PageUp,
        KeyCode::Char('f') if control && !typing => Action::PageDown,
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Esc if typing => Action::Clear,
        KeyCode::Esc => Action::Back,
        _ if control => return None,
        KeyCode::Enter if typing => Action::Accept,
        KeyCode::Backspace if typing => Action::Rub,
        KeyCode::Char(character) if typing => Action::Type(character),
        KeyCode::Home => Action::First,
        KeyCode::End => Action::Last,
        KeyCode::Enter | KeyCode::Right => Action::Open,
        KeyCode::Backspace | KeyCode::Left => Action::Back,
        KeyCode::Char(character) => return command(character),
        _ => return None,
    };
    Some(action)
}

fn command(character: char) -> Option<Action> {
    Some(match character {
        'q' => Action::Quit,
        ' ' => Action::Pause,
        'p' => Action::Group(Group::Process),
        'l' => Action::Group(Group::Listener),
        'd' => Action::Group(Group::Destination),
        'c' => Action::Group(Group::Container),
        'j' => Action::Down,
        'k' => Action::Up,
        'g' => Action::First,
        'G' => Action::Last,
        'm' => Action::Messages,
        '?' | 'h' => Action::Help,
        '/' => Action::Filter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: KeyModifiers = KeyModifiers::NONE;
    const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

    #[test]
    fn alt_is_escape_before_a_key() {
        let codes = |code, modifiers| -> Vec<KeyCode> {
            let keys = pressed(KeyEvent::new(code, modifiers));
            keys.map(|key| key.code).collect()
        };
        let question = KeyCode::Char('?');
        assert_eq!(codes(question, NONE), [question]);
        assert_eq!(codes(question, KeyModifiers::ALT), [KeyCode::Esc, question]);
        assert_eq!(codes(KeyCode::Esc, KeyModifiers::ALT), [KeyCode::Esc; 2]);
    }

    #[test]
    fn keys() {
        use KeyCode::{Backspace, Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Tab, Up};
        let table = [
            (Char('q'), NONE, Some(Action::Quit), Some(Action::Type('q'))),
            (Char('c'), CONTROL, Some(Action::Quit), Some(Action::Quit)),
            (
                Char('z'),
                CONTROL,
                Some(Action::Suspend),
                Some(Action::Suspend),
            ),
            (
                Char('l'),
                CONTROL,
                Some(Action::Redraw),
                Some(Action::Redraw),
            ),
            (Char('u'), CONTROL, None, Some(Action::Clear)),
            (Char('x'), CONTROL, None, None),
            (
                Char(' '),
                NONE,
                Some(Action::Pause),
                Some(Action::Type(' ')),
            ),
            (
                Char('p'),
                NONE,
                Some(Action::Group(Group::Process)),
                Some(Action::Type('p')),
            ),
            (
                Char('l'),
                NONE,
                Some(Action::Group(Group::Listener)),
                Some(Action::Type('l')),
            ),
            (
                Char('d'),
                NONE,
                Some(Action::Group(Group::Destination)),
                Some(Action::Type('d')),
            ),
            (
                Char('c'),
                NONE,
                Some(Action::Group(Group::Container)),
                Some(Action::Type('c')),
            ),
            (Char('j'), NONE, Some(Action::Down), Some(Action::Type('j'))),
            (Char('k'), NONE, Some(Action::Up), Some(Action::Type('k'))),
            (
                Char('G'),
                KeyModifiers::SHIFT,
                Some(Action::Last),
                Some(Action::Type('G')),
            ),
            (
                Char('m'),
                NONE,
                Some(Action::Messages),
                Some(Action::Type('m')),
            ),
            (Char('?'), NONE, Some(Action::Help), Some(Action::Type('?'))),
            (
                Char('/'),
                NONE,
                Some(Action::Filter),
                Some(Action::Type('/')),
            ),
            (Char('x'), NONE, None, Some(Action::Type('x'))),
            (Up, NONE, Some(Action::Up), Some(Action::Up)),
            (Down, NONE, Some(Action::Down), Some(Action::Down)),
            (PageUp, NONE, Some(Action::PageUp), Some(Action::PageUp)),
            (
                PageDown,
                NONE,
                Some(Action::PageDown),
                Some(Action::PageDown),
            ),
            (Home, NONE, Some(Action::First), Some(Action::First)),
            (End, NONE, Some(Action::Last), Some(Action::Last)),
            (Enter, NONE, Some(Action::Open), Some(Action::Accept)),
            (Esc, NONE, Some(Action::Back), Some(Action::Clear)),
            (Backspace, NONE, Some(Action::Back), Some(Action::Rub)),
            (Tab, NONE, None, None),
        ];
        for (code, modifiers, commanding, typing) in table {
            let key = KeyEvent::new(code, modifiers);
            assert_eq!(action(key, false), commanding, "{key:?}");
            assert_eq!(action(key, true), typing, "{key:?}");
            let released = KeyEvent::new_with_kind(code, modifiers, KeyEventKind::Release);
            assert_eq!(action(released, false), None);
        }
    }
}
