//! Debian packages of any series, through a private apt.
//!
//! The system's apt configuration and lists are read, never written: lists,
//! cache and sources of our own lie under `target/xtask/apt`. Signatures and
//! hashes are checked by apt as usual.

mod sources;
pub(crate) mod version;

use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, bail};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Every series that has something we want; `true` for those of the security archive.
const SUITES: [(&str, bool); 9] = [
    ("bullseye", false),
    ("bullseye-security", true),
    ("bookworm", false),
    ("bookworm-security", true),
    ("trixie", false),
    ("trixie-security", true),
    ("trixie-backports", false),
    ("forky", false),
    ("sid", false),
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages come and go several times a day; a list older than this may name files that are gone.
const FRESH: Duration = Duration::from_secs(6 * 3600);

/// One version of a package that some series offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) package: String,
    pub(crate) version: String,
}

/// A series and the archive that holds it.
#[derive(Debug, Clone)]
struct Suite {
    name: &'static str,
    uri: String,
}

/// The private apt.
#[derive(Debug)]
pub(crate) struct Apt {
    directory: PathBuf,
    keyring: RefCell<PathBuf>,
}

impl Apt {
    /// Makes the private apt ready: at first use, and after some hours, it fetches the lists.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if !run::exists(program) {
                bail!("this needs Debian's {program}, which is not here");
            }
        }
        let apt = Self {
            directory: place.cache.join("apt"),
            keyring: RefCell::new(KEYRING.into()),
        };
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.directory.join(directory))?;
        }
        fs::write(apt.directory.join("status"), "")?;
        if !apt.is_fresh() {
            apt.update()?;
        }
        Ok(apt)
    }

    /// All names of packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = run::capture(self.cache().args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every version on offer of every one of `packages`.
    pub(crate) fn versions<S: AsRef<OsStr>>(&self, packages: &[S]) -> Result<Vec<Listed>> {
        let text = run::capture(self.cache().arg("madison").args(packages))?;
        Ok(parse_madison(&text))
    }

    /// What that version of a package depends on: for each dependency its alternatives.
    pub(crate) fn depends(&self, listed: &Listed) -> Result<Vec<Vec<String>>> {
        let text = run::capture(
            self.cache()
                .args(["--no-all-versions", "show", &spec(listed)]),
        )?;
        Ok(parse_depends(&text))
    }

    /// Downloads that version of a package into an own directory and returns the file.
    pub(crate) fn download(&self, listed: &Listed) -> Result<PathBuf> {
        let directory = self.directory.join("download").join(&listed.package);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let mut command = self.apt("apt-get");
        command.args(["-qq", "download", &spec(listed)]);
        if let Err(error) = run::capture(command.current_dir(&directory)) {
            // The package may have been replaced since the lists were fetched.
            fs::remove_file(self.stamp())?;
            return Err(error.context(format!(
                "{} could not be downloaded; running this again fetches new package lists first",
                spec(listed)
            )));
        }
        fs::read_dir(&directory)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension() == Some(OsStr::new("deb")))
            .with_context(|| format!("apt-get download left no package of {}", listed.package))
    }

    /// Fetches the lists: all at once, and series by series if that fails, since one that is
    /// gone must not take the others with it.
    fn update(&self) -> Result<()> {
        say::note("fetching Debian's package lists (into target/xtask/apt)");
        let suites = suites()?;
        let lines: Vec<String> = suites.iter().map(|suite| self.line(suite)).collect();
        if self.update_from(&lines).is_ok() {
            return self.keep(&lines);
        }
        let (mut usable, refused) = self.update_each(&suites);
        self.keep(&usable)?;
        let mut left_out = refused;
        let unknown_key = |error: &anyhow::Error| format!("{error:#}").contains("NO_PUBKEY");
        if left_out.iter().any(|(_, error)| unknown_key(error)) && self.take_newer_keyring()? {
            let again: Vec<Suite> = left_out.into_iter().map(|(suite, _)| suite).collect();
            let (more, refused) = self.update_each(&again);
            usable.extend(more);
            left_out = refused;
        }
        for (suite, error) in &left_out {
            say::note(&format!("{} left out: {error:#}", suite.name));
        }
        if usable.is_empty() {
            bail!("no Debian series could be listed");
        }
        self.keep(&usable)
    }

    /// Fetches each series by itself: the lines of those that came, and what was wrong with
    /// the others.
    fn update_each(&self, suites: &[Suite]) -> (Vec<String>, Vec<(Suite, anyhow::Error)>) {
        let (mut usable, mut refused) = (Vec::new(), Vec::new());
        for suite in suites {
            let line = self.line(suite);
            match self.update_from(std::slice::from_ref(&line)) {
                Ok(()) => usable.push(line),
                Err(error) => refused.push((suite.clone(), error)),
            }
        }
        (usable, refused)
    }

    fn update_from(&self, lines: &[String]) -> Result<()> {
        let list = self.directory.join("update.list");
        fs::write(&list, lines.join("\n") + "\n")?;
        let mut command = self.apt_with("apt-get", &list);
        // Without this, apt deletes the lists of the series fetched before.
        command.args(["-o", "APT::Get::List-Cleanup=false"]);
        command.args(["-o", "APT::Update::Error-Mode=any", "-qq", "update"]);
        let output = run::output(&mut command)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason: Vec<&str> = stderr.lines().map(str::trim).collect();
            bail!("{}", reason.join(" "));
        }
        Ok(())
    }

    fn keep(&self, lines: &[String]) -> Result<()> {
        fs::write(self.list(), lines.join("\n") + "\n")?;
        fs::write(self.stamp(), "")?;
        Ok(())
    }

    fn line(&self, suite: &Suite) -> String {
        let keyring = self.keyring.borrow();
        let Suite { name, uri } = suite;
        format!("deb [signed-by={}] {uri} {name} main", keyring.display())
    }

    /// A newer series may be signed by a key that this machine does not know yet: the newest
    /// keyring from the series that were verified so far brings it. Says whether that helped.
    fn take_newer_keyring(&self) -> Result<bool> {
        let keyring = self.directory.join("keyring");
        let file = keyring.join(KEYRING.trim_start_matches('/'));
        let listed = self.versions(&["debian-archive-keyring"])?;
        let Some(newest) = newest(&listed) else {
            return Ok(false);
        };
        say::note("taking a newer debian-archive-keyring from a series that was verified");
        unpack(&self.download(newest)?, &keyring, &["./usr/share/keyrings"])?;
        *self.keyring.borrow_mut() = file;
        Ok(true)
    }

    fn is_fresh(&self) -> bool {
        fs::metadata(self.stamp())
            .and_then(|meta| meta.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH))
    }

    /// As old as the lists.
    fn stamp(&self) -> PathBuf {
        self.directory.join("fetched")
    }

    fn list(&self) -> PathBuf {
        self.directory.join("all.list")
    }

    fn cache(&self) -> Command {
        self.apt("apt-cache")
    }

    fn apt(&self, program: &str) -> Command {
        self.apt_with(program, &self.list())
    }

    fn apt_with(&self, program: &str, list: &Path) -> Command {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            // Containers switch these off, and apt then parses every list on every call.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // Root may own the checkout, where apt's own user cannot write.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// The newest of several versions.
pub(crate) fn newest(listed: &[Listed]) -> Option<&Listed> {
    listed
        .iter()
        .max_by(|a, b| version::compare(&a.version, &b.version))
}

/// Takes what matches `members` (names inside the package, with wildcards) out of a package
/// into `directory`. A pattern that nothing matches is no error: callers look for their files.
pub(crate) fn unpack(deb: &Path, directory: &Path, members: &[impl AsRef<OsStr>]) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let tar = contents.stdout.take().context("dpkg-deb has no stdout")?;
    let output = Command::new("tar")
        .args(["-x", "--wildcards", "-C"])
        .arg(directory)
        .args(members)
        .env("LC_ALL", "C")
        .stdin(tar)
        .output()
        .context("cannot run tar")?;
    let contents = contents.wait()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaint = stderr
        .lines()
        .find(|line| !line.contains("Not found in archive") && !line.contains("Exiting with"));
    if let Some(complaint) = complaint {
        bail!("{} could not be unpacked: {complaint}", deb.display());
    }
    if !contents.success() {
        bail!("{} could not be unpacked", deb.display());
    }
    Ok(())
}

