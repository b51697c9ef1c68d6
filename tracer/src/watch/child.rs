//! The command that is traced while it runs.

use std::{
    ffi::OsString,
    future::pending,
    io,
    os::unix::process::ExitStatusExt,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};
use tokio::{
    process::{self, Command},
    runtime::Handle,
};

use crate::exit::Failed;

/// The command before it is started.
pub(super) struct Waiting(Option<Ready>);

/// A thread that starts a command when told to. Each thread has its own privileges,
/// and what it starts inherits them: so the command gets those that tracer was started
/// with, although tracer has given its own up.
struct Ready {
    go: Sender<()>,
    thread: JoinHandle<Result<Child, Failed>>,
}

impl Waiting {
    /// Gets ready to start `command`; an empty one is none. To be called inside of
    /// the runtime.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn new(command: &[OsString]) -> Result<Self, Failed> {
        if command.is_empty() {
            return Ok(Self(None));
        }
        let (go, told) = mpsc::channel();
        let command = command.to_vec();
        let runtime = Handle::current();
        let start = move || {
            let _inside = runtime.enter();
            match told.recv() {
                Ok(()) => Child::spawn(&command),
                Err(_) => Ok(Child::none()),
            }
        };
        let thread = thread::Builder::new()
            .name("tracer-command".into())
            .spawn(start)
            .context("the thread for the command cannot be started")?;
        Ok(Self(Some(Ready { go, thread })))
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be found or run.
    pub(super) fn spawn(self) -> Result<Child, Failed> {
        let Some(Ready { go, thread }) = self.0 else {
            return Ok(Child::none());
        };
        // If it is gone, its result says why.
        let _ = go.send(());
        let ended = || Failed::Running(anyhow!("the thread for the command ended early"));
        thread.join().map_err(|_| ended())?
    }
}

/// The command, if there is one.
pub(super) struct Child {
    process: Option<process::Child>,
    /// A signal has been passed on; the next one ends tracer.
    was_signalled: bool,
    /// An orphan that had ended when [`Child::reap`] last looked.
    ended: Option<libc::pid_t>,
}

impl Child {
    fn none() -> Self {
        Self {
            process: None,
            was_signalled: false,
            ended: None,
        }
    }

    fn spawn(command: &[OsString]) -> Result<Self, Failed> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self::none());
        };
        // Orphans among its descendants become children of tracer, by which they are
        // recognised (filter/tree.rs). Where this fails, they are not.
        let _ = set_child_subreaper(Some(rustix::process::getpid()));
        let process = Command::new(program)
            .args(arguments)
            .spawn()
            .map_err(|error| {
                let code = if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
                Failed::Command(code, format!("cannot run {}: {error}", program.display()))
            })?;
        Ok(Self {
            process: Some(process),
            was_signalled: false,
            ended: None,
        })
    }

    /// Waits for the command; for ever if there is none.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) async fn exited(&mut self) -> anyhow::Result<u8> {
        let Some(process) = &mut self.process else {
            return pending().await;
        };
        let status = process
            .wait()
            .await
            .context("the command cannot be waited for")?;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }

    /// Once a second: buries orphans that tracer adopted from the command. Other children
    /// of tracer's are waited for at once by whoever started them, so what was there a
    /// second ago already is nobody's.
    pub(super) fn reap(&mut self) {
        let Some(command) = self.process.as_ref().and_then(process::Child::id) else {
            return;
        };
        let mut is_old = false;
        while let Some(pid) = first_ended().filter(|pid| pid.cast_unsigned() != command) {
            is_old |= self.ended == Some(pid);
            if !is_old {
                self.ended = Some(pid);
                return;
            }
            // SAFETY: no status is asked for; it has ended, so this does not wait.
            if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != pid {
                break;
            }
        }
        self.ended = None;
    }

    /// Hands a signal to the running command, whose end then ends tracer too.
    /// `false`: there is none, or it has had its chance.
    pub(super) fn pass_on(&mut self, signal: Signal) -> bool {
        let pid = self.process.as_ref().and_then(process::Child::id);
        let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let Some(pid) = pid else {
            return false;
        };
        if std::mem::replace(&mut self.was_signalled, true) {
            return false;
        }
        // Our child, and nobody has waited for it: the pid is still its. An error: it
        // has ended by itself.
        let _ = kill_process(pid, signal);
        true
    }
}

/// A child that has ended and that nobody has waited for, if there is one.
fn first_ended() -> Option<libc::pid_t> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable and of the type that the call fills in.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    if result != 0 {
        return None;
    }
    // SAFETY: all zeros is a valid siginfo_t.
    let info = unsafe { info.assume_init() };
    // SAFETY: of a child that has ended it is set, else it is zero.
    let pid = unsafe { info.si_pid() };
    (pid != 0).then_some(pid)
}
