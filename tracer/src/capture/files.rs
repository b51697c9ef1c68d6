//! Which files are read, and in which order?

mod last;
mod older;
mod seek;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Seek},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    damage::{Damage, object},
    read::Reader,
};
use crate::{output::sanitize::printable, when::When};
use older::Older;

/// What means standard input.
const STDIN: &str = "-";

/// The records of some files, one after the other.
pub(crate) struct Captures {
    waiting: VecDeque<Waiting>,
    current: Option<Current>,
    /// How many were begun.
    begun: u64,
    /// What is older is not wanted.
    begin: Option<Timestamp>,
    damage: Damage,
    notes: Vec<String>,
}

/// A file that is not read yet.
struct Waiting {
    path: PathBuf,
    /// Open since it was looked at: in a ring that is being written, another may
    /// have its name soon. `None`: to be opened when it is read.
    file: Option<File>,
}

/// So many files are kept open.
const OPEN: usize = 256;

struct Current {
    path: PathBuf,
    reader: Reader<Box<dyn Read + Send>>,
    records: u64,
    /// Events that are passed over.
    older: Option<Older>,
    /// But for what the reader counts.
    other: Damage,
}

impl Captures {
    /// Finds the files that are meant: paths, patterns that no shell expanded,
    /// or `-`. Those of a rotated set are read in the order of their records.
    ///
    /// # Errors
    /// One of them does not exist or cannot be read.
    pub(crate) fn open(arguments: &[OsString]) -> Result<Self> {
        let mut paths = Vec::new();
        for argument in arguments {
            paths.extend(expand(argument)?);
        }
        let waiting = match paths.len() {
            0 | 1 => paths
                .into_iter()
                .map(|path| Waiting { path, file: None })
                .collect(),
            _ => in_order(paths)?,
        };
        Ok(Self {
            waiting: waiting.into(),
            current: None,
            begun: 0,
            begin: None,
            damage: Damage::default(),
            notes: Vec::new(),
        })
    }

    /// The next record; lines that are none are counted. Its line is
    /// [`Self::line`].
    ///
    /// # Errors
    /// A file cannot be read, or is no capture at all.
    pub(crate) fn next_record(&mut self) -> Result<Option<Value>> {
        self.next(object)
    }

