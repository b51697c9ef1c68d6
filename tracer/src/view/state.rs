//! What is looked at: the data, and where in it somebody is. A pure function of
//! records, ticks and keys.

use std::cmp::Reverse;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    data::Data,
    draw,
    keys::Action,
    rows::{Group, Key, Row},
    verdict,
};
use crate::record::Record;

/// Characters of a filter.
const FILTER: usize = 64;

/// What does not change while it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Where records are kept too.
    pub(crate) capture: Option<String>,
    /// What was asked for on the command line, such as `pid 7`; only that is shown.
    pub(crate) only: Option<String>,
    /// It comes from files, not from this kernel.
    pub(crate) is_replay: bool,
    pub(crate) zone: TimeZone,
    pub(crate) has_colour: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Table,
    Detail(Key),
    Messages,
    Help,
}

pub(crate) struct State {
    pub(super) scene: Scene,
    data: Data,
    /// As it was when it was paused.
    frozen: Option<Box<Data>>,
    pub(super) page: Page,
    /// Lines above the screen, of pages with text.
    pub(super) scroll: usize,
    pub(super) group: Group,
    /// `None`: the first row, whoever that is.
    selected: Option<Key>,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    /// Columns and lines of the screen.
    pub(super) size: (u16, u16),
    /// What is drawn is not what there is.
    pub(super) is_stale: bool,
}

impl State {
    pub(crate) fn new(scene: Scene) -> Self {
        Self {
            scene,
            data: Data::default(),
            frozen: None,
            page: Page::Table,
            scroll: 0,
            group: Group::Process,
            selected: None,
            filter: String::new(),
            is_typing: false,
            size: (0, 0),
            is_stale: true,
        }
    }

    pub(crate) fn record(&mut self, record: Record<'_>) {
        self.data.record(record);
        self.is_stale = true;
    }

    /// Time goes on.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let second = self.data.now.as_second();
        self.data.tick(now);
        self.is_stale |= self.data.now.as_second() != second;
    }

    /// Something that would have gone to standard error.
    pub(crate) fn say(&mut self, text: &str) {
        self.data.say(text);
        self.is_stale = true;
    }

    pub(super) fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.is_stale = true;
        self.stay_within();
    }

    /// What is shown.
    pub(super) fn data(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.data)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Failures since the pause began.
    pub(super) fn unseen(&self) -> u64 {
        self.data.seen - self.data().seen
    }

    /// Rows that the filter lets through: by rate, then by total.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let data = self.data();
        let now = data.now.as_second();
        let rows = data.table(self.group).rows.values();
        let mut rows: Vec<_> = rows
            .filter(|row| self.wants(row))
            .map(|row| (row.pulse.rate(now), row))
            .collect();
        rows.sort_by(|(rate, row), (other_rate, other)| {
            let order = other_rate.total_cmp(rate);
            let rest = |row: &Row| (Reverse(row.total), Reverse(row.last), row.name.clone());
            order.then_with(|| rest(row).cmp(&rest(other)))
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn wants(&self, row: &Row) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let text = verdict::searchable(row).to_lowercase();
        let mut words = self.filter.split_whitespace();
        words.all(|word| text.contains(&word.to_lowercase()))
    }

    /// Which of these rows is selected; `None`: there are none.
    pub(super) fn position(&self, rows: &[&Row]) -> Option<usize> {
        let is_selected = |row: &&Row| Some(&row.key) == self.selected.as_ref();
        let found = rows.iter().position(is_selected);
        found.or((!rows.is_empty()).then_some(0))
    }

    /// The row whose detail is open.
    pub(super) fn opened(&self) -> Option<&Row> {
        match &self.page {
            Page::Detail(key) => self.data().table(self.group).rows.get(key),
            _ => None,
        }
    }

    /// Does what is wanted, but for quitting and suspending.
    pub(super) fn act(&mut self, action: Action) {
        self.is_stale = true;
        match action {
            Action::Quit | Action::Suspend | Action::Redraw => {}
            Action::Pause => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.data.clone())),
                }
            }
            Action::Group(group) => {
                self.group = group;
                self.selected = None;
                self.turn_to(Page::Table);
            }
            Action::Back if self.page != Page::Table => self.turn_to(Page::Table),
            Action::Back => self.filter.clear(),
            Action::Open => self.open(),
            Action::Help => self.toggle(Page::Help),
            Action::Messages => self.toggle(Page::Messages),
            Action::Up => self.go(-1),
            Action::Down => self.go(1),
            Action::PageUp => self.go(-self.screenful()),
            Action::PageDown => self.go(self.screenful()),
            Action::First => self.go(isize::MIN),
            Action::Last => self.go(isize::MAX),
            Action::Filter => {
                self.turn_to(Page::Table);
                self.is_typing = true;
            }
            Action::Type(character) => {
                let has_room = self.filter.chars().count() < FILTER;
                if has_room && !character.is_control() {
                    self.filter.push(character);
                }
            }
            Action::Rub => {
                self.filter.pop();
            }
            Action::Accept => self.is_typing = false,
            Action::Clear => {
                self.filter.clear();
                self.is_typing = false;
            }
        }
        self.stay_within();
    }

    fn turn_to(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
        self.is_typing = false;
    }

    fn toggle(&mut self, page: Page) {
        let next = if self.page == page { Page::Table } else { page };
        self.turn_to(next);
    }

    fn open(&mut self) {
        if self.page != Page::Table {
            return;
        }
        let rows = self.rows();
        let chosen = self.position(&rows).and_then(|at| rows.get(at));
        if let Some(key) = chosen.map(|row| row.key.clone()) {
            self.selected = Some(key.clone());
            self.turn_to(Page::Detail(key));
        }
    }

    fn screenful(&self) -> isize {
        isize::try_from(draw::body_height(self)).unwrap_or(1).max(1)
    }

    fn go(&mut self, by: isize) {
        if self.page != Page::Table {
            self.scroll = self.scroll.saturating_add_signed(by);
            return;
        }
        let rows = self.rows();
        let Some(at) = self.position(&rows) else {
            return;
        };
        let to = at.saturating_add_signed(by).min(rows.len() - 1);
        // At the top again: whoever is first.
        let key = rows[to].key.clone();
        self.selected = (to > 0).then_some(key);
    }

    /// Scrolling ends with the text.
    fn stay_within(&mut self) {
        let most = match self.page {
            Page::Table => 0,
            _ => draw::page_length(self).saturating_sub(draw::body_height(self)),
        };
        self.scroll = self.scroll.min(most);
    }
}
