//! `xtask view`: is the full-screen view right on a real terminal, and is the
//! terminal as it was when the view has ended?
//!
//! tmux is the terminal: `tracer watch` runs in it while a program runs out of
//! ports and a queue runs over. What tmux shows is judged, and becomes the
//! pictures of the README.

mod svg;
mod tmux;

use super::lab::{self, Lab, Wire, signal, until};
use crate::live::{Counts, Run};
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tmux::Tmux;

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "view-inside";

const WRITE: &str = "--write";

const PROGRAMS: [(&str, &str); 3] = [
    (tmux::PROGRAM, "tmux"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/ss", "iproute2"),
];

const CHECKOUT: &str = include_str!("scripts/checkout.py");
const DATABASE: &str = include_str!("scripts/database.py");
const STUCK: &str = include_str!("scripts/stuck.py");
const CROWD: &str = include_str!("scripts/crowd.py");
const REFUSED: &str = include_str!("scripts/refused.py");

/// The kernel names a process after its file: one that would fill the clipboard.
const HOSTILE: &str = "\x1b]52;c;QUJD\x07";
const HOSTILE_SHOWN: &str = r"\x1b]52;c;QUJD";

/// Where the shell is.
const CAPTURE: &str = "view.zst";

/// Columns, lines.
type Size = (u16, u16);

const SMALL: Size = (80, 24);
const LARGE: Size = (200, 50);

/// A terminal with a shell in it, and a lab with failures.
struct Scene {
    tmux: Tmux,
    lab: Lab,
    size: Size,
    /// The modes of the terminal before tracer.
    modes: String,
    /// Where the pictures of the documents are.
    place: PathBuf,
    /// Whether they are drawn anew.
    draws: bool,
}

type Check = fn(&Scene) -> Result<()>;

/// In this order: the later ones go on with what the earlier have left.
const CHECKS: [(&str, Check); 8] = [
    ("nothing-yet", nothing_yet),
    ("failures", failures),
    ("detail", detail),
    ("resize", resize),
    ("hostile", hostile),
    ("suspend", suspend),
    ("quit", quit),
    ("terminate", terminate),
];

/// Once, on a terminal of any size.
const OTHERS: [(&str, Check); 2] = [("replay", replay), ("lines", lines)];

/// Runs the checks as root.
pub(crate) fn run(place: &Place, tracer: &Path, write: bool) -> Result<Run> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = run::as_root(&own)?;
    command
        .arg(INSIDE)
        .arg(tracer)
        .args(write.then_some(WRITE))
        .current_dir(&place.root)
        .stdout(Stdio::piped());
    let mut child = run::spawn(&mut command)?;
    let mut output = String::new();
    let mut stdout = child.stdout.take().context("the view has no stdout")?;
    stdout.read_to_string(&mut output)?;
    let status = child.wait()?;
    Ok(Run::read("view", &output, status.code()))
}

/// The part that runs as root: a line for each check, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let (tracer, write) = match words {
        [tracer] => (*tracer, false),
        [tracer, WRITE] => (*tracer, true),
        _ => bail!("{INSIDE} needs the path of tracer"),
    };
    run::need_programs(&PROGRAMS.map(|(file, package)| {
        // Whole paths are found by asking for them, not through PATH.
        let name = if Path::new(file).exists() { "sh" } else { file };
        (name, package)
    }))?;
    lab::remove_stale(place);
    let mut counts = Counts::default();
    for size in [SMALL, LARGE] {
        let mut scene = Scene::new(place, Path::new(tracer), size)?;
        scene.draws = write;
        let others = OTHERS.iter().filter(|_| size == SMALL);
        for (name, check) in CHECKS.iter().chain(others) {
            let name = format!("view/{}x{}/{name}", size.0, size.1);
            judge(&name, &scene, *check, &mut counts);
        }
    }
    let Counts { passed, failed, .. } = counts;
    say::result(&format!(
        "live-summary auto passed={passed} failed={failed} skipped=0"
    ));
    Ok(failed == 0)
}

