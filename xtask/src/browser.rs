//! `xtask browser`: is the HTML report what people should see, and nothing more?
//!
//! A capture with names that nobody should trust is told, shown by Debian's
//! Chromium, and judged by words, pictures and measures. The pictures stay, for
//! people to look at.

mod chromium;
mod picture;
mod site;

use crate::live::{Outcome, Run, Verdict};
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, ensure};
use chromium::{Chromium, Scheme};
use picture::Picture;
use serde_json::Value;
use site::{Pages, Site};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const PROGRAMS: [(&str, &str); 4] = [
    (chromium::PROGRAM, "chromium"),
    (picture::PROGRAM, "netpbm"),
    (PDF_TO_TEXT, "poppler-utils"),
    // What Debian's machines without a desktop lack.
    (FONT, "fonts-dejavu-core"),
];
const PDF_TO_TEXT: &str = "/usr/bin/pdftotext";
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

/// Two of docs/cases in one capture, with a gap, a loss and hostile names.
const CAPTURE: &str = include_str!("browser/capture.jsonl");

const POISON: &str = include_str!("browser/poison.html");
const MEASURE: &str = include_str!("browser/measure.js");

/// How the page says what it may do.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\"";

/// Windows: a phone held upright, a small one, a tablet, a desk.
const WIDTHS: [u32; 4] = [320, 375, 768, 1280];

/// WCAG 2.2 AA: text, and drawings.
const TEXT: f64 = 4.5;
const SHAPE: f64 = 3.0;

/// Who, how many, since when, why, what to do: each as a person reads it.
const STORY: [&str; 9] = [
    "73 failures on web-7<b>",
    "fcgiwrap[25441], listening on 10.82.0.2:9000: accept queue full",
    "62 dropped (8 SYNs, 54 final ACKs), 16:34:40.149 to 16:34:42.987",
    "nothing was accepted, while 4.2 a second came",
    "Find out why fcgiwrap[25441] does not accept",
    "<script>document.title=1</script>[24866]",
    "7900 of 10000 ports TIME_WAIT, closed by stress[24865]",
    "pay\\u{202e}load\\x1b[31m[24867]",
    "812 records not written: No space left on device",
];

/// What is looked at.
struct Scene {
    chromium: Chromium,
    site: Site,
    /// For pictures.
    directory: PathBuf,
}

type Check = fn(&Scene) -> Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("words", words),
    ("pictures", pictures),
    ("measures", measures),
    ("network", network),
    ("print", print),
];

/// Runs every check.
pub(crate) fn run(place: &Place, tracer: &Path) -> Result<Run> {
    let missing = |(file, _): &&(&str, &str)| !Path::new(file).exists();
    let missing: Vec<_> = PROGRAMS.iter().filter(missing).copied().collect();
    run::need_programs(&missing)?;
    let directory = place.cache.join("browser");
    fs::create_dir_all(&directory)?;
    let page = report(tracer, &directory)?;
    let scene = Scene {
        chromium: Chromium::new(&directory),
        site: Site::new(pages(&page)?)?,
        directory,
    };
    let mut outcomes = Vec::new();
    for (name, check) in CHECKS {
        let start = Instant::now();
        let outcome = check(&scene);
        let detail = outcome.as_ref().err().map(|error| format!("{error:#}"));
        let detail = detail.unwrap_or_default();
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(_) => Verdict::Failed,
        };
        let seconds = start.elapsed().as_secs_f64();
        say::note(&format!(
            "browser {name} {verdict:?} {seconds:.1}s {detail}"
        ));
        outcomes.push(Outcome {
            tier: "auto".to_owned(),
            scenario: format!("browser/{name}"),
            verdict,
            detail,
        });
    }
    say::note(&format!("pictures are in {}", scene.directory.display()));
    Ok(Run {
        kernel: "browser".to_owned(),
        outcomes,
        problems: Vec::new(),
    })
}

fn report(tracer: &Path, directory: &Path) -> Result<String> {
    let capture = directory.join("capture.jsonl");
    fs::write(&capture, CAPTURE)?;
    let mut command = Command::new(tracer);
    command
        .args(["report", "--format", "html"])
        .arg(&capture)
        .env("TZ", "UTC");
    let page = run::capture(&mut command)?;
    fs::write(directory.join("report.html"), &page)?;
    Ok(page)
}

/// The report; the same with things that must not work; both without the policy
/// that forbids them; and one that measures itself, in windows of all widths.
fn pages(report: &str) -> Result<Pages> {
    ensure!(
        report.matches(POLICY).count() == 1,
        "the report has no Content-Security-Policy"
    );
    let free = report.replace(POLICY, "<meta name=\"without\"");
    let with = |page: &str, what: &str| page.replace("</body>", &format!("{what}</body>"));
    let measure = format!("<script>{MEASURE}</script>");
    let mut pages = Pages::from([
        ("/report".to_owned(), report.to_owned()),
        ("/poisoned".to_owned(), with(report, POISON)),
        ("/unprotected".to_owned(), with(&free, POISON)),
        ("/measured".to_owned(), with(&free, &measure)),
    ]);
    // A window cannot be as narrow as a phone, a frame can.
    for width in WIDTHS {
        let frame = |path: &str, onload: &str| {
            format!(
                "<!DOCTYPE html><title>not loaded</title><body style=\"margin:0\"><iframe src=\"{path}\" style=\"border:0;display:block\" width=\"{width}\" height=\"900\" onload=\"{onload}\"></iframe></body>"
            )
        };
        let measured = "document.title = this.contentDocument.title";
        pages.insert(format!("/measured/{width}"), frame("/measured", measured));
        pages.insert(format!("/report/{width}"), frame("/report", ""));
    }
    Ok(pages)
}

