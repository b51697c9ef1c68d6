//! Debian's Chromium, without a window.

use crate::run;
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) const PROGRAM: &str = "/usr/bin/chromium";

/// A page is drawn in a second or two; the first start takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// Which colours the user prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    pub(super) const BOTH: [Self; 2] = [Self::Light, Self::Dark];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Blink's own numbers.
    fn setting(self) -> &'static str {
        match self {
            Self::Dark => "--blink-settings=preferredColorScheme=0",
            Self::Light => "--blink-settings=preferredColorScheme=1",
        }
    }
}

/// Where it may write.
#[derive(Debug)]
pub(super) struct Chromium {
    directory: PathBuf,
}

impl Chromium {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The page as it is when it is loaded, as HTML.
    pub(super) fn dom(&self, url: &str, scheme: Scheme) -> Result<String> {
        self.run(&["--dump-dom", scheme.setting(), url])
    }

    /// A picture of the first screen.
    pub(super) fn screenshot(
        &self,
        url: &str,
        scheme: Scheme,
        (width, height): (u32, u32),
        picture: &Path,
    ) -> Result<()> {
        let size = format!("--window-size={width},{height}");
        let file = format!("--screenshot={}", picture.display());
        self.run(&[&size, &file, scheme.setting(), url]).map(|_| ())
    }

    pub(super) fn print(&self, url: &str, pdf: &Path) -> Result<()> {
        let file = format!("--print-to-pdf={}", pdf.display());
        self.run(&["--no-pdf-header-footer", &file, url])
            .map(|_| ())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let profile = self.directory.join("profile");
        let output = self.directory.join("stdout");
        let remarks = self.directory.join("stderr");
        let mut command = Command::new(PROGRAM);
        command
            .args([
                "--headless",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
            ])
            .arg(format!("--user-data-dir={}", profile.display()));
        if run::is_root() {
            // Its sandbox refuses root; what is shown is our own.
            command.arg("--no-sandbox");
        }
        command
            .args(arguments)
            .stdout(File::create(&output)?)
            .stderr(Stdio::from(File::create(&remarks)?));
        let mut child = run::spawn(&mut command)?;
        let status = run::wait_at_most(&mut child, LIMIT)?;
        let said = || fs::read_to_string(&remarks).unwrap_or_default();
        let status = status.with_context(|| format!("Chromium does not end: {}", said()))?;
        ensure!(status.success(), "Chromium: {status}: {}", said());
        let bytes = fs::read(&output)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
