//! The command line.

use std::{
    ffi::OsString,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::{
    capture::{
        rotate::{self, Rotation},
        write::Options,
    },
    export::Table,
    filter::Filter,
    host::plan::Choice,
    output::sanitize::harmless,
    replay::Speed,
    when::{self, When},
};

/// Names the process and the cause behind `Cannot assign requested address`
/// and behind dropped SYNs.
#[derive(Debug, Parser)]
#[command(name = "tracer", version, max_term_width = 100, after_help = crate::scope::HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Report failures the moment they happen
    #[command(after_help = crate::exit::HELP)]
    Watch(Watch),
    /// Keep in a file what watch would show, for later: for weeks if need be
    #[command(after_help = crate::exit::HELP)]
    Record(Record),
    /// Show what was recorded, as watch showed it
    #[command(after_help = crate::exit::FILES_HELP)]
    Replay(Replay),
    /// Show who has the ports for outgoing connections, and how many are left
    #[command(after_help = crate::exit::SNAPSHOT_HELP)]
    Ports(Ports),
    /// Show every listener: how full its queue is, and who has it
    #[command(after_help = crate::exit::SNAPSHOT_HELP)]
    Listeners(Listeners),
    /// Tell what capture files hold: what failed, who is behind it, what to do
    #[command(after_help = crate::exit::FILES_HELP)]
    Report(Report),
    /// Write capture files as JSON Lines, CSV or Parquet, for other tools
    #[command(after_help = crate::exit::FILES_HELP)]
    Export(Export),
    /// Provoke every failure in a private corner, and check what is told about it
    #[command(after_help = crate::exit::SELFTEST_HELP)]
    Selftest(Selftest),
    /// Say what this kernel and these privileges give, and what is missing
    #[command(after_help = crate::exit::DOCTOR_HELP)]
    Doctor(Doctor),
    /// A process of selftest's
    #[command(name = crate::selftest::actor::VERB, hide = true)]
    SelftestActor { name: String },
    /// The process that causes failures to verify the hooks
    #[command(name = crate::verify::actor::VERB, hide = true)]
    VerifyActor,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned lines for people
    Text,
    /// One JSON object per line, see docs/records.md
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) run: Run,

    /// How to write records
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// Write lines, on a terminal too
    #[arg(long)]
    pub(crate) plain: bool,

    /// Write totals this often too, not only at the end
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(crate) interval: Option<Duration>,

    /// Keep all records in this file too
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    #[command(flatten)]
    pub(crate) run: Run,

    /// Write totals this often
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "60s")]
    pub(crate) interval: Duration,

    /// Keep all records in this file, which must not exist; `-`: standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,

    #[command(flatten)]
    files: Files,
}

// No doc comments on what is flattened: clap would take them for the verb's.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Run {
    /// Which hooks to use
    #[arg(long, value_enum, default_value_t = Choice::Auto, value_name = "TIER")]
    pub(crate) hooks: Choice,

    /// Do not remember who closes connections: saves a map write per closed
    /// connection, and TIME_WAIT sockets stay without a name
    #[arg(long)]
    pub(crate) no_closers: bool,

    /// Do not cause each failure once after attaching, in a private network namespace,
    /// to verify that the hooks see it
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Detach the hooks of this purpose and say nothing, for tests
    #[cfg(feature = "fault")]
    #[arg(long, hide = true, value_name = "PURPOSE", value_parser = purpose)]
    pub(crate) break_hook: Vec<crate::host::plan::Purpose>,

    /// Keep no privileges once everything is attached; what that costs is said,
    /// and in docs/privileges.md
    #[arg(long)]
    pub(crate) drop_all: bool,

    /// Stop after this long (10, 10s, 500ms, 2m, 1h)
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,

    /// Serve metrics for Prometheus (OpenMetrics) at http://ADDR/metrics: 9435 for
    /// this host alone (127.0.0.1:9435), or an address with a port. What is not
    /// loopback lets the network see names of processes, listeners and
    /// destinations, without a password
    #[arg(long, value_parser = crate::metrics::address, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Send failures as log records, and the numbers of --metrics, to an OpenTelemetry
    /// receiver (OTLP over HTTP): http://127.0.0.1:4318 for a collector on this host.
    /// Names of processes, listeners and destinations travel without encryption
    #[cfg(feature = "otlp")]
    #[arg(long, value_parser = crate::otlp::endpoint, value_name = "URL")]
    pub(crate) otlp: Option<crate::otlp::Endpoint>,

    /// Say on standard error why each hook was chosen, and pass on the kernel
    /// side's diagnostics
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) filter: Filter,

    /// With a COMMAND: report the failures of all processes, not only those of the command
    /// and its descendants
    #[arg(long, requires = "command")]
    pub(crate) all: bool,

    /// Run this command, report failures of it and its descendants while it runs, and exit
    /// with its exit code. With --netns or a filter on processes, that decides whose
    /// failures are reported; with --all, everyone's are
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl Run {
    /// Whether only the command's processes are asked for.
    pub(crate) fn is_about_command(&self) -> bool {
        !self.command.is_empty() && !self.all && !self.filter.says_whose()
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Captures, or patterns such as 'trace.*'; of a rotated set the oldest
    /// comes first. -: standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<OsString>,

    /// How to write records; json: exactly as they were recorded
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// Write lines, on a terminal too
    #[arg(long)]
    pub(crate) plain: bool,

    /// Pause between records as it was, divided by N [default: no pauses]
    #[arg(long, value_parser = speed, value_name = "N")]
    pub(crate) speed: Option<Speed>,

    /// Begin at 2026-01-31T03:00:00Z, "2026-01-31 03:00", 03:00 (the last one
    /// in the capture), "10m ago" (before now)
    #[arg(long, value_parser = when::parse, value_name = "TIME")]
    pub(crate) from: Option<When>,

    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Debug, clap::Args)]
