//! The Debian package: `dpkg-deb`, and the few files that it wants.

use super::{Parts, tree};
use crate::place::Place;
use crate::run;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// tracer's version, and the package's own.
pub(super) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// No address that could be anybody's.
const MAINTAINER: &str = "tracer developers <tracer@tracer.invalid>";

/// Of lines of the description.
const WIDTH: usize = 78;

/// Packs what is below `root`.
pub(super) fn write(place: &Place, parts: &Parts, root: &Path, deb: &Path) -> Result<()> {
    let files = tree::files(root)?;
    let control = root.join("DEBIAN");
    fs::create_dir_all(&control)?;
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(file)?.len();
    }
    let read = |name: &str| {
        let path = place.root.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let synopsis = synopsis(&read("tracer/Cargo.toml")?)?;
    let about = about(&read("README.md")?)?;
    fs::write(
        control.join("control"),
        stanza(bytes.div_ceil(1024), &synopsis, &about),
    )?;
    let mut names = Vec::new();
    for file in &files {
        names.push(file.strip_prefix(root)?.to_owned());
    }
    let mut sums = Command::new("md5sum");
    let sums = run::capture(sums.args(names).current_dir(root))?;
    fs::write(control.join("md5sums"), sums)?;
    tree::settle(root, parts.epoch)?;
    run::capture(
        Command::new("dpkg-deb")
            // How xz cuts its work depends on how many do it.
            .args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"])
            .args([root, deb])
            .env("SOURCE_DATE_EPOCH", parts.epoch.to_string()),
    )?;
    Ok(())
}

/// Of the package, not of tracer: that one is CHANGELOG.md.
pub(super) fn changelog(date: &str) -> String {
    format!(
        "tracer ({VERSION}) unstable; urgency=medium\n\n  \
         * Built by the developers of tracer, from its own sources.\n\n \
         -- {MAINTAINER}  {date}\n"
    )
}

fn stanza(kibibytes: u64, synopsis: &str, about: &[String]) -> String {
    let mut description = synopsis.to_owned();
    for (index, paragraph) in about.iter().enumerate() {
        if index > 0 {
            description.push_str("\n .");
        }
        let mut width = WIDTH;
        for word in paragraph.split_whitespace() {
            // Each line begins with a space.
            if width + 1 + word.chars().count() > WIDTH {
                description.push('\n');
                width = 0;
            }
            description.push(' ');
            description.push_str(word);
            width += 1 + word.chars().count();
        }
    }
    format!(
        "Package: tracer\nVersion: {VERSION}\nArchitecture: amd64\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {kibibytes}\n\
         Section: net\nPriority: optional\nDescription: {description}\n"
    )
}

/// The one line about tracer that its package has for cargo.
fn synopsis(manifest: &str) -> Result<String> {
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("description = \"")?.strip_suffix('"'));
    Ok(line.context("Cargo.toml has no description")?.to_owned())
}

/// The paragraphs between the README's title and the first thing that is none.
fn about(readme: &str) -> Result<Vec<String>> {
    let mut paragraphs = readme.split("\n\n").map(str::trim);
    paragraphs.next();
    let plain = |paragraph: &&str| {
        paragraph.starts_with(|first: char| first.is_alphanumeric() || first == '`')
    };
    let about: Vec<String> = paragraphs
        .take_while(plain)
        .map(|paragraph| paragraph.replace('`', "").replace("**", ""))
        .collect();
    (!about.is_empty())
        .then_some(about)
        .context("the README does not begin with what tracer is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_the_readmes() -> Result<()> {
        let about = about("# x\n\nIt `does`\nthis.\n\nAnd that.\n\n![picture](p)\n\nNot this.\n")?;
        assert_eq!(about, ["It does\nthis.", "And that."]);
        let stanza = stanza(7, "Does", &about);
        assert!(stanza.contains("\nInstalled-Size: 7\n"), "{stanza}");
        assert!(
            stanza.ends_with("\nDescription: Does\n It does this.\n .\n And that.\n"),
            "{stanza}"
        );
        Ok(())
    }

    #[test]
    fn no_line_is_too_long() {
        let stanza = stanza(7, "Does", &["many words ".repeat(30)]);
        let longest = stanza.lines().map(str::len).max();
        assert!(longest.is_some_and(|longest| (70..=WIDTH).contains(&longest)));
    }

    #[test]
    fn the_synopsis_is_cargos() {
        let found = synopsis("name = \"x\"\ndescription = \"Does it\"\n");
        assert_eq!(found.unwrap_or_default(), "Does it");
        assert!(synopsis("name = \"x\"").is_err());
    }
}
