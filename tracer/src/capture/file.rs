//! Where do frames go? Into files that nobody else reads, one after another, or
//! to standard output.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt::Display,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;

use super::{Gap, frame::Encoder, rotate::Rotation};

/// Takes frames.
pub(super) trait Sink: Send {
    /// Writes one frame whole, or leaves no trace of it. The gap: records that
    /// were written and are gone.
    ///
    /// # Errors
    /// It could not be written now; the same frame may be tried again.
    fn put(&mut self, frame: &[u8], records: u64) -> io::Result<Option<Gap>>;

    /// What was written so far.
    fn written(&self) -> Written;
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) files: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Written {
    fn add(&mut self, records: u64, frame: &[u8]) {
        self.records += records;
        self.bytes += length(frame);
    }
}

fn length(frame: &[u8]) -> u64 {
    u64::try_from(frame.len()).unwrap_or(u64::MAX)
}

/// A capture file, or several in turn.
pub(super) struct Files {
    path: PathBuf,
    overwrite: bool,
    rotation: Rotation,
    /// The record that every file begins with, without its last brace.
    opening: String,
    /// The first file, before anything is in it.
    reserved: Option<Reserved>,
    current: Option<Current>,
    /// Of the present file, counted from 0.
    number: u64,
    /// What this run made: device and inode by path.
    own: HashMap<PathBuf, (u64, u64)>,
    written: Written,
    /// Records of a file that is gone.
    lost: Option<Gap>,
}

struct Current {
    file: File,
    /// Of the whole frames in it.
    length: u64,
    records: u64,
    begun: Instant,
    since: Timestamp,
}

/// A file that is open and not begun. Dropped, it leaves everything as it was.
struct Reserved {
    file: File,
    path: PathBuf,
    /// It was not there before.
    is_new: bool,
}