fn judge(name: &str, scene: &Scene, check: Check, counts: &mut Counts) {
    let start = Instant::now();
    let outcome = check(scene).with_context(|| scene.tmux.screen().unwrap_or_default());
    let (verdict, count, detail) = match outcome {
        Ok(()) => ("ok", &mut counts.passed, String::new()),
        Err(error) => ("FAIL", &mut counts.failed, {
            // First what went wrong, then what was to be seen.
            let mut causes: Vec<_> = error.chain().map(ToString::to_string).collect();
            causes.reverse();
            causes.join("\n")
        }),
    };
    *count += 1;
    let seconds = format!("{:.1}s", start.elapsed().as_secs_f64());
    say::note(&format!("{name} {verdict} {seconds} {detail}"));
    let detail = detail.replace('\n', "; ");
    say::result(&format!("live auto {name} {verdict} {seconds} {detail}"));
}

impl Scene {
    fn new(place: &Place, tracer: &Path, size: Size) -> Result<Self> {
        let lab = Lab::new(place, tracer, Wire::Short)?;
        lab.client.ports(200)?;
        // Quiet until something is to happen.
        let tmux = Tmux::start(&lab.directory, size)?;
        let modes = tmux.modes()?;
        Ok(Self {
            tmux,
            lab,
            size,
            modes,
            place: place.root.join("docs/pictures"),
            draws: false,
        })
    }

    /// Types `tracer WORDS` into the shell.
    fn type_tracer(&self, words: &str) -> Result<()> {
        let tracer = self.lab.tracer().display();
        self.tmux.line(&format!("TZ=UTC {tracer} {words}"))
    }

    /// Other programs may fail at the same time. A picture is taken on a quiet
    /// machine, as people start tracer.
    fn only(&self) -> String {
        let sides = [&self.lab.client, &self.lab.server];
        if self.draws {
            return String::new();
        }
        sides
            .map(|side| format!(" --netns {}", side.netns))
            .concat()
    }

    /// Waits until the screen has all these words.
    fn shows(&self, words: &[&str]) -> Result<()> {
        let missing = |screen: &str| {
            // Where long values are wrapped depends on the length of paths.
            let screen: Vec<&str> = screen.split_whitespace().collect();
            let screen = screen.join(" ");
            let missing = words.iter().find(|word| !screen.contains(word.trim()));
            missing.copied().map(str::to_owned)
        };
        let _ = until("words", || Ok(missing(&self.tmux.screen()?).is_none()));
        match missing(&self.tmux.screen()?) {
            None => Ok(()),
            Some(word) => bail!("the screen does not say `{word}`"),
        }
    }

    /// The terminal is as it was before tracer.
    fn is_restored(&self) -> Result<()> {
        until("the shell", || Ok(!self.tmux.is_alternate()?))?;
        ensure!(self.tmux.has_cursor()?, "the cursor is hidden");
        let modes = self.tmux.modes()?;
        ensure!(
            modes == self.modes,
            "the terminal's modes are {modes}, not {}",
            self.modes
        );
        Ok(())
    }

    fn is_viewed(&self) -> Result<()> {
        until("the view", || self.tmux.is_alternate())
    }

    /// The picture in the documents has no word that is not to be seen here, too.
    /// Numbers differ, and so does what the host and its kernel are called.
    fn is_as_drawn(&self, name: &str) -> Result<()> {
        let path = self.place.join(format!("{name}.svg"));
        let picture = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Beside a filter there is no room for where it is kept.
        let drawn = svg::texts(&picture).skip(2);
        let drawn = drawn.filter(|text| !text.starts_with("kept in "));
        let drawn: Vec<&str> = drawn
            .flat_map(str::split_whitespace)
            .filter(|word| is_word(word))
            .collect();
        ensure!(
            drawn.len() > 30,
            "{} has {} words",
            path.display(),
            drawn.len()
        );
        self.shows(&drawn)
            .with_context(|| format!("{} shows what no view shows", path.display()))
    }

