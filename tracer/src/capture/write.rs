//! Keeps records in a capture, and makes who traces wait for a moment at most.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    file::{Files, Sink, Stream, Written},
    frame::Encoder,
    queue::{Ended, Pushed, Queue},
    rotate::Rotation,
};
use crate::output::say;

/// How long after a failed write comes the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// How long the end waits for a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is said that records come too fast.
const SLOW_SAID: Duration = Duration::from_secs(60);

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `-`: standard output.
    pub(crate) path: PathBuf,
    pub(crate) overwrite: bool,
    pub(crate) rotation: Rotation,
}

impl Options {
    /// Whether the capture goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        self.path.as_os_str() == OsStr::new("-")
    }

    fn name(&self) -> String {
        if self.is_stdout() {
            "standard output".into()
        } else {
            self.path.display().to_string()
        }
    }
}

/// Where a capture will be: that nothing is in its way is known.
pub(crate) struct Reserved {
    name: String,
    /// `None`: standard output.
    files: Option<Files>,
}

impl Reserved {
    /// Makes sure of the first file, which stays empty.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let name = options.name();
        if options.is_stdout() {
            if io::stdout().is_terminal() {
                bail!("a capture is not for a terminal: tracer record -w - | zstdcat");
            }
            return Ok(Self { name, files: None });
        }
        let Options {
            path,
            overwrite,
            rotation,
        } = options;
        let files = Files::reserve(path, *overwrite, *rotation);
        let files = Some(files.with_context(|| format!("cannot write {name}"))?);
        Ok(Self { name, files })
    }
}

/// A capture that is being written.
pub(crate) struct Writer {
    queue: Arc<Queue>,
    name: String,
    slow_said: Option<Instant>,
    is_finished: bool,
}

impl Writer {
    /// Begins a capture with its `startup` record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn start(reserved: Reserved, startup: &str) -> anyhow::Result<Self> {
        let Reserved { name, files } = reserved;
        let queue = Arc::new(Queue::new());
        let sink: Box<dyn Sink> = match files {
            None => {
                queue.push(startup.as_bytes())?;
                Box::new(Stream::stdout().context("standard output")?)
            }
            Some(mut files) => {
                let begun = files.start(startup);
                begun.with_context(|| format!("cannot write {name}"))?;
                Box::new(files)
            }
        };
        start(Arc::clone(&queue), sink, name.clone())?;
        Ok(Self {
            queue,
            name,
            slow_said: None,
            is_finished: false,
        })
    }

    /// Takes one record, as a line with its end.
    ///
    /// # Errors
    /// A broken pipe: nobody reads on. Everything else is retried and becomes a
    /// gap.
    pub(crate) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let pushed = self.queue.push(line)?;
        let is_old = |said: Instant| said.elapsed() > SLOW_SAID;
        if pushed == Pushed::FirstRefused && self.slow_said.is_none_or(is_old) {
            self.slow_said = Some(Instant::now());
            say(&format!(
                "tracer: {}: records come faster than they can be written; those left out are counted in gap records",
                self.name
            ));
        }
        Ok(())
    }

    /// Whether anybody still reads.
    ///
    /// # Errors
    /// A broken pipe: nobody does.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.queue.check()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        let name = &self.name;
        let Some(ended) = self.queue.finish(PATIENCE) else {
            let why = format!("{name} does not answer: the last records are not in the capture");
            return Err(io::Error::other(why));
        };
        say(&format!("tracer: {name}: {}", ended.summary));
        match ended.unwritten {
            None => Ok(()),
            Some((records, why)) => Err(io::Error::other(format!(
                "{name}: {why}; the last {records} records are not in the capture"
            ))),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            say(&format!("tracer: {error}"));
        }
    }
}

fn start(queue: Arc<Queue>, mut sink: Box<dyn Sink>, name: String) -> anyhow::Result<()> {
    let mut encoder = Encoder::new().context("zstd cannot be set up")?;
    let work = move || {
        let ended = work(&queue, &mut *sink, &mut encoder, &name);
        queue.end(ended);
    };
    thread::Builder::new()
        .name("capture".into())
        .spawn(work)
        .context("the thread that writes the capture cannot be started")?;
    Ok(())
}

/// Writes until nothing more comes.
fn work(queue: &Queue, sink: &mut dyn Sink, encoder: &mut Encoder, name: &str) -> Ended {
    let mut unwritten = None;
    while let Some(chunk) = queue.take() {
        let written = encoder
            .encode(&chunk.lines)
            .and_then(|frame| put(queue, sink, &frame, chunk.records, name));
        let Err(error) = written else {
            queue.reuse(chunk.lines);
            continue;
        };
        if error.kind() == io::ErrorKind::BrokenPipe {
            queue.close();
        } else {
            unwritten = Some((chunk.records + queue.waiting(), error.to_string()));
        }
        break;
    }
    Ended {
        summary: summary(sink.written(), queue.left_out()),
        unwritten,
    }
}

