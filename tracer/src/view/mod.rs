//! The full-screen view of `watch` and `replay`: records and keys in, pictures
//! out. [`state`] and [`draw`] are pure; [`term`] has the terminal.

mod data;
mod draw;
mod keys;
mod pulse;
mod rows;
mod state;
mod term;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IsTerminal, Write},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use crossterm::{
    event::{Event as Input, EventStream, KeyEvent},
    terminal::{Clear, ClearType},
};
use futures_core::Stream;
use jiff::Timestamp;
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};
use rustix::process::{self, kill_current_process_group};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{output::aside, record::Record};
use keys::{Action, action, pressed};
pub(crate) use state::Scene;
use state::State;
use term::Easel;

/// Pictures follow each other no faster than this.
const FRAME: Duration = Duration::from_millis(125);

/// Whether there is a terminal to draw on and to get keys from, and it is large
/// enough.
pub(crate) fn is_possible() -> bool {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let term = std::env::var_os("TERM").unwrap_or_default();
    let (columns, lines) = draw::LEAST;
    let has_room = |size: rustix::termios::Winsize| size.ws_col >= columns && size.ws_row >= lines;
    is_terminal
        && !term.is_empty()
        && term != "dumb"
        && rustix::termios::tcgetwinsize(io::stdout()).is_ok_and(has_room)
}

/// What happened at the terminal.
pub(crate) enum Event {
    Input(Input),
    /// It is time for a picture.
    Draw,
    /// The terminal is gone.
    Hangup,
    /// The process was stopped, and goes on.
    Continued,
}

/// Whether somebody wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    Quit,
}

pub(crate) struct View {
    state: State,
    screen: Option<Screen>,
}

/// What there is only while the terminal is taken.
struct Screen {
    canvas: Canvas,
    sheet: Sheet,
    easel: Easel,
    keys: EventStream,
    hangup: Signal,
    continued: Signal,
    /// When the next picture may be drawn.
    due: Instant,
}

impl View {
    pub(crate) fn new(scene: Scene) -> Self {
        Self {
            state: State::new(scene),
            screen: None,
        }
    }

    /// Takes the terminal, if that has not been done. Needs a runtime.
    ///
    /// # Errors
    /// It cannot be taken.
    pub(crate) fn open(&mut self) -> Result<()> {
        if self.screen.is_some() {
            return Ok(());
        }
        let listen = |kind| signal(kind).context("signals cannot be received");
        let sheet = Sheet::default();
        let easel = Easel::new().context("the screen's thread cannot be started")?;
        let (hangup, continued) = (listen(SignalKind::hangup())?, listen(SIGCONT)?);
        term::take().context("the terminal cannot be taken; --plain needs none")?;
        aside::begin();
        self.screen = Some(Screen {
            canvas: canvas(&sheet, (0, 0)).context("the screen cannot be made")?,
            sheet,
            easel,
            keys: EventStream::new(),
            hangup,
            continued,
            due: Instant::now(),
        });
        Ok(())
    }

