//! What waits to be written? Bounded, so that neither a slow disk nor a full one
//! stops who traces: what finds no room within a moment is counted, and the count is
//! written instead as soon as there is room again.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Gap,
    frame::{FRAME, LINE},
};
use crate::output::json;

/// A line waits at most this long for others to share a frame with.
const FLUSH: Duration = Duration::from_secs(1);

/// So many bytes of lines may wait.
const ROOM: usize = 4 * 1024 * 1024;

/// Who traces waits at most this long for room: on a busy machine the writer may have had no
/// processor. Failures stay in the kernel's ring meanwhile.
const PATIENCE: Duration = Duration::from_millis(250);

/// And not again before this has passed, for the disk may be what is slow.
const PAUSE: Duration = Duration::from_secs(1);

/// The lines of one frame to be.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) lines: Vec<u8>,
    pub(super) records: u64,
    since: Instant,
}

/// How it went, in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// What is to be said about what was written.
    pub(super) summary: String,
    /// Records that the run ended with and that are not written, and why.
    pub(super) unwritten: Option<(u64, String)>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// It is the first that finds no room, and nothing else is known to be wrong.
    FirstRefused,
    /// It is counted in a gap.
    Refused,
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    room: usize,
    patience: Duration,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// What found no room since the last time there was any.
    gap: Option<Gap>,
    /// What is wrong right now.
    trouble: Option<String>,
    /// When room was waited for.
    waited: Option<Instant>,
    /// Memory for the next chunk: that of one that is written.
    spare: Vec<u8>,
    /// All gaps together.
    left_out: u64,
    /// Nothing more will come.
    is_done: bool,
    /// Nobody reads on.
    is_closed: bool,
    ended: Option<Ended>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self::with_room(ROOM, PATIENCE)
    }

    fn with_room(room: usize, patience: Duration) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            room,
            patience,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, with its end, or counts it.
    ///
    /// # Errors
    /// A broken pipe: nobody reads on.
    pub(super) fn push(&self, line: &[u8]) -> io::Result<Pushed> {
        let mut state = self.with_room_for(line.len());
        if state.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if line.len() > LINE {
            self.record(&mut state, &single(line.len()));
            return Ok(Pushed::Refused);
        }
        if state.gap.is_none() && state.bytes + line.len() <= self.room {
            self.append(&mut state, line);
            return Ok(Pushed::Queued);
        }
        Ok(state.refuse())
    }

    /// Waits a moment for room, if the disk is not to blame for there being none.
    fn with_room_for(&self, bytes: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let is_patient = state.gap.is_none()
            && state.trouble.is_none()
            && state.waited.is_none_or(|then| then.elapsed() >= PAUSE);
        let begun = Instant::now();
        while is_patient
            && state.bytes + bytes > self.room
            && !state.is_closed
            && begun.elapsed() < self.patience
        {
            state.waited = Some(Instant::now());
            state = self.wait(state, self.patience.saturating_sub(begun.elapsed()));
        }
        state
    }

    /// # Errors
    /// As for [`Queue::push`].
    pub(super) fn check(&self) -> io::Result<()> {
        if self.lock().is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Notes a gap that is known from elsewhere.
    pub(super) fn push_gap(&self, gap: &Gap) {
        self.record(&mut self.lock(), gap);
    }

    fn record(&self, state: &mut State, gap: &Gap) {
        state.left_out += gap.records;
        let line = format!("{}\n", json::gap(Timestamp::now(), gap));
        self.append(state, line.as_bytes());
    }

    fn append(&self, state: &mut State, line: &[u8]) {
        let fits = |chunk: &Chunk| chunk.lines.len() + line.len() <= FRAME;
        match state.chunks.back_mut().filter(|chunk| fits(chunk)) {
            Some(chunk) => {
                chunk.lines.extend_from_slice(line);
                chunk.records += 1;
            }
            None => {
                let mut lines = std::mem::take(&mut state.spare);
                lines.extend_from_slice(line);
                state.chunks.push_back(Chunk {
                    lines,
                    records: 1,
                    since: Instant::now(),
                });
                // The first wakes the writer, the second completes the first.
                self.changed.notify_all();
            }
        }
        state.bytes += line.len();
    }

    /// Waits for a chunk that is full, a second old, or the last; `None`: that was
    /// all.
    pub(super) fn take(&self) -> Option<Chunk> {
        let mut state = self.lock();
        loop {
            let wait = match state.chunks.front() {
                None if state.is_done => return None,
                None => FLUSH,
                Some(_) if state.is_done || state.chunks.len() > 1 => Duration::ZERO,
                Some(chunk) => FLUSH.saturating_sub(chunk.since.elapsed()),
            };
            if wait.is_zero() {
                break;
            }
            state = self.wait(state, wait);
        }
        let chunk = state.chunks.pop_front()?;
        state.bytes = state.bytes.saturating_sub(chunk.lines.len());
        self.changed.notify_all();
        // There is room again, and what came before the gap is in the queue.
        if let Some(gap) = state.gap.take() {
            self.record(&mut state, &gap);
        }
        Some(chunk)
    }

    /// Takes the memory of a chunk that is written: the system would clear new memory.
    pub(super) fn reuse(&self, mut lines: Vec<u8>) {
        // A line may have been longer than a frame.
        if lines.capacity() <= 2 * FRAME {
            lines.clear();
            self.lock().spare = lines;
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Notes what is wrong; whether it is news.
    pub(super) fn trouble(&self, why: String) -> bool {
        self.lock().trouble.replace(why).is_none()
    }

    /// Nothing is wrong any more: if something was, how many records found no room.
    pub(super) fn mend(&self) -> Option<u64> {
        let mut state = self.lock();
        state.trouble.take()?;
        Some(state.gap.as_ref().map_or(0, |gap| gap.records))
    }

    pub(super) fn is_done(&self) -> bool {
        self.lock().is_done
    }

    /// Waits before another attempt, unless this is the end.
    pub(super) fn pause(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while !state.is_done {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    /// How many records wait, or found no room.
    pub(super) fn waiting(&self) -> u64 {
        let state = self.lock();
        let waiting = state.chunks.iter().map(|chunk| chunk.records).sum::<u64>();
        waiting + state.gap.as_ref().map_or(0, |gap| gap.records)
    }

    /// How many records the gaps together stand for.
    pub(super) fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    /// Nobody reads on: whoever pushes learns it.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// The writer has ended.
    pub(super) fn end(&self, ended: Ended) {
        self.lock().ended = Some(ended);
        self.changed.notify_all();
    }

    /// Nothing more comes; waits for the writer's end. `None`: it does not come.
    pub(super) fn finish(&self, patience: Duration) -> Option<Ended> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        state.is_done = true;
        self.changed.notify_all();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if state.ended.is_some() || left.is_zero() {
                return state.ended.clone();
            }
            state = self.wait(state, left);
        }
    }
}

impl State {
    fn refuse(&mut self) -> Pushed {
        if let Some(gap) = &mut self.gap {
            gap.records += 1;
            return Pushed::Refused;
        }
        let slow = || "records came faster than they could be written".to_owned();
        self.gap = Some(Gap {
            since: Timestamp::now(),
            records: 1,
            reason: self.trouble.clone().unwrap_or_else(slow),
        });
        if self.trouble.is_none() {
            Pushed::FirstRefused
        } else {
            Pushed::Refused
        }
    }
}

/// A record that no reader would take.
fn single(length: usize) -> Gap {
    Gap {
        since: Timestamp::now(),
        records: 1,
        reason: format!("a record of {length} bytes: at most {LINE} are written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunk: Option<Chunk>) -> Vec<String> {
        let lines = chunk.map(|chunk| chunk.lines).unwrap_or_default();
        let text = String::from_utf8_lossy(&lines);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() -> io::Result<()> {
        let queue = Queue::with_room(6, Duration::ZERO);
        assert_eq!(queue.push(b"aa\n")?, Pushed::Queued);
        assert_eq!(queue.push(b"bb\n")?, Pushed::Queued);
        assert_eq!(queue.push(b"cc\n")?, Pushed::FirstRefused);
        assert_eq!(queue.push(b"d\n")?, Pushed::Refused);
        assert_eq!(queue.waiting(), 4);
        assert_eq!(lines(queue.take()), ["aa", "bb"]);
        assert_eq!(queue.push(b"ee\n")?, Pushed::FirstRefused);
        assert!(queue.finish(Duration::ZERO).is_none());
        let rest = lines(queue.take());
        assert!(rest[0].contains("\"type\":\"gap\"") && rest[0].contains("\"records\":2"));
        assert!(rest[0].contains("faster than"), "{rest:?}");
        let rest = lines(queue.take());
        assert!(rest[0].contains("\"records\":1"), "{rest:?}");
        assert!(queue.take().is_none());
        assert_eq!(queue.left_out(), 3);
        Ok(())
    }

    #[test]
    fn a_writer_that_is_late_for_a_moment_costs_no_record() -> io::Result<()> {
        let queue = Queue::with_room(6, Duration::from_secs(60));
        queue.push(b"aaaaa\n")?;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(10);
                while queue.lock().waited.is_none() && Instant::now() < end {
                    std::thread::yield_now();
                }
                // The end makes the writer take what there is at once.
                queue.finish(Duration::ZERO);
                lines(queue.take())
            });
            assert_eq!(queue.push(b"b\n")?, Pushed::Queued);
            assert_eq!(writer.join().unwrap_or_default(), ["aaaaa"]);
            Ok(())
        })
    }

    #[test]
    fn lines_are_shared_out_to_frames_whole() -> io::Result<()> {
        let queue = Queue::new();
        // Two fit, three do not.
        let line = vec![b'x'; FRAME * 2 / 5];
        for _ in 0..5 {
            queue.push(&line)?;
        }
        let taken: Vec<_> = [queue.take(), queue.take()]
            .into_iter()
            .flatten()
            .map(|chunk| (chunk.lines.len(), chunk.records))
            .collect();
        assert_eq!(taken, [(2 * line.len(), 2), (2 * line.len(), 2)]);
        // The last one is not full; it comes when it is a second old.
        let begun = Instant::now();
        assert_eq!(queue.take().map(|chunk| chunk.records), Some(1));
        assert!(begun.elapsed() > FLUSH / 2);
        Ok(())
    }

    #[test]
    fn a_line_that_no_reader_takes_becomes_a_gap() -> io::Result<()> {
        let queue = Queue::new();
        assert_eq!(queue.push(&vec![b'x'; LINE + 1])?, Pushed::Refused);
        queue.push(b"{}\n")?;
        assert!(queue.finish(Duration::ZERO).is_none());
        let lines = lines(queue.take());
        assert!(
            lines[0].contains("1048577") && lines[1] == "{}",
            "{lines:?}"
        );
        Ok(())
    }

    #[test]
    fn who_pushes_learns_that_nobody_reads() {
        let queue = Queue::new();
        queue.close();
        assert!(queue.check().is_err());
        let refused = queue.push(b"{}\n").map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::BrokenPipe));
    }
}
