use std::{env, process};

use super::*;

/// A directory of its own for each test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("tracer-{}-{test}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<OsString> {
        let path = self.0.join(name);
        fs::write(&path, content)?;
        Ok(path.into())
    }

    fn path(&self, name: &str) -> OsString {
        self.0.join(name).into()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn frame(content: &str) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    io::Write::write_all(&mut encoder, content.as_bytes())?;
    encoder.finish()
}

/// A file of a rotated set, with one event.
fn part(second: u32) -> io::Result<Vec<u8>> {
    frame(&format!(
        "{{\"type\":\"startup\",\"time\":\"2026-11-21T03:00:00Z\"}}\n\
         {{\"type\":\"event\",\"time\":\"2026-11-21T03:00:{second:02}Z\"}}\n"
    ))
}

/// The seconds of all events, the notes, and the damage.
fn read(files: &[OsString]) -> Result<(Vec<i8>, Vec<String>, Damage)> {
    let mut captures = Captures::open(files)?;
    let mut seconds = Vec::new();
    while let Some(record) = captures.next_record()? {
        assert_eq!(serde_json::from_slice::<Value>(captures.line())?, record);
        if record["type"] == "event" {
            let time = time(&record).unwrap_or_default();
            seconds.push(time.to_zoned(jiff::tz::TimeZone::UTC).second());
        }
    }
    Ok((seconds, captures.notes().to_vec(), *captures.damage()))
}

fn why(files: &[OsString]) -> String {
    read(files).map_or_else(|error| format!("{error:#}"), |read| format!("{read:?}"))
}

#[test]
fn a_rotated_set_is_read_in_the_order_of_its_records() -> Result<()> {
    let directory = Directory::new("order")?;
    let files = [
        directory.write("trace", &part(30)?)?,
        directory.write("trace.1", &part(50)?)?,
        directory.write("trace.2", &part(10)?)?,
        directory.write("trace.10", &part(20)?)?,
    ];
    let expected = (vec![10, 20, 30, 50], Vec::new(), Damage::default());
    assert_eq!(read(&files)?, expected);
    assert_eq!(read(&[directory.path("trace*")])?, expected);
    let twice = [directory.path("trace*"), directory.path("trace.1")];
    assert_eq!(read(&twice)?, expected);
    Ok(())
}

#[test]
fn a_file_that_is_just_being_replaced_is_waited_for() -> Result<()> {
    let directory = Directory::new("replaced")?;
    let files = [
        directory.write("ring0", &part(30)?)?,
        directory.path("ring1"),
    ];
    let late = (directory.0.join("ring1"), part(40)?);
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(10));
        fs::write(late.0, late.1)
    });
    let read = read(&files)?;
    assert!(writer.join().is_ok_and(|written| written.is_ok()));
    assert_eq!(read.0, [30, 40]);
    Ok(())
}

/// In a ring that is being written, files vanish and others get their names.
#[test]
fn a_file_is_read_whatever_becomes_of_its_name() -> Result<()> {
    let directory = Directory::new("ring")?;
    let first = directory.write("ring0", &part(30)?)?;
    let second = directory.write("ring1", &part(40)?)?;
    let mut captures = Captures::open(&[first.clone(), second.clone()])?;
    fs::remove_file(&second)?;
    fs::remove_file(&first)?;
    directory.write("ring0", &part(50)?)?;
    let mut seconds = Vec::new();
    while let Some(record) = captures.next_record()? {
        if record["type"] == "event" {
            seconds.push(record["time"].to_string());
        }
    }
    assert_eq!(
        seconds,
        ["\"2026-11-21T03:00:30Z\"", "\"2026-11-21T03:00:40Z\""]
    );
    Ok(())
}

#[test]
fn a_name_that_looks_like_a_pattern_is_a_name() -> Result<()> {
    let directory = Directory::new("pattern")?;
    directory.write("a1", &part(1)?)?;
    let file = directory.write("a[1]", &part(2)?)?;
    assert_eq!(read(&[file])?.0, [2]);
    assert_eq!(read(&[directory.path("[a]1")])?.0, [1]);
    assert!(why(&[directory.path("b*")]).contains("no file matches"));
    Ok(())
}

#[test]
fn damage_is_told_of_each_file() -> Result<()> {
    let directory = Directory::new("damage")?;
    let cut = |bytes: Vec<u8>, at| bytes.get(..at).map(<[u8]>::to_vec).unwrap_or_default();
    let files = [
        directory.write("a", &[part(1)?, cut(part(2)?, 20)].concat())?,
        directory.write(
            "b",
            b"{\"type\":\"event\",\"time\":\"2026-11-21T03:00:03Z\"}\nno\n",
        )?,
        directory.write("c", &cut(part(4)?, 20))?,
        directory.write("d", b"")?,
    ];
    let (seconds, notes, damage) = read(&files)?;
    assert_eq!(seconds, [1, 3]);
    assert_eq!((damage.torn_bytes, damage.bad_lines), (40, 1));
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes.iter().any(|note| note.ends_with("/d: no records")));
    Ok(())
}

