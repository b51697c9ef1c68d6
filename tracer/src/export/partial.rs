//! What becomes of a file that is not written to its end? It is removed: half a
//! table looks like a whole one.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::target::name;
use crate::{capture, exit, output::say};

/// A file that is not whole yet.
pub(super) struct Partial {
    file: File,
    /// Shared with who waits for signals.
    unfinished: Arc<Mutex<Unfinished>>,
}

/// The file as its directory knows it.
struct Unfinished {
    path: PathBuf,
    /// Device and inode; `None`: nothing is to be removed.
    identity: Option<(u64, u64)>,
}

impl Partial {
    /// Begins a new file, or with `overwrite` an emptied one.
    ///
    /// # Errors
    /// It exists, is a symbolic link, or cannot be made.
    pub(super) fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let unfinished = Arc::new(Mutex::new(Unfinished {
            path: path.to_owned(),
            identity: None,
        }));
        // Before there is anything to remove, so that no signal finds the
        // default action.
        remove_on_signals(Arc::clone(&unfinished))?;
        let mut locked = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, _) = capture::create(path, overwrite)?;
        let metadata = file.metadata()?;
        locked.identity = Some((metadata.dev(), metadata.ino()));
        drop(locked);
        Ok(Self { file, unfinished })
    }

    /// Everything is written: it stays.
    pub(super) fn keep(&self) {
        let mut unfinished = self
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unfinished.identity = None;
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let unfinished = self.unfinished.lock();
        unfinished.unwrap_or_else(PoisonError::into_inner).remove();
    }
}

impl Unfinished {
    /// Removes what was made here, but not what somebody put in its place.
    /// Whether there was anything to remove.
    fn remove(&mut self) -> bool {
        let Some(own) = self.identity.take() else {
            return false;
        };
        match fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == own => fs::remove_file(&self.path).is_ok(),
            _ => false,
        }
    }
}

/// Ctrl-C and SIGTERM end the process, without the file.
fn remove_on_signals(unfinished: Arc<Mutex<Unfinished>>) -> Result<()> {
    let cannot = "signals cannot be received";
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(cannot)?;
    let within = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).context(cannot)?;
    drop(within);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Locked until the end: nobody goes on writing to what is gone.
        let mut unfinished = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = if unfinished.remove() {
            format!(": {} is removed", name(&unfinished.path))
        } else {
            String::new()
        };
        say(&format!("tracer: interrupted{removed}"));
        std::process::exit(exit::FAILED.into());
    });
    Ok(())
}