impl Reserved {
    /// Opens a file that nobody else may read, never through a symbolic link.
    fn open(path: &Path, overwrite: bool) -> io::Result<Self> {
        let (file, is_new) = open(path, overwrite)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            is_new,
        })
    }

    /// Empties it.
    fn begin(mut self) -> io::Result<File> {
        self.file.set_permissions(Permissions::from_mode(0o600))?;
        self.file.set_len(0)?;
        let file = self.file.try_clone()?;
        self.is_new = false;
        Ok(file)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Of two files with the same name only ours is empty and has our inode.
        if self.is_new && is_same(&self.path, &self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_same(path: &Path, file: &File) -> bool {
    let both = (fs::symlink_metadata(path), file.metadata());
    matches!(both, (Ok(there), Ok(ours)) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
}

impl Files {
    /// Makes sure of the first file, and writes nothing yet.
    ///
    /// # Errors
    /// It exists, is a symbolic link, or cannot be made.
    pub(super) fn reserve(path: &Path, overwrite: bool, rotation: Rotation) -> io::Result<Self> {
        let mut files = Self {
            path: path.to_owned(),
            overwrite,
            rotation,
            opening: String::new(),
            reserved: None,
            current: None,
            number: 0,
            own: HashMap::new(),
            written: Written::default(),
            lost: None,
        };
        if rotation.is_on() && !overwrite {
            files.refuse_old_set()?;
        }
        let first = rotation.name(path, 0);
        files.reserved = Some(Reserved::open(&first, overwrite)?);
        Ok(files)
    }

    /// Begins the first file. `startup` is its first record.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn start(&mut self, startup: &str) -> io::Result<()> {
        startup
            .trim_end()
            .trim_end_matches('}')
            .clone_into(&mut self.opening);
        self.begin(0)
    }

    /// A file of an earlier run would be met hours from now.
    fn refuse_old_set(&self) -> io::Result<()> {
        let Some(name) = self.path.file_name() else {
            return Ok(());
        };
        let directory = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))?.flatten() {
            if is_of_set(&entry.file_name(), name) {
                return Err(exists(entry.file_name().display()));
            }
        }
        Ok(())
    }

    fn begin(&mut self, number: u64) -> io::Result<()> {
        let path = self.rotation.name(&self.path, number);
        let reserved = match self.reserved.take() {
            Some(reserved) => reserved,
            None => {
                self.make_room(&path)?;
                Reserved::open(&path, self.overwrite)?
            }
        };
        let file = reserved.begin()?;
        let since = Timestamp::now();
        let startup = format!(
            "{},\"file\":{{\"number\":{number},\"time\":\"{since:.6}\"}}}}\n",
            self.opening
        );
        let frame = Encoder::new()?.encode(startup.as_bytes())?;
        let metadata = file.metadata()?;
        if let Err(error) = file.write_all_at(&frame, 0) {
            // So that the next attempt finds no file in its way.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.own.insert(path, (metadata.dev(), metadata.ino()));
        self.number = number;
        self.written.files += 1;
        self.written.add(1, &frame);
        self.current = Some(Current {
            file,
            length: length(&frame),
            records: 1,
            begun: Instant::now(),
            since,
        });
        Ok(())
    }

    /// Removes what this run wrote there a round of the ring ago, and nothing else.
    fn make_room(&self, path: &Path) -> io::Result<()> {
        let Some(own) = self.own.get(path) else {
            return Ok(());
        };
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == *own => fs::remove_file(path),
            _ => Ok(()),
        }
    }

    /// Begins anew what somebody removed, and the next file when it is time.
    fn ready(&mut self, frame: u64) -> io::Result<&mut Current> {
        if let Some(current) = self.current.take_if(|current| current.is_removed()) {
            let before = self.lost.take();
            self.lost = Some(Gap {
                since: before.as_ref().map_or(current.since, |gap| gap.since),
                records: current.records + before.map_or(0, |gap| gap.records),
                reason: "the file was removed while it was written".into(),
            });
        }
        match &self.current {
            None => self.begin(self.number)?,
            Some(current)
                if current.records > 1
                    && self
                        .rotation
                        .is_due(current.length, frame, current.begun.elapsed()) =>
            {
                self.begin(self.number + 1)?;
            }
            Some(_) => {}
        }
        self.current.as_mut().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Sink for Files {
    fn put(&mut self, frame: &[u8], records: u64) -> io::Result<Option<Gap>> {
        let current = self.ready(length(frame))?;
        if let Err(error) = current.file.write_all_at(frame, current.length) {
            // If this fails too, the next attempt writes over it.
            let _ = current.file.set_len(current.length);
            return Err(error);
        }
        current.length += length(frame);
        current.records += records;
        self.written.add(records, frame);
        Ok(self.lost.take())
    }

    fn written(&self) -> Written {
        self.written
    }
}

impl Current {
    fn is_removed(&self) -> bool {
        self.file
            .metadata()
            .map_or(true, |metadata| metadata.nlink() == 0)
    }
}

/// Whether `name` is `of` itself, or that with a number.
fn is_of_set(name: &OsStr, of: &OsStr) -> bool {
    name.as_bytes()
        .strip_prefix(of.as_bytes())
        .is_some_and(|number| number.iter().all(u8::is_ascii_digit))
}

fn exists(what: impl Display) -> io::Error {
    let why = format!("{what} exists already; --overwrite replaces it");
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

/// Opens an empty file that nobody else may read, never through a symbolic link,
/// and says whether it is new.
///
/// # Errors
/// It exists, or with `overwrite` cannot be emptied.
pub(crate) fn open(path: &Path, overwrite: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    // Not blocking: a FIFO has to be refused, not waited for.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.clone().create_new(true).open(path) {
        Err(error) if overwrite && error.kind() == io::ErrorKind::AlreadyExists => {}
        new => return Ok((new.map_err(|error| explain(error, path))?, true)),
    }
    let file = options.open(path).map_err(|error| explain(error, path))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(io::Error::other("it has other names (hard links)"));
    }
    Ok((file, false))
}

/// Says what stands there.
fn explain(error: io::Error, path: &Path) -> io::Error {
    if !matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ELOOP)) {
        return error;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => {
            io::Error::other("it is a symbolic link, and none is followed")
        }
        _ if error.kind() == io::ErrorKind::AlreadyExists => exists("it"),
        _ => error,
    }
}