    /// Gives the terminal back and says what was not for passing only.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        let Some(screen) = self.screen.take() else {
            return Ok(());
        };
        screen.easel.settle();
        let given = term::give_back();
        aside::end();
        given
    }

    pub(crate) fn record(&mut self, record: Record<'_>) {
        self.state.record(record);
    }

    /// Whether the picture stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.state.is_paused()
    }

    /// The time that is shown.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        self.state.tick(now);
    }

    /// Waits for keys, or until a picture is due. Safe to cancel.
    pub(crate) async fn wait(&mut self) -> Event {
        let Some(screen) = &mut self.screen else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            input = next(&mut screen.keys) => input.map_or(Event::Hangup, Event::Input),
            _ = screen.hangup.recv() => Event::Hangup,
            _ = screen.continued.recv() => Event::Continued,
            () = sleep_until(screen.due) => Event::Draw,
        }
    }

    /// Does what an event asks for.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn handle(&mut self, event: Event) -> io::Result<Wish> {
        match event {
            Event::Input(Input::Key(key)) => {
                for key in pressed(key) {
                    if self.press(key)? == Wish::Quit {
                        return Ok(Wish::Quit);
                    }
                }
            }
            Event::Input(Input::Resize(..)) => self.hurry(),
            Event::Input(_) => {}
            Event::Hangup => return Ok(Wish::Quit),
            Event::Continued => {
                term::take_again()?;
                self.clear();
            }
            Event::Draw => self.draw()?,
        }
        Ok(Wish::GoOn)
    }

    fn press(&mut self, key: KeyEvent) -> io::Result<Wish> {
        let Some(action) = action(key, self.state.is_typing) else {
            return Ok(Wish::GoOn);
        };
        match action {
            Action::Quit => return Ok(Wish::Quit),
            Action::Suspend => self.suspend()?,
            Action::Redraw => self.clear(),
            _ => {}
        }
        self.state.act(action);
        // Who presses a key wants to see what it does.
        self.hurry();
        Ok(Wish::GoOn)
    }

    fn hurry(&mut self) {
        self.state.is_stale = true;
        if let Some(screen) = &mut self.screen {
            screen.due = screen.due.min(Instant::now() + FRAME / 8);
        }
    }

    /// Stops as any program does, with the terminal as it was.
    fn suspend(&mut self) -> io::Result<()> {
        if let Some(screen) = &self.screen {
            screen.easel.settle();
        }
        term::give_back()?;
        // As if the terminal had sent it.
        kill_current_process_group(process::Signal::TSTP)?;
        term::take()?;
        self.clear();
        Ok(())
    }

    /// The next picture is drawn anew.
    fn clear(&mut self) {
        self.state.resize(0, 0);
        self.hurry();
    }

    fn draw(&mut self) -> io::Result<()> {
        for line in aside::take() {
            self.state.say(&line);
        }
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        let begun = Instant::now();
        if self.state.is_stale && !screen.easel.is_busy() {
            let size = rustix::termios::tcgetwinsize(io::stdout())?;
            let size = (size.ws_col, size.ws_row);
            if self.state.size != size {
                screen.canvas = canvas(&screen.sheet, size)?;
                self.state.resize(size.0, size.1);
            }
            screen.canvas.draw(|frame| draw::draw(&self.state, frame))?;
            self.state.is_stale = false;
            screen.easel.show(screen.sheet.tear());
        }
        // A tenth of the time at most goes into pictures.
        let now = Instant::now();
        screen.due = now + FRAME.max((now - begun) * 9);
        Ok(())
    }
}

/// The next key, or `None`: there will be none.
async fn next(keys: &mut EventStream) -> Option<Input> {
    let input = poll_fn(|context| Pin::new(&mut *keys).poll_next(context)).await;
    input.and_then(Result::ok)
}

impl Drop for View {
    fn drop(&mut self) {
        // Only if it was not closed: after an error, which is told next.
        let _ = self.close();
    }
}

type Canvas = Terminal<CrosstermBackend<Sheet>>;

/// An empty screen of this size. ratatui's own way to empty one asks the terminal
/// where its cursor is, and would wait for an answer among the keys.
fn canvas(sheet: &Sheet, (columns, lines): (u16, u16)) -> io::Result<Canvas> {
    let mut backend = CrosstermBackend::new(sheet.clone());
    crossterm::queue!(backend, Clear(ClearType::All))?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, columns, lines));
    Terminal::with_options(backend, TerminalOptions { viewport })
}

const SIGCONT: SignalKind = SignalKind::from_raw(libc::SIGCONT);

/// What ratatui writes to, until a picture is complete.
#[derive(Clone, Default)]
struct Sheet(Rc<RefCell<Vec<u8>>>);

impl Sheet {
    fn tear(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
