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
use rustix::process::{Pid, Signal, kill_process};
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
}

impl Child {
    fn none() -> Self {
        Self {
            process: None,
            was_signalled: false,
        }
    }

    fn spawn(command: &[OsString]) -> Result<Self, Failed> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self::none());
        };
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