/// Standard output, for a pipe.
pub(super) struct Stream<W> {
    out: W,
    /// How much of the present frame is out: it cannot be taken back.
    done: usize,
    written: Written,
}

impl Stream<File> {
    /// # Errors
    /// Standard output is closed.
    pub(super) fn stdout() -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::to(out))
    }
}

impl<W> Stream<W> {
    fn to(out: W) -> Self {
        let written = Written {
            files: 1,
            ..Written::default()
        };
        Self {
            out,
            done: 0,
            written,
        }
    }
}

impl<W: Write + Send> Sink for Stream<W> {
    fn put(&mut self, frame: &[u8], records: u64) -> io::Result<Option<Gap>> {
        while let Some(rest @ [_, ..]) = frame.get(self.done..) {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.done = 0;
        self.written.add(records, frame);
        Ok(None)
    }

    fn written(&self) -> Written {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, os::unix::fs::symlink};

    use super::*;

    /// A directory of its own for a test.
    pub(super) struct Place(pub(super) PathBuf);

    impl Place {
        pub(super) fn new(name: &str) -> io::Result<Self> {
            let name = format!("tracer-capture-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path)?;
            Ok(Self(path))
        }

        fn names(&self) -> io::Result<Vec<String>> {
            let mut names: Vec<_> = fs::read_dir(&self.0)?
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            Ok(names)
        }

        fn read(&self, name: &str) -> io::Result<String> {
            let bytes = fs::read(self.0.join(name))?;
            let lines = zstd::stream::decode_all(&bytes[..])?;
            Ok(String::from_utf8_lossy(&lines).into_owned())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const STARTUP: &str = "{\"type\":\"startup\"}\n";

    fn frame(lines: &str) -> io::Result<Vec<u8>> {
        Encoder::new()?.encode(lines.as_bytes())
    }

    fn create(
        path: &Path,
        overwrite: bool,
        rotation: Rotation,
        startup: &str,
    ) -> io::Result<Files> {
        let mut files = Files::reserve(path, overwrite, rotation)?;
        files.start(startup)?;
        Ok(files)
    }

    /// What is reserved and never begun was never there, or is what it was.
    #[test]
    fn a_reservation_leaves_no_trace() -> io::Result<()> {
        let place = Place::new("reserved")?;
        let reserve = |name: &str, overwrite, rotation| {
            Files::reserve(&place.0.join(name), overwrite, rotation)
        };
        let ring = Rotation {
            size: Some(1),
            count: NonZeroU32::new(3),
            ..Rotation::default()
        };
        drop(reserve("new", false, Rotation::default())?);
        drop(reserve("new", true, Rotation::default())?);
        let files = reserve("ring", false, ring)?;
        assert_eq!(place.names()?, ["ring0"]);
        drop(files);
        assert!(place.names()?.is_empty());
        fs::write(place.0.join("old"), "mine")?;
        let files = reserve("old", true, Rotation::default())?;
        assert_eq!(fs::read(place.0.join("old"))?, b"mine");
        drop(files);
        assert_eq!(fs::read(place.0.join("old"))?, b"mine");
        // Somebody else's, by now.
        let files = reserve("new", false, Rotation::default())?;
        fs::remove_file(place.0.join("new"))?;
        fs::write(place.0.join("new"), "theirs")?;
        drop(files);
        assert_eq!(fs::read(place.0.join("new"))?, b"theirs");
        Ok(())
    }

    #[test]
    fn a_file_is_private_and_begins_with_startup() -> io::Result<()> {
        let place = Place::new("private")?;
        let path = place.0.join("x");
        let mut files = create(&path, false, Rotation::default(), STARTUP)?;
        assert_eq!(files.put(&frame("1\n")?, 1)?, None);
        let told = place.read("x")?;
        assert!(told.starts_with("{\"type\":\"startup\",\"file\":{\"number\":0,\"time\":\""));
        assert!(told.ends_with("\"}}\n1\n"), "{told}");
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o600);
        Ok(())
    }

    #[test]
    fn what_is_there_is_not_touched() -> io::Result<()> {
        let place = Place::new("there")?;
        let (path, link) = (place.0.join("x"), place.0.join("link"));
        fs::write(&path, "mine")?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        symlink(&path, &link)?;
        let create = |path: &Path, overwrite| {
            create(path, overwrite, Rotation::default(), STARTUP)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let exists = "it exists already; --overwrite replaces it";
        assert_eq!(create(&path, false), Err(exists.to_owned()));
        for overwrite in [false, true] {
            let why = create(&link, overwrite).err().unwrap_or_default();
            assert!(why.contains("symbolic link"), "{why}");
        }
        assert_eq!(fs::read(&path)?, b"mine");
        let other = place.0.join("other");
        fs::hard_link(&path, &other)?;
        assert!(create(&path, true).is_err_and(|why| why.contains("hard links")));
        fs::remove_file(&other)?;
        assert_eq!(create(&path, true), Ok(()));
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o600);
        assert!(create(Path::new("/dev/null"), true).is_err_and(|why| why.contains("regular")));
        Ok(())
    }

    #[test]
    fn a_ring_keeps_its_files() -> io::Result<()> {
        let place = Place::new("ring")?;
        let rotation = Rotation {
            size: Some(1),
            count: NonZeroU32::new(3),
            ..Rotation::default()
        };
        let path = place.0.join("x");
        let mut files = create(&path, false, rotation, STARTUP)?;
        for number in 0..8 {
            files.put(&frame(&format!("{number}\n"))?, 1)?;
        }
        assert_eq!(place.names()?, ["x0", "x1", "x2"]);
        for (name, number) in [("x0", 6), ("x1", 7), ("x2", 5)] {
            let told = place.read(name)?;
            assert!(told.contains(&format!("{{\"number\":{number},")), "{told}");
            assert!(told.ends_with(&format!("\n{number}\n")), "{told}");
        }
        assert_eq!(files.written().files, 8);
        let again = create(&path, false, rotation, STARTUP);
        assert!(again.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists));
        Ok(())
    }

    #[test]
    fn a_strange_file_in_the_ring_stays() -> io::Result<()> {
        let place = Place::new("strange")?;
        let rotation = Rotation {
            size: Some(1),
            count: NonZeroU32::new(2),
            ..Rotation::default()
        };
        let mut files = create(&place.0.join("x"), false, rotation, STARTUP)?;
        files.put(&frame("0\n")?, 1)?;
        files.put(&frame("1\n")?, 1)?;
        fs::rename(place.0.join("x0"), place.0.join("kept"))?;
        fs::write(place.0.join("x0"), "strange")?;
        assert!(files.put(&frame("2\n")?, 1).is_err());
        fs::remove_file(place.0.join("x0"))?;
        files.put(&frame("2\n")?, 1)?;
        assert!(place.read("x0")?.ends_with("\n2\n"));
        Ok(())
    }

    #[test]
    fn a_file_that_vanished_is_begun_anew() -> io::Result<()> {
        let place = Place::new("vanished")?;
        let directory = place.0.join("d");
        fs::create_dir(&directory)?;
        let path = directory.join("x");
        let mut files = create(&path, false, Rotation::default(), STARTUP)?;
        files.put(&frame("1\n")?, 1)?;
        fs::remove_dir_all(&directory)?;
        assert!(files.put(&frame("2\n")?, 1).is_err());
        assert!(files.put(&frame("2\n")?, 1).is_err());
        fs::create_dir(&directory)?;
        let gap = files.put(&frame("2\n")?, 1)?;
        assert_eq!(gap.map(|gap| gap.records), Some(2));
        assert!(place.read("d/x")?.ends_with("\n2\n"));
        Ok(())
    }

    #[test]
    fn a_stream_goes_on_where_it_stopped() -> io::Result<()> {
        /// Takes two bytes at every other attempt.
        struct Halting(Vec<u8>, bool);
        impl Write for Halting {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                let taken = bytes.len().min(2);
                self.0.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut stream = Stream::to(Halting(Vec::new(), false));
        for frame in ["abcde", "fg"] {
            while stream.put(frame.as_bytes(), 1).is_err() {}
        }
        assert_eq!(stream.out.0, b"abcdefg");
        Ok(())
    }
}
