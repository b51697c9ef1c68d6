//! `tracer doctor`: what do this kernel and these privileges give?
//!
//! [`look`] probes (facts), by really attaching and detaching; [`judge`] says what each
//! fact means (pure); [`show`] writes it.

mod judge;
mod look;
mod show;

use crate::{cli, exit::Failed};

/// Looks, judges and tells; returns the exit code.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(arguments: &cli::Doctor) -> Result<u8, Failed> {
    let facts = look::look();
    let diagnosis = judge::judge(&facts);
    show::show(arguments.format, &facts.kernel, &diagnosis)?;
    Ok(diagnosis.exit_code)
}