#[test]
fn what_is_no_capture_is_refused() -> Result<()> {
    let directory = Directory::new("refused")?;
    let others = [
        directory.write("text", b"Nov 21 03:00:00 host kernel: something\n")?,
        directory.write("json", b"{\n  \"name\": 1\n}\n")?,
        directory.write("zst", &zstd::stream::encode_all(&b"text\n"[..], 3)?)?,
        directory.write("noise", &[0; 5000])?,
    ];
    for file in others {
        let why = why(&[file]);
        assert!(why.contains("is no capture"), "{why}");
    }
    assert!(why(&[directory.path("missing")]).contains("cannot be opened"));
    assert!(why(&[directory.path("")]).contains("is a directory"));
    let both = [STDIN.into(), directory.write("a", &part(1)?)?];
    assert!(why(&both).contains("alone"));
    Ok(())
}

/// Several megabytes that hardly pack, an event each second.
#[test]
fn a_moment_is_found_in_a_large_file() -> Result<()> {
    let directory = Directory::new("seek")?;
    let start: Timestamp = "2026-11-21T03:00:00Z".parse()?;
    let mut noise = 88_172_645_463_325_252_u64;
    let mut file = frame("{\"type\":\"startup\",\"time\":\"2026-11-21T03:00:00Z\"}\n")?;
    for second in 0..120 {
        let time = start + jiff::SignedDuration::from_secs(second);
        let mut padding = String::new();
        while padding.len() < 60_000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            padding.push_str(&noise.to_string());
        }
        file.extend(frame(&format!(
            "{{\"type\":\"event\",\"time\":\"{time}\",\"padding\":\"{padding}\"}}\n"
        ))?);
    }
    let file = directory.write("large", &file)?;
    for second in [0, 1, 30, 60, 100, 119, 500] {
        let begin = start + jiff::SignedDuration::from_secs(second);
        let mut captures = Captures::open(std::slice::from_ref(&file))?;
        captures.skip_to(begin);
        let mut kinds = Vec::new();
        while let Some(record) = captures.next_record()? {
            kinds.push((record["type"] == "startup", time(&record)));
        }
        let wanted = kinds.iter().filter(|(_, time)| *time >= Some(begin));
        let expected = usize::try_from((120 - second).max(0))?;
        assert_eq!(
            wanted.filter(|(is_startup, _)| !is_startup).count(),
            expected
        );
        assert_eq!(kinds.first(), Some(&(true, Some(start))));
        // A mebibyte is some forty of these frames.
        assert!(kinds.len() < expected + 60, "{second}: {}", kinds.len());
        assert_eq!(*captures.damage(), Damage::default());
        assert!(captures.notes().is_empty());
    }
    Ok(())
}

/// A time of day is the last such time of the last file that has records.
#[test]
fn a_time_of_day_is_that_of_the_end() -> Result<()> {
    let directory = Directory::new("last")?;
    let day = |day: u32, padding: usize| {
        let padding = "x".repeat(padding);
        format!(
            "{{\"time\":\"2026-10-{day:02}T03:00:00Z\",\"padding\":\"{padding}\"}}\n{{\"v\":1}}\n"
        )
    };
    let frames = |days: std::ops::Range<u32>| -> io::Result<Vec<u8>> {
        let frames = days.map(|number| frame(&day(number, 0)));
        Ok(frames.collect::<io::Result<Vec<_>>>()?.concat())
    };
    let torn = [frames(1..9)?, vec![0x28, 0xB5, 0x2F, 0xFD, 4]].concat();
    let lines: String = (1..29).map(|number| day(number, 200_000)).collect();
    let files = [
        ("frames", frames(1..9)?, "2026-10-08T03:00:00Z"),
        ("torn", torn, "2026-10-08T03:00:00Z"),
        // Behind the last time is more than is read at first.
        (
            "behind",
            [frames(1..4)?, frame("{}\n")?.repeat(20_000)].concat(),
            "2026-10-03T03:00:00Z",
        ),
        ("lines", lines.clone().into_bytes(), "2026-10-28T03:00:00Z"),
        (
            "half",
            lines.as_bytes()[..lines.len() - 40].to_vec(),
            "2026-10-27T03:00:00Z",
        ),
        ("one", day(5, 500_000).into_bytes(), "2026-10-05T03:00:00Z"),
    ];
    for (name, content, expected) in files {
        let file = directory.write(name, &content)?;
        let captures = Captures::open(&[file])?;
        assert_eq!(captures.last_time()?, Some(expected.parse()?), "{name}");
    }
    let empty = directory.write("empty", b"")?;
    let both = Captures::open(&[directory.path("frames"), empty.clone()])?;
    assert_eq!(both.last_time()?, Some("2026-10-08T03:00:00Z".parse()?));
    assert_eq!(Captures::open(&[empty])?.last_time()?, None);
    let stdin = Captures::open(&[STDIN.into()])?;
    let time = When::TimeOfDay(jiff::civil::Time::midnight());
    assert!(
        stdin
            .moment(time)
            .is_err_and(|error| error.to_string().contains("standard input"))
    );
    let moment = When::Moment(Timestamp::UNIX_EPOCH);
    assert_eq!(stdin.moment(moment)?, Some(Timestamp::UNIX_EPOCH));
    Ok(())
}