struct Files {
    /// Replace files that exist already, but never through a symbolic link
    #[arg(long, requires = "write")]
    overwrite: bool,

    /// Go on in another file (FILE, FILE1, FILE2, ..) before one grows beyond
    /// this size on disk: millions of bytes, or with a unit (k, M, G: powers of
    /// 1024, as KiB, MiB, GiB; kB, MB, GB: powers of 1000)
    #[arg(short = 'C', value_parser = rotate::size, value_name = "SIZE", requires = "write")]
    size: Option<u64>,

    /// Go on in another file when one is this old (seconds, or as for --duration)
    #[arg(short = 'G', value_parser = duration, value_name = "SECONDS", requires = "write")]
    period: Option<Duration>,

    /// Keep this many files (FILE0, FILE1, ..), the oldest of which makes room
    /// for the next; with -C or -G
    #[arg(short = 'W', value_name = "COUNT", requires = "write")]
    kept: Option<NonZeroU32>,
}

impl Watch {
    /// Where to keep records, if anywhere.
    pub(crate) fn capture(&self) -> Option<Options> {
        Some(self.files.options(self.write.clone()?))
    }
}

impl Record {
    /// Where to keep records.
    pub(crate) fn capture(&self) -> Options {
        self.files.options(self.write.clone())
    }
}