/// Every series, with the archive that this machine gets it from.
fn suites() -> Result<Vec<Suite>> {
    let (archive, security) = archives()?;
    if security.is_none() {
        say::note("this machine's apt sources name no security archive: those series are left out");
    }
    Ok(SUITES
        .iter()
        .filter_map(|(name, is_security)| {
            let uri = if *is_security {
                security.clone()
            } else {
                Some(archive.clone())
            };
            uri.map(|uri| Suite { name, uri })
        })
        .collect())
}

/// The archive that this machine gets Debian from.
pub(crate) fn archive() -> Result<String> {
    Ok(archives()?.0)
}

/// Where this machine gets Debian from: the archive, and its security updates.
fn archives() -> Result<(String, Option<String>)> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or_default()
        .trim_matches('"');
    let is_debian = release
        .lines()
        .any(|line| line.trim_end() == "ID=debian" || line.trim_end() == "ID=\"debian\"");
    let mut found = Vec::new();
    if let Ok(text) = fs::read_to_string("/etc/apt/sources.list") {
        found.extend(sources::parse_list(&text));
    }
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path())).collect())
        .unwrap_or_default();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(OsStr::to_str) {
            Some("list") => found.extend(sources::parse_list(&text)),
            Some("sources") => found.extend(sources::parse_stanzas(&text)),
            _ => {}
        }
    }
    match sources::archives(&found, codename) {
        (Some(archive), security) if is_debian => Ok((archive, security)),
        _ => bail!("this needs a Debian machine whose apt sources name the archive it came from"),
    }
}

