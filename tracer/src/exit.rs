//! How tracer ends: the exit codes and the one line that explains a bad end.

use std::process::ExitCode;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Exit codes:
  0  ended as asked (also by Ctrl-C and SIGTERM)
  1  failed while running
  2  the command line is wrong
  3  not permitted: not root, a capability is missing, lockdown
  4  this kernel lacks what is needed: no BTF, or every hook is refused
  with -- COMMAND: its own exit code, 128 + the signal that ended it,
  126 if it cannot be run, 127 if it cannot be found";

/// The same for verbs that look once and end.
pub(crate) const SNAPSHOT_HELP: &str = "\
Exit codes:
  0  told what can be seen; what cannot is said on standard error
  1  failed while running
  2  the command line is wrong
  3  not permitted: no network namespace can be entered
  4  this kernel lists no sockets";

/// The same for verbs that read files.
pub(crate) const FILES_HELP: &str = "\
Exit codes:
  0  read; what is damaged is skipped and told: by replay on standard error,
     by report in the report
  1  a file cannot be read, or is no capture
  2  the command line is wrong";

/// Failed while running.
pub(crate) const FAILED: u8 = 1;

/// The same for `selftest`.
pub(crate) const SELFTEST_HELP: &str = "\
Exit codes:
  0  all that this kernel can show was right
  1  something was wrong, or failed
  2  the command line is wrong
  3  not permitted: not root, a capability is missing, lockdown
  4  this kernel lacks what is needed: no BTF, or every hook is refused";

/// The same for `doctor`.
pub(crate) const DOCTOR_HELP: &str = "\
Exit codes:
  0  tracer can do all of its job here
  1  it can, but something is missing: each is said
  2  the command line is wrong
  3  not permitted: not root, a capability is missing, lockdown
  4  this kernel lacks what is needed: no BTF, or every hook is refused";

/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;

/// Why tracer cannot go on.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Exit code 1.
    Running(anyhow::Error),
    /// Exit code 3.
    NotPermitted(String),
    /// Exit code 4.
    Unsupported(String),
    /// Exit code 126 or 127.
    Command(u8, String),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Running(error)
    }
}

/// Whether nobody reads what is written.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

impl Failed {
    /// The exit code that belongs to it.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Running(_) => FAILED,
            Self::NotPermitted(_) => 3,
            Self::Unsupported(_) => 4,
            Self::Command(code, _) => *code,
        })
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(error) => write!(f, "{error:#}"),
            Self::NotPermitted(why) | Self::Unsupported(why) | Self::Command(_, why) => {
                f.write_str(why)
            }
        }
    }
}
