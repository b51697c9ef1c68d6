//! The terminal: taken for a full screen, and given back as it was, whatever
//! happens: at the end, on an error, on a panic.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    panic,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use crossterm::{
    cursor::{Hide, Show},
    queue,
    style::{Attribute, SetAttribute},
    terminal::{EnterAlternateScreen, LeaveAlternateScreen},
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::output::say;

/// How long a terminal that does not take its picture is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How the terminal was, while it is taken; and who has taken it.
static TAKEN: Mutex<Option<(Termios, ThreadId)>> = Mutex::new(None);

/// Takes the terminal of standard input and output: keys come one by one and
/// are not echoed, and the screen is another one.
///
/// # Errors
/// It is no terminal, or it is gone.
pub(super) fn take() -> io::Result<()> {
    restore_on_panic();
    take_from(&io::stdin(), &mut io::stdout())
}

/// Gives it back. What was given back already is left alone.
///
/// # Errors
/// The terminal is gone.
pub(super) fn give_back() -> io::Result<()> {
    give_back_to(&io::stdin(), &mut io::stdout())
}

/// After a stop that nobody announced: whoever had the terminal meanwhile may have
/// left it otherwise.
///
/// # Errors
/// The terminal is gone.
pub(super) fn take_again() -> io::Result<()> {
    let Some((before, owner)) = taken().take() else {
        return Ok(());
    };
    take()?;
    // As it was at first, not as a shell's line editor left it.
    *taken() = Some((before, owner));
    Ok(())
}

fn taken() -> std::sync::MutexGuard<'static, Option<(Termios, ThreadId)>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_from(input: &impl AsFd, output: &mut impl Write) -> io::Result<()> {
    let before = tcgetattr(input)?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(input, OptionalActions::Now, &raw)?;
    *taken() = Some((before, thread::current().id()));
    queue!(output, EnterAlternateScreen, Hide)?;
    output.flush()
}

fn give_back_to(input: &impl AsFd, output: &mut impl Write) -> io::Result<()> {
    let Some((before, _)) = taken().take() else {
        return Ok(());
    };
    let written = queue!(
        output,
        SetAttribute(Attribute::Reset),
        Show,
        LeaveAlternateScreen
    );
    let written = written.and_then(|()| output.flush());
    // Also if nothing can be written any more.
    tcsetattr(input, OptionalActions::Now, &before)?;
    written
}

/// A panic's words belong on the screen that stays. On another thread they must
/// not go across the picture: they become a message.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let owner = taken().as_ref().map(|(_, owner)| *owner);
            match owner {
                Some(owner) if owner != thread::current().id() => {
                    say(&format!("tracer: {info}"));
                }
                Some(_) => {
                    let _ = give_back();
                    crate::output::aside::end();
                    next(info);
                }
                None => next(info),
            }
        }));
    });
}

/// Writes pictures on a thread of its own: a terminal that stands still must not
/// make who traces wait.
pub(super) struct Easel {
    pictures: SyncSender<Vec<u8>>,
    is_busy: Arc<AtomicBool>,
}

impl Easel {
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn new() -> io::Result<Self> {
        let (pictures, taken) = mpsc::sync_channel::<Vec<u8>>(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        thread::Builder::new()
            .name("screen".into())
            .spawn(move || {
                let mut stdout = io::stdout();
                while let Ok(picture) = taken.recv() {
                    let written = stdout.write_all(&picture).and_then(|()| stdout.flush());
                    busy.store(false, Ordering::Release);
                    if written.is_err() {
                        // The terminal is gone: its keys say so, too.
                        break;
                    }
                }
            })?;
        Ok(Self { pictures, is_busy })
    }

    /// Whether the last picture is still being written.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    pub(super) fn show(&self, picture: Vec<u8>) {
        self.is_busy.store(true, Ordering::Release);
        if self.pictures.try_send(picture).is_err() {
            self.is_busy.store(false, Ordering::Release);
        }
    }

    /// Waits for the last picture, but not for ever.
    pub(super) fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_busy() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    /// A terminal: the side of who looks at it, and the program's side.
    fn terminal() -> io::Result<(File, File)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let looker = openpt(flags)?;
        unlockpt(&looker)?;
        let program = ioctl_tiocgptpeer(&looker, flags)?;
        Ok((looker.into(), program.into()))
    }

    /// The part of the state that a program could spoil, as `stty` shows it.
    fn modes(terminal: &File) -> Option<String> {
        let is = tcgetattr(terminal).ok()?;
        let modes = (
            is.input_modes,
            is.output_modes,
            is.local_modes,
            is.control_modes,
        );
        Some(format!("{modes:?} {:?}", is.special_codes))
    }

    fn shown(looker: &mut File) -> String {
        let mut bytes = [0; 4096];
        let length = looker.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn it_is_given_back_as_it_was() -> io::Result<()> {
        let (mut looker, program) = terminal()?;
        let mut output = &program;
        let before = modes(&program);
        assert!(before.is_some());
        assert!(take_from(&program, &mut output).is_ok());
        assert_ne!(modes(&program), before);
        assert!(shown(&mut looker).contains(ENTER));
        assert!(give_back_to(&program, &mut output).is_ok());
        assert_eq!(modes(&program), before);
        let last = shown(&mut looker);
        assert!(last.contains(LEAVE) && last.contains(CURSOR), "{last:?}");
        // Nothing is left to give back.
        assert!(give_back_to(&program, &mut output).is_ok());
        assert_eq!(modes(&program), before);
        Ok(())
    }

    /// Set for the process that panics on a terminal of its own.
    const PANIC: &str = "TRACER_TEST_PANIC";
    const ENTER: &str = "\u{1b}[?1049h";
    const LEAVE: &str = "\u{1b}[?1049l";
    const CURSOR: &str = "\u{1b}[?25h";

    /// This test twice: it runs itself on another terminal, and panics there.
    #[test]
    fn a_panic_gives_it_back_and_is_told_below() -> io::Result<()> {
        let is_child = std::env::var_os(PANIC).is_some();
        if is_child {
            take()?;
        }
        assert!(!is_child, "on purpose");
        let (mut looker, program) = terminal()?;
        let before = modes(&program);
        let side = || program.try_clone().map(std::process::Stdio::from);
        let child = std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("view::term::tests::a_panic_gives_it_back_and_is_told_below")
            .env(PANIC, "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(side()?)
            .stdout(side()?)
            .stderr(side()?)
            .status()?;
        assert!(!child.success());
        assert_eq!(modes(&program), before);
        let said = shown(&mut looker);
        let at = |what| said.find(what);
        assert!(at(ENTER).is_some() && at(ENTER) < at(LEAVE), "{said:?}");
        assert!(at(LEAVE) < at("on purpose"), "{said:?}");
        assert!(at(CURSOR).is_some(), "{said:?}");
        Ok(())
    }
}