    /// The same for who needs something else of the line; `None` is counted as
    /// no record.
    ///
    /// # Errors
    /// As for [`Self::next_record`].
    pub(crate) fn next<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(waiting) = self.waiting.pop_front() else {
                    return Ok(None);
                };
                self.current = Some(Current::open(waiting)?);
                self.begun += 1;
                continue;
            };
            if let Some(begin) = self.begin.filter(|_| current.records == 1) {
                current.skip_to(begin);
            }
            match current.next(&mut parse)? {
                Some(record) => return Ok(Some(record)),
                None => self.close()?,
            }
        }
    }

    /// Passes over events that are older, and skips most of what is, if that can be
    /// found out at once; a file's first record is always read.
    pub(crate) fn skip_to(&mut self, begin: Timestamp) {
        self.begin = Some(begin);
    }

    /// The moment that is meant; to be asked before the first record is read.
    /// `None`: there is no record.
    ///
    /// # Errors
    /// It is a time of day, and the captures are standard input or a pipe.
    pub(crate) fn moment(&self, when: When) -> Result<Option<Timestamp>> {
        match when {
            When::Moment(moment) => Ok(Some(moment)),
            When::TimeOfDay(_) => Ok(when.before(self.last_time()?)),
        }
    }

    /// When the last records were made.
    fn last_time(&self) -> Result<Option<Timestamp>> {
        for Waiting { path, .. } in self.waiting.iter().rev() {
            if !path.is_file() {
                bail!(
                    "which day is meant only a file tells, and {} is none: give the date, too",
                    name(path)
                );
            }
            let last = last::time_in(path);
            let last = last.with_context(|| format!("{} cannot be read", name(path)))?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The line of the record, exactly as it was written, without its `\n`.
    pub(crate) fn line(&self) -> &[u8] {
        let current = self.current.as_ref();
        current
            .map(|current| current.reader.line())
            .unwrap_or_default()
    }

    /// Which of the files the record is in, counted from 1.
    pub(crate) fn file(&self) -> u64 {
        self.begun
    }

    /// Whether this is one of the files that are still to be read, by whatever
    /// name.
    pub(crate) fn reads(&self, path: &Path) -> bool {
        let identity = |path: &Path| {
            let is_stdin = path.as_os_str() == STDIN;
            let metadata = fs::metadata(if is_stdin {
                Path::new("/dev/stdin")
            } else {
                path
            });
            let metadata = metadata.ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let wanted = identity(path);
        wanted.is_some()
            && self
                .waiting
                .iter()
                .any(|file| identity(&file.path) == wanted)
    }

    /// What could not be read of the files that are done.
    pub(crate) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The same as sentences, one for each file.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes stock of a file that was read to its end.
    fn close(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let name = name(&current.path);
        let damage = current.damage();
        let only_torn = Damage {
            torn_bytes: damage.torn_bytes,
            ..Damage::default()
        };
        // A capture may have been cut in its first frame.
        let is_begun = current.reader.begins_with_frame() && damage == only_torn;
        if current.records == 0 && damage != Damage::default() && !is_begun {
            bail!("{name} is no capture: neither zstd frames with checksums nor JSON Lines");
        }
        if current.records == 0 && damage == Damage::default() {
            self.notes.push(format!("{name}: no records"));
        }
        if damage != Damage::default() {
            self.notes.push(format!("{name}: {}", damage.sentence()));
        }
        self.damage.add(&damage);
        Ok(())
    }
}

impl Current {
    fn open(waiting: Waiting) -> Result<Self> {
        let Waiting { path, file } = waiting;
        let input: Box<dyn Read + Send> = match file {
            Some(file) => Box::new(file),
            None if path.as_os_str() == STDIN => Box::new(io::stdin()),
            None => Box::new(open(&path)?),
        };
        Ok(Self {
            path,
            reader: Reader::new(input),
            records: 0,
            older: None,
            other: Damage::default(),
        })
    }

    fn next<T>(&mut self, mut parse: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let unreadable = || format!("{} cannot be read", name(&self.path));
        while let Some(line) = self.reader.next_line().with_context(unreadable)? {
            if self.older.as_ref().is_some_and(|older| older.has(line)) {
                continue;
            }
            let record = self.other.parse(line, &mut parse);
            if record.is_some() {
                self.records += 1;
                return Ok(record);
            }
        }
        Ok(None)
    }

    /// Goes on near `begin`. What is skipped so is no damage.
    fn skip_to(&mut self, begin: Timestamp) {
        self.older = Some(Older::than(begin));
        if !self.reader.begins_with_frame() {
            return;
        }
        let Ok(Some(input)) = seek::near(&self.path, begin) else {
            return;
        };
        self.other.add(self.reader.damage());
        self.reader = Reader::within(Box::new(input));
    }

    fn damage(&self) -> Damage {
        let mut damage = *self.reader.damage();
        damage.add(&self.other);
        damage
    }
}

fn open(path: &Path) -> Result<File> {
    let cannot = || format!("{} cannot be opened", name(path));
    let file = File::open(path).with_context(cannot)?;
    if file.metadata().with_context(cannot)?.is_dir() {
        bail!("{} is a directory", name(path));
    }
    Ok(file)
}

/// The files that an argument means.
fn expand(argument: &OsStr) -> Result<Vec<PathBuf>> {
    let path = PathBuf::from(argument);
    let is_pattern = |text: &str| text.contains(['*', '?', '[']);
    let pattern = argument.to_str().filter(|text| is_pattern(text));
    let Some(pattern) = pattern.filter(|_| fs::symlink_metadata(&path).is_err()) else {
        return Ok(vec![path]);
    };
    let name = name(&path);
    let found = glob::glob(pattern).with_context(|| format!("{name} is no pattern"))?;
    let found = found.filter_map(Result::ok).collect::<Vec<_>>();
    if found.is_empty() {
        bail!("no file matches {name}");
    }
    Ok(found)
}

/// Sorts files by the time of their first records; each counts once.
fn in_order(paths: Vec<PathBuf>) -> Result<Vec<Waiting>> {
    let mut seen = HashSet::new();
    let mut dated = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            bail!("standard input can only be read alone");
        }
        let mut file = open_twice(&path)?;
        let metadata = file.metadata();
        let metadata = metadata.with_context(|| format!("{} cannot be read", name(&path)))?;
        if !metadata.is_file() {
            bail!(
                "{} is no regular file and can only be read alone",
                name(&path)
            );
        }
        if seen.insert((metadata.dev(), metadata.ino())) {
            let begin = begin(&path, &mut file)?;
            let file = (dated.len() < OPEN).then_some(file);
            dated.push((begin, Waiting { path, file }));
        }
    }
    // Stable: what has the same time, or none, stays as it was given.
    dated.sort_by_key(|(begin, _)| *begin);
    Ok(dated.into_iter().map(|(_, waiting)| waiting).collect())
}

/// Opens one of several files. In a ring that is being written, the next file gets
/// the name of the one that made room for it: in between there is none.
fn open_twice(path: &Path) -> Result<File> {
    const NEXT: Duration = Duration::from_millis(50);
    let is_gone = |error: &anyhow::Error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    match open(path) {
        Err(error) if is_gone(&error) => {
            thread::sleep(NEXT);
            open(path)
        }
        opened => opened,
    }
}

/// When a file's records begin. All files of a rotated set have the same
/// `startup`, so what follows it counts, or else when the file was begun.
fn begin(path: &Path, file: &mut File) -> Result<Option<Timestamp>> {
    let unreadable = || format!("{} cannot be read", name(path));
    let mut current = Current::open(Waiting {
        path: path.to_owned(),
        file: Some(file.try_clone().with_context(unreadable)?),
    })?;
    let mut begin = None;
    while let Some(record) = current.next(object)? {
        begin = time(&record["file"]).or(time(&record)).or(begin);
        if begin.is_some() && record["type"] != "startup" {
            break;
        }
    }
    // The copy moved it, too.
    file.rewind().with_context(unreadable)?;
    Ok(begin)
}

/// When a record was made.
pub(crate) fn time(record: &Value) -> Option<Timestamp> {
    record["time"].as_str()?.parse().ok()
}

/// A file's name, for people.
fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN {
        return "standard input".to_owned();
    }
    printable(path.as_os_str().as_bytes())
}