/// Writes a frame, at whichever attempt.
///
/// # Errors
/// Nobody reads on, or it failed once more at the end.
fn put(
    queue: &Queue,
    sink: &mut dyn Sink,
    frame: &[u8],
    records: u64,
    name: &str,
) -> io::Result<()> {
    loop {
        let is_last_attempt = queue.is_done();
        match sink.put(frame, records) {
            Ok(lost) => {
                if let Some(left_out) = queue.mend() {
                    say(&format!(
                        "tracer: {name}: is written again; {left_out} records were left out"
                    ));
                }
                if let Some(lost) = lost {
                    queue.push_gap(&lost);
                }
                return Ok(());
            }
            Err(error) if is_last_attempt || error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(error);
            }
            Err(error) => {
                if queue.trouble(error.to_string()) {
                    say(&format!(
                        "tracer: {name}: {error}; tracing goes on, and writing is tried again each second"
                    ));
                }
                queue.pause(RETRY);
            }
        }
    }
}

fn summary(written: Written, left_out: u64) -> String {
    let Written {
        files,
        records,
        bytes,
    } = written;
    let mut summary = format!("{records} records, {bytes} bytes");
    if files > 1 {
        summary.push_str(&format!(", {files} files"));
    }
    if left_out > 0 {
        summary.push_str(&format!("; {left_out} records were left out"));
    }
    summary
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::capture::Gap;

    /// Fails as often as it is told to, then keeps what it gets.
    #[derive(Clone, Default)]
    struct Failing {
        failures: u32,
        kept: Arc<Mutex<Vec<u8>>>,
        lost: Option<Gap>,
    }

    impl Sink for Failing {
        fn put(&mut self, frame: &[u8], _: u64) -> io::Result<Option<Gap>> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(frame);
            Ok(self.lost.take())
        }

        fn written(&self) -> Written {
            Written::default()
        }
    }

    impl Failing {
        fn lines(&self) -> io::Result<Vec<serde_json::Value>> {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let lines = zstd::stream::decode_all(&kept[..])?;
            let lines = String::from_utf8_lossy(&lines).into_owned();
            Ok(lines
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect())
        }
    }

    fn writer(sink: &Failing) -> anyhow::Result<Writer> {
        let queue = Arc::new(Queue::new());
        let name = "test".to_owned();
        start(Arc::clone(&queue), Box::new(sink.clone()), name.clone())?;
        Ok(Writer {
            queue,
            name,
            slow_said: None,
            is_finished: false,
        })
    }

    /// Every record is there, or counted in a gap, in its place.
    #[test]
    fn records_and_gaps_add_up() -> anyhow::Result<()> {
        let sink = Failing {
            failures: 2,
            ..Failing::default()
        };
        let mut writer = writer(&sink)?;
        let line = format!("{{\"x\":\"{}\"}}\n", "y".repeat(999));
        let pushed = 9000_u64;
        for _ in 0..pushed {
            writer.write(line.as_bytes())?;
        }
        // Beyond both attempts that fail.
        thread::sleep(RETRY * 3);
        writer.write(b"{\"last\":1}\n")?;
        writer.finish()?;
        let lines = sink.lines()?;
        let gaps: Vec<_> = lines.iter().filter(|line| line["type"] == "gap").collect();
        let left_out: u64 = gaps.iter().filter_map(|gap| gap["records"].as_u64()).sum();
        // Two, if the queue ran over before the first attempt failed.
        assert!([1, 2].contains(&gaps.len()), "{gaps:?}");
        for gap in &gaps {
            let reason = gap["reason"].as_str().unwrap_or_default();
            assert!(
                reason.contains("No space left") || reason.contains("faster"),
                "{reason}"
            );
        }
        let told = lines.iter().filter(|line| line["x"].is_string()).count();
        assert_eq!(u64::try_from(told)? + left_out, pushed);
        assert!(left_out > 0 && lines.last().is_some_and(|last| last["last"] == 1));
        Ok(())
    }

    #[test]
    fn what_the_end_cannot_write_is_said() -> anyhow::Result<()> {
        let mut writer = writer(&Failing {
            failures: u32::MAX,
            ..Failing::default()
        })?;
        writer.write(b"{}\n")?;
        writer.write(b"{}\n")?;
        let why = writer.finish().err().map(|error| error.to_string());
        assert_eq!(
            why.as_deref(),
            Some(
                "test: No space left on device (os error 28); the last 2 records are not in the capture"
            )
        );
        Ok(())
    }

    #[test]
    fn a_removed_file_is_a_gap() -> anyhow::Result<()> {
        let sink = Failing {
            lost: Some(Gap {
                since: jiff::Timestamp::UNIX_EPOCH,
                records: 5,
                reason: "removed".into(),
            }),
            ..Failing::default()
        };
        let mut writer = writer(&sink)?;
        writer.write(b"{}\n")?;
        writer.finish()?;
        let lines = sink.lines()?;
        assert_eq!(lines[1]["since"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(lines[1]["records"], 5);
        Ok(())
    }
}
