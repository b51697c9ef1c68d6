//! Where does an export go? To standard output, or into a file that nobody else
//! reads and that is whole or not there.

use std::{
    io::{self, IsTerminal, Stdout, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::partial::Partial;
use crate::output::sanitize::printable;

/// Where an export goes.
pub(super) struct Target {
    to: To,
    /// Why it could not be written; the formats' crates wrap that beyond recognition.
    failed: Option<io::Error>,
}

enum To {
    Stdout(Stdout),
    File(PathBuf, Partial),
}

impl Target {
    /// Standard output without a path. Else a new file, or with `overwrite` an
    /// emptied one.
    ///
    /// # Errors
    /// It exists, is a symbolic link, or cannot be made.
    pub(super) fn open(path: Option<&Path>, overwrite: bool) -> Result<Self> {
        let to = match path {
            None => To::Stdout(io::stdout()),
            Some(path) => {
                let file = Partial::create(path, overwrite);
                To::File(path.to_owned(), file.with_context(|| cannot(path))?)
            }
        };
        Ok(Self { to, failed: None })
    }

    /// Whether somebody looks at it.
    pub(super) fn is_terminal(path: Option<&Path>) -> bool {
        path.is_none() && io::stdout().is_terminal()
    }

    /// Takes note that all is written, or says why it is not.
    ///
    /// # Errors
    /// Why not all was written: this target's reason rather than that in `written`.
    pub(super) fn finish(mut self, written: Result<()>) -> Result<()> {
        let error = match (written, self.failed.take()) {
            (Ok(()), None) => {
                if let To::File(_, partial) = &self.to {
                    partial.keep();
                }
                return Ok(());
            }
            (_, Some(error)) => error.into(),
            (Err(error), None) => return Err(error),
        };
        match self.to {
            To::Stdout(_) => Err(error),
            To::File(path, _) => Err(error.context(cannot(&path))),
        }
    }
}

/// A file's name, for people.
pub(super) fn name(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

fn cannot(path: &Path) -> String {
    format!("cannot write {}", name(path))
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.to {
            To::Stdout(out) => out.write(bytes),
            To::File(_, file) => file.write(bytes),
        };
        written.map_err(|error| self.note(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = match &mut self.to {
            To::Stdout(out) => out.flush(),
            To::File(_, file) => file.flush(),
        };
        flushed.map_err(|error| self.note(error))
    }
}

impl Target {
    fn note(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind != io::ErrorKind::Interrupted {
            self.failed = Some(error);
        }
        kind.into()
    }
}