fn spec(listed: &Listed) -> String {
    format!("{}={}", listed.package, listed.version)
}

/// `package | version | where` lines.
fn parse_madison(text: &str) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(package), Some(version)) = (fields.next(), fields.next()) else {
            continue;
        };
        let one = Listed {
            package: package.to_owned(),
            version: version.to_owned(),
        };
        if !listed.contains(&one) {
            listed.push(one);
        }
    }
    listed
}

fn parse_depends(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .find_map(|line| line.strip_prefix("Depends:"))
        .into_iter()
        .flat_map(|line| line.split(','))
        .map(|choice| {
            choice
                .split('|')
                .filter_map(|name| name.split_whitespace().next())
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_versions_are_listed_side_by_side() {
        let text = " rust-src | 1.97.1+dfsg1-1 | mirror forky/main amd64 Packages\n \
            rust-src | 1.97.1+dfsg1-1 | mirror sid/main amd64 Packages\n \
            rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror x\n";
        let listed = parse_madison(text);
        assert_eq!(listed.len(), 2);
        assert_eq!(
            newest(&listed).map(|l| l.version.as_str()),
            Some("1.97.1+dfsg1-1")
        );
    }

    #[test]
    fn dependencies_keep_their_alternatives() {
        let text =
            "Package: x\nDepends: dracut | initramfs-tools (>= 0.120), linux-binary-7 (= 7.2-1)\n";
        assert_eq!(
            parse_depends(text),
            [
                vec!["dracut".to_owned(), "initramfs-tools".to_owned()],
                vec!["linux-binary-7".to_owned()],
            ]
        );
    }
}