impl Files {
    fn options(&self, path: PathBuf) -> Options {
        Options {
            path,
            overwrite: self.overwrite,
            rotation: Rotation {
                size: self.size,
                period: self.period,
                count: self.kept,
            },
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ports {
    /// How to write records
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// Show this many destinations of each network namespace, most exhausted
    /// first
    #[arg(long, value_name = "N", default_value = "20", conflicts_with = "all")]
    pub(crate) top: NonZeroUsize,

    /// Show every destination
    #[arg(long)]
    pub(crate) all: bool,
}

impl Ports {
    /// How many destinations to show.
    pub(crate) fn limit(&self) -> usize {
        if self.all { usize::MAX } else { self.top.get() }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Listeners {
    /// How to write records
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// How to write it; json: one object, see docs/doctor.md
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Selftest {
    /// Which hooks to test
    #[arg(long, value_enum, default_value_t = Choice::Auto, value_name = "TIER")]
    pub(crate) hooks: Choice,

    /// How to write the table; json: docs/selftest.md
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// One JSON object, see docs/report.md
    Json,
    /// For people with a browser: one file that needs no network
    Html,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// Captures, or JSON Lines as `tracer watch --format json` writes them;
    /// - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<OsString>,

    /// Only what happened at this time or later: 2026-01-31T03:00:00Z,
    /// "2026-01-31 03:00", 03:00 (the last one in the capture), "10m ago"
    /// (before now)
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub(crate) since: Option<When>,

    /// Only what happened at this time or earlier; 03:00 is the first one after
    /// --since, if that is given
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub(crate) until: Option<When>,

    /// Entries of each list
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) top: NonZeroUsize,

    /// How to write the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,

    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// All records as they are, one JSON object per line, see docs/records.md
    Jsonl,
    /// One table, see docs/export.md
    Csv,
    /// One table, see docs/export.md
    Parquet,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Captures, or JSON Lines as `tracer watch --format json` writes them;
    /// -: standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<OsString>,

    /// What to write
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,

    /// Which table, for csv and parquet [default: events]
    #[arg(long, value_enum)]
    table: Option<Table>,

    /// Write to this file, which must not exist; without it, or for -: to
    /// standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace a file that exists already, but never through a symbolic link
    #[arg(long, requires = "output")]
    pub(crate) overwrite: bool,
}

impl Export {
    /// The file to write; `None`: standard output.
    pub(crate) fn output(&self) -> Option<&Path> {
        let path = self.output.as_deref();
        path.filter(|path| path.as_os_str() != "-")
    }

    /// The table to write.
    pub(crate) fn table(&self) -> Table {
        self.table.unwrap_or(Table::Events)
    }
}

#[cfg(feature = "fault")]
fn purpose(text: &str) -> Result<crate::host::plan::Purpose, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Help or version was asked for; this is it.
    Answered(String),
    /// One line on what is wrong.
    Wrong(String),
}

/// Parses the command line.
///
/// # Errors
/// See [`Ended`].
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, Ended> {
    parse_with(&mut Cli::command(), arguments)
}

/// The same for who parses more than one.
pub(crate) fn parse_with(
    definition: &mut clap::Command,
    arguments: impl Iterator<Item = OsString>,
) -> Result<Cli, Ended> {
    let matches = definition.try_get_matches_from_mut(arguments);
    let cli = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = cli.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Ended::Answered(error.render().to_string())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Ended::Wrong("a subcommand is missing".into())
        }
        _ => Ended::Wrong(wrong(&error)),
    })?;
    match contradiction(&cli.verb) {
        Some(why) => Err(Ended::Wrong(why.into())),
        None => Ok(cli),
    }
}

/// What is said about a command line that does not parse.
fn wrong(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.join(", "),
        _ => String::new(),
    };
    // clap lists these below its first line.
    if error.kind() == ErrorKind::MissingRequiredArgument && !missing.is_empty() {
        return format!("{missing} is missing");
    }
    // It quotes words, and a pattern may have put names of files among them.
    harmless(&first_line(&error.render().to_string()))
}

/// What clap cannot tell about flags that do not go together.
fn contradiction(verb: &Verb) -> Option<&'static str> {
    let (capture, run, is_watch) = match verb {
        Verb::Watch(watch) => (watch.capture()?, &watch.run, true),
        Verb::Record(record) => (record.capture(), &record.run, false),
        Verb::Export(export) => return export_contradiction(export),
        Verb::Replay(_)
        | Verb::Report(_)
        | Verb::Ports(_)
        | Verb::Listeners(_)
        | Verb::Selftest(_)
        | Verb::Doctor(_)
        | Verb::SelftestActor { .. }
        | Verb::VerifyActor => return None,
    };
    let rotation = capture.rotation;
    if rotation.count.is_some() && !rotation.is_on() {
        return Some("-W needs -C or -G");
    }
    if !capture.is_stdout() {
        return None;
    }
    if is_watch {
        return Some("-w - is for tracer record: watch shows records on standard output");
    }
    if rotation.is_on() || capture.overwrite {
        return Some("-w - is no file: -C, -G, -W and --overwrite do not go with it");
    }
    (!run.command.is_empty())
        .then_some("-w - does not go with a command, whose output would get between the frames")
}

fn export_contradiction(export: &Export) -> Option<&'static str> {
    if export.table.is_some() && export.format == ExportFormat::Jsonl {
        return Some("--table is for csv and parquet: jsonl has all records");
    }
    (export.overwrite && export.output().is_none())
        .then_some("-o - is no file: --overwrite does not go with it")
}

/// clap explains in paragraphs; the first line says what is wrong.
fn first_line(explanation: &str) -> String {
    let line = explanation.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Parses `10`, `10s`, `500ms`, `2m`, `1h`: at least a millisecond, at most ten
/// years.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const TEN_YEARS_MS: u64 = 10 * 366 * 24 * 3600 * 1000;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a number with ms, s, m or h".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number with ms, s, m or h")?;
    match number.checked_mul(unit_ms) {
        Some(ms) if (1..=TEN_YEARS_MS).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err("expected between 1ms and ten years".into()),
    }
}