    fn picture(&self, name: &str) -> Result<()> {
        if !self.draws {
            return Ok(());
        }
        fs::create_dir_all(&self.place)?;
        let path = self.place.join(format!("{name}.svg"));
        fs::write(&path, svg::picture(&self.tmux.painted()?, self.size))?;
        say::note(&format!("written: {}", path.display()));
        Ok(())
    }
}

/// Letters alone, and some.
fn is_word(text: &str) -> bool {
    text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn nothing_yet(scene: &Scene) -> Result<()> {
    scene.type_tracer(&format!("watch -w {CAPTURE}{}", scene.only()))?;
    scene.is_viewed()?;
    scene.shows(&[
        "tracer",
        " verified",
        "No failure so far.",
        "tracer ports",
        "q quit",
    ])
}

/// A program runs out of ports, and nobody accepts from a queue.
fn failures(scene: &Scene) -> Result<()> {
    let (client, server) = (&scene.lab.client, &scene.lab.server);
    let start = |side, name, text, words: &[&str]| {
        scene.lab.start(side, &scene.lab.script(name, text)?, words)
    };
    start(server, "database", DATABASE, &["5432"])?;
    start(server, "api", STUCK, &["8080", "2"])?;
    server.await_listener(5432)?;
    server.await_listener(8080)?;
    start(client, "clients", CROWD, &[server.ip, "8080", "6"])?;
    start(client, "metrics", REFUSED, &[])?;
    start(client, "checkout", CHECKOUT, &[server.ip, "5432"])?;
    scene.shows(&[
        "checkout[",
        "ports exhausted",
        "api[",
        "accept queue full",
        "metrics[",
        "port in use",
        "TIME_WAIT",
        "closed by checkout[",
        "counted",
        "0 lost",
        "kernel agrees",
        "▸",
    ])?;
    // Until the last minute has something to tell.
    sleep(Duration::from_secs(if scene.draws { 14 } else { 1 }));
    let name = format!("watch-{}", scene.size.0);
    scene.picture(&name)?;
    scene.is_as_drawn(&name)
}

/// The listener's row, and all about it.
fn detail(scene: &Scene) -> Result<()> {
    scene.tmux.key("l")?;
    scene
        .shows(&["LISTENER", "10.82.0.2:8080", "3/2", "connect"])
        .or_else(|_| scene.shows(&["LISTENER", "10.82.0.2:8080", "3/2"]))?;
    scene.tmux.key("Enter")?;
    scene.shows(&[
        "Listen queue",
        "3/2 full",
        "SYNs dropped",
        "nothing accepted",
        "8080 2",
        "user id",
    ])?;
    scene.tmux.key("End")?;
    scene.shows(&["SYN dropped", "10.82.0.2:8080 ←"])?;
    scene.tmux.key("d")?;
    scene.shows(&["DESTINATION", "10.82.0.2:5432"])?;
    scene.tmux.key("Enter")?;
    scene.shows(&["Ports", "200 ports (40000-40199)", "closed by checkout["])?;
    scene.tmux.key("Escape")?;
    scene.tmux.key("?")?;
    scene.shows(&["Keys", "What it means"])?;
    scene.tmux.key("m")?;
    scene.shows(&["Messages", "Hooks", "closer"])?;
    scene.tmux.key("p")?;
    scene.tmux.key("/")?;
    scene.tmux.text("api")?;
    scene.tmux.key("Enter")?;
    scene.shows(&["filter: api"])?;
    ensure!(
        !scene.tmux.screen()?.contains("checkout["),
        "the filter lets others through"
    );
    scene.tmux.key("Escape")?;
    scene.shows(&["checkout["])?;
    scene.tmux.key("Space")?;
    scene.shows(&["PAUSED"])?;
    scene.tmux.key("Space")
}

/// Smaller, too small, larger, and as before.
fn resize(scene: &Scene) -> Result<()> {
    for size in [(61, 13), (30, 8), (237, 60), scene.size] {
        scene.tmux.resize(size)?;
        let words: &[&str] = match size.0 {
            30 => &["The view needs"],
            _ => &["checkout[", "q quit"],
        };
        scene.shows(words).with_context(|| format!("{size:?}"))?;
        // The last line is where the keys are, if nothing was wrapped.
        let screen = scene.tmux.screen()?;
        let last = screen.lines().nth(usize::from(size.1) - 1);
        ensure!(
            size.0 == 30 || last.is_some_and(|line| line.contains("q quit")),
            "the last line is {last:?} at {size:?}"
        );
    }
    Ok(())
}

/// Its name is shown, and does nothing.
fn hostile(scene: &Scene) -> Result<()> {
    let program = scene.lab.script(HOSTILE, REFUSED)?;
    let none: [&str; 0] = [];
    let pid = scene.lab.start(&scene.lab.client, &program, &none)?;
    scene.tmux.key("/")?;
    scene.tmux.text("52;c")?;
    scene.tmux.key("Enter")?;
    let shown = match scene.size {
        SMALL => &HOSTILE_SHOWN[..10],
        _ => HOSTILE_SHOWN,
    };
    scene.shows(&[shown, "port in use"])?;
    scene.tmux.key("Enter")?;
    scene.shows(&["port in use", HOSTILE_SHOWN])?;
    ensure!(!scene.tmux.has_buffers()?, "a name went into the clipboard");
    scene.tmux.key("Escape")?;
    scene.tmux.key("Escape")?;
    scene.lab.stop(pid)
}

/// Ctrl-Z, and back.
fn suspend(scene: &Scene) -> Result<()> {
    scene.tmux.key("C-z")?;
    scene.is_restored()?;
    scene.tmux.line("fg")?;
    scene.is_viewed()?;
    scene.shows(&["checkout[", "q quit"])
}

/// The end is told in lines, as without the view.
fn quit(scene: &Scene) -> Result<()> {
    scene.tmux.key("q")?;
    scene.shows(&[
        "-- totals of",
        "connect failed, ports exhausted",
        "view.zst",
    ])?;
    scene.is_restored()?;
    scene.tmux.line("clear; echo code $?")?;
    scene.shows(&["code 0"])
}

/// By signals, as a service manager or a closing window would.
fn terminate(scene: &Scene) -> Result<()> {
    for name in ["TERM", "HUP", "INT"] {
        scene.tmux.line("clear")?;
        scene.type_tracer("watch")?;
        scene.is_viewed()?;
        scene.shows(&["q quit"])?;
        signal(name, scene.tmux.child("tracer")?)?;
        scene.shows(&["-- totals of"])?;
        scene.is_restored().context(name)?;
    }
    Ok(())
}

/// The capture that was kept shows the same.
fn replay(scene: &Scene) -> Result<()> {
    scene.tmux.line("clear")?;
    scene.type_tracer(&format!("replay {CAPTURE}"))?;
    scene.is_viewed()?;
    scene.shows(&[
        "checkout[",
        "api[",
        "replay:",
        "end of the records",
        "kernel agrees",
    ])?;
    scene.tmux.key("q")?;
    scene.is_restored()?;
    scene.tmux.line("clear")?;
    scene.type_tracer(&format!("replay --plain {CAPTURE} | tail -3; echo END"))?;
    scene.shows(&["kernel's own", "END"])
}

/// Where there is no view, there are lines.
fn lines(scene: &Scene) -> Result<()> {
    // Of nobody, so that both ends are on one screen.
    let none = [
        ("watch --pid 1 --plain --duration 1s", ""),
        ("watch --pid 1 --duration 1s", "TERM=dumb "),
        ("watch --pid 1 --duration 1s | cat", ""),
        ("watch --pid 1 --duration 1s < /dev/null", ""),
        ("watch --pid 1 -- sleep 1", ""),
    ];
    for (words, before) in none {
        scene.tmux.line("clear")?;
        let tracer = scene.lab.tracer().display();
        scene.tmux.line(&format!("{before}{tracer} {words}"))?;
        scene
            .shows(&["tracer on ", "-- totals of"])
            .with_context(|| format!("{before}{words}"))?;
        scene.is_restored()?;
    }
    Ok(())
}