/// The story is on the page as text, in every browser's own reading of it.
fn words(scene: &Scene) -> Result<()> {
    let dom = scene
        .chromium
        .dom(&scene.site.url("/report"), Scheme::Light)?;
    for text in STORY {
        let escaped = text.replace('<', "&lt;").replace('>', "&gt;");
        ensure!(dom.contains(&escaped), "`{text}` is not on the page");
    }
    for tag in ["<script", "<img", "<b>", "onload=\"", "onerror=\""] {
        ensure!(!dom.contains(tag), "a name became `{tag}`");
    }
    let drawings = dom.matches("role=\"img\"").count();
    ensure!(drawings >= 10, "only {drawings} drawings");
    Ok(())
}

/// Something is to be seen, and it is dark for those who want it dark.
fn pictures(scene: &Scene) -> Result<()> {
    let url = scene.site.url("/report");
    let phone = scene.site.url("/report/375");
    for scheme in Scheme::BOTH {
        let looks = [
            (&url, "desk", (1280, 900)),
            (&url, "long", (1280, 2000)),
            // As wide as the frame, where the window may be so narrow.
            (&phone, "phone", (500, 900)),
        ];
        for (url, name, size) in looks {
            let name = format!("{name}-{}.png", scheme.name());
            let file = scene.directory.join(&name);
            scene.chromium.screenshot(url, scheme, size, &file)?;
            let picture = Picture::read(&file)?;
            let (colours, most) = picture.variety();
            ensure!(
                colours > 50 && (300..980).contains(&most),
                "{name} looks blank: {colours} colours, {most} of 1000 pixels have the same"
            );
            let brightness = picture.brightness();
            // Beside the phone's frame is white paper.
            let is_right = match scheme {
                Scheme::Light => brightness > 200,
                Scheme::Dark => brightness < if picture.width == 500 { 120 } else { 60 },
            };
            ensure!(is_right, "{name} has a brightness of {brightness}");
        }
    }
    Ok(())
}

/// Nothing sticks out, and everything stands out.
fn measures(scene: &Scene) -> Result<()> {
    for scheme in Scheme::BOTH {
        for width in WIDTHS {
            let url = scene.site.url(&format!("/measured/{width}"));
            let dom = scene.chromium.dom(&url, scheme)?;
            let title = title(&dom)?;
            let found: Value = serde_json::from_str(&title).with_context(|| title.clone())?;
            let number = |field: &str| found[field].as_f64().context(title.clone());
            let is = format!("{width} wide and {}", scheme.name());
            ensure!(
                number("room")? == f64::from(width) && number("width")? <= f64::from(width),
                "{is}, the page sticks out: {title}"
            );
            ensure!(
                number("texts")? > 100.0 && number("text")? >= TEXT,
                "{is}, text is too faint: {title}"
            );
            ensure!(
                number("shapes")? > 10.0 && number("shape")? >= SHAPE,
                "{is}, a drawing is too faint: {title}"
            );
            ensure!(number("small")? >= 11.0, "{is}, text is too small: {title}");
        }
    }
    Ok(())
}

/// Whatever gets into the page, it loads nothing and runs nothing; without its
/// policy it would.
fn network(scene: &Scene) -> Result<()> {
    let visit = |path: &str| -> Result<(String, Vec<String>)> {
        scene.site.asked();
        let dom = scene.chromium.dom(&scene.site.url(path), Scheme::Light)?;
        let asked = scene.site.asked().into_iter();
        Ok((title(&dom)?, asked.filter(|other| other != path).collect()))
    };
    for path in ["/report", "/poisoned"] {
        let (title, asked) = visit(path)?;
        ensure!(asked.is_empty(), "{path} loaded {}", asked.join(" "));
        ensure!(
            title.starts_with("tracer report: "),
            "{path} ran something: {title}"
        );
    }
    let (title, asked) = visit("/unprotected")?;
    let loaded = asked.iter().filter(|path| path.starts_with("/loaded/"));
    ensure!(
        loaded.count() >= 7 && title.ends_with(" ran"),
        "without a policy these should have been loaded and run: {asked:?} {title}"
    );
    Ok(())
}

/// On paper it is all there.
fn print(scene: &Scene) -> Result<()> {
    let pdf = scene.directory.join("report.pdf");
    scene.chromium.print(&scene.site.url("/report"), &pdf)?;
    let text = run::capture(Command::new(PDF_TO_TEXT).arg(&pdf).arg("-"))?;
    // Lines are broken elsewhere.
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let text = squeeze(&text);
    for story in STORY {
        ensure!(text.contains(&squeeze(story)), "`{story}` is not printed");
    }
    Ok(())
}

fn title(dom: &str) -> Result<String> {
    let (_, rest) = dom.split_once("<title>").context("no title")?;
    let (title, _) = rest.split_once("</title>").context("no title")?;
    let title = title.replace("&lt;", "<").replace("&gt;", ">");
    Ok(title.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_is_one_record_a_line() -> Result<()> {
        for line in CAPTURE.lines() {
            let record: Value = serde_json::from_str(line)?;
            assert_eq!(record["v"], 1, "{line}");
        }
        Ok(())
    }

    #[test]
    fn a_title_is_text() -> Result<()> {
        assert_eq!(title("<svg><title>a &lt;b&gt;</title></svg>")?, "a <b>");
        assert!(title("<title>").is_err());
        Ok(())
    }
}