/// Parses a positive number, at most a million.
pub(crate) fn speed(text: &str) -> Result<Speed, String> {
    match text.parse() {
        Ok(speed) if speed > 0.0 && speed <= 1e6 => Ok(Speed(speed)),
        _ => Err("expected a number above 0, at most 1000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn wrong(line: &str) -> Option<String> {
        match parse(line.split(' ').map(OsString::from)) {
            Err(Ended::Wrong(why)) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for line in [
            "tracer",
            "tracer watch --nonsense",
            "tracer watch --duration 3x",
            "tracer watch --count 0",
            "tracer watch --count -1",
            "tracer watch --pid x",
            "tracer watch --hooks kprobes",
            "tracer watch --duration",
            "tracer watch stray",
            "tracer wach",
            "tracer ports --top 0",
            "tracer ports --top x",
            "tracer ports --top 3 --all",
            "tracer ports --duration 1s",
            "tracer listeners --format xml",
            "tracer listeners stray",
            "tracer replay",
            "tracer replay x --speed 0",
            "tracer replay x --speed nan",
            "tracer replay x --speed -1",
            "tracer replay x --from noon",
            "tracer record",
            "tracer record -w",
            "tracer record -w x --format json",
            "tracer record -w x -W 3",
            "tracer record -w x -C 0",
            "tracer record -w x -C 1T",
            "tracer record -w x -G x",
            "tracer record -w x -C 1 -W 0",
            "tracer record -w - --overwrite",
            "tracer record -w - -C 1",
            "tracer record -w - -- true",
            "tracer watch -w -",
            "tracer watch -C 1",
            "tracer watch -G 1",
            "tracer watch -W 1",
            "tracer watch --overwrite",
            "tracer export x",
            "tracer export --format csv",
            "tracer export x --format xml",
            "tracer export x --format csv --table processes",
            "tracer export x --format jsonl --table events",
            "tracer export x --format csv --overwrite",
            "tracer export x --format csv -o - --overwrite",
            "tracer report",
            "tracer report x --since soon",
            "tracer report x --until 25:00",
            "tracer report x --kind drops",
            "tracer report x --top 0",
            "tracer report x --format xml",
            "tracer selftest --hooks none",
            "tracer selftest stray",
            "tracer doctor --hooks auto",
        ] {
            let why = wrong(line);
            assert!(
                why.as_ref()
                    .is_some_and(|why| !why.is_empty() && !why.contains('\n')),
                "{line}: {why:?}"
            );
        }
    }

    #[test]
    fn help_and_version_are_answers() {
        for line in [
            "tracer --help",
            "tracer watch --help",
            "tracer ports --help",
            "tracer listeners --help",
            "tracer replay --help",
            "tracer record --help",
            "tracer report --help",
            "tracer selftest --help",
            "tracer doctor --help",
            "tracer --version",
        ] {
            let ended = parse(line.split(' ').map(OsString::from));
            assert!(matches!(ended, Err(Ended::Answered(_))), "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = wrong("tracer record").unwrap_or_default();
        assert!(why.contains("--write <FILE>"), "{why}");
        let why = wrong("tracer watch -C 1").unwrap_or_default();
        assert!(why.contains("--write <FILE>"), "{why}");
    }

    #[test]
    fn captures() {
        let capture = |line: &str| match parse(line.split(' ').map(OsString::from)).ok()?.verb {
            Verb::Watch(watch) => watch.capture(),
            Verb::Record(record) => Some(record.capture()),
            _ => None,
        };
        assert_eq!(capture("tracer watch"), None);
        let ring = capture("tracer record -w x -C 1 -G 60 -W 3 --overwrite");
        let rotation = Rotation {
            size: Some(1_000_000),
            period: Some(Duration::from_secs(60)),
            count: NonZeroU32::new(3),
        };
        assert_eq!(
            ring,
            Some(Options {
                path: "x".into(),
                overwrite: true,
                rotation
            })
        );
        assert!(capture("tracer record -w -").is_some_and(|capture| capture.is_stdout()));
    }

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("10"), Some(10_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("2m"), Some(120_000));
        assert_eq!(ms("1h"), Some(3_600_000));
        for bad in [
            "",
            "s",
            "-1",
            "1.5s",
            "0",
            "1d",
            "10 s",
            "99999999999999999999",
            "999999999h",
            "٣s",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
