//! Reading and parsing, while another thread counts: two processors do it in two
//! thirds of the time, and the records come in the same order.

use std::{panic::resume_unwind, sync::mpsc, thread};

use anyhow::{Context, Result};

use crate::capture::files::Captures;

/// Records that are handed over at once.
const BATCH: usize = 256;

/// How often that may happen before somebody takes them.
const AHEAD: usize = 8;

/// Takes every record, in order; gives the captures back, read to their end.
///
/// # Errors
/// As for [`Captures::next`].
pub(super) fn each<T: Send>(
    mut captures: Captures,
    mut parse: impl FnMut(&[u8]) -> Option<T> + Send,
    take: impl FnMut(T),
) -> Result<Captures> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    let reader = move || {
        while let Some(records) = batch(&mut captures, &mut parse)? {
            if sender.send(records).is_err() {
                break;
            }
        }
        Ok(captures)
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().spawn_scoped(scope, reader);
        let reader = reader.context("the thread that reads cannot be started")?;
        receiver.into_iter().flatten().for_each(take);
        reader.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// The next records; `None`: that was all.
fn batch<T>(
    captures: &mut Captures,
    mut parse: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<Vec<T>>> {
    let mut records = Vec::with_capacity(BATCH);
    while records.len() < BATCH {
        match captures.next(&mut parse)? {
            Some(record) => records.push(record),
            None => break,
        }
    }
    Ok((!records.is_empty()).then_some(records))
}
