//! A terminal that can be asked what it shows.

use super::Size;
use crate::run;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const PROGRAM: &str = "/usr/bin/tmux";

/// A tmux of its own, with one shell in one window.
#[derive(Debug)]
pub(super) struct Tmux {
    socket: PathBuf,
    /// Where the shell writes what is asked of it.
    answer: PathBuf,
}

impl Tmux {
    pub(super) fn start(directory: &Path, (columns, lines): Size) -> Result<Self> {
        let tmux = Self {
            socket: directory.join("tmux"),
            answer: directory.join("modes"),
        };
        let configuration = directory.join("tmux.conf");
        // Whoever asks for the clipboard gets it here, so that asking is seen.
        fs::write(
            &configuration,
            "set -g default-terminal screen-256color\nset -g set-clipboard on\nset -g status off\n",
        )?;
        let mut command = tmux.command();
        command
            .arg("-f")
            .arg(&configuration)
            .args(["new-session", "-d", "-x", &columns.to_string()])
            .args(["-y", &lines.to_string()])
            .arg("env -u NO_COLOR PS1='$ ' ENV= LC_ALL=C.UTF-8 sh -i")
            .current_dir(directory)
            .env("LC_ALL", "C.UTF-8");
        run::capture(&mut command)?;
        Ok(tmux)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-u").arg("-S").arg(&self.socket);
        command
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        run::capture(self.command().args(words))
    }

    /// What is to be seen.
    pub(super) fn screen(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p"])
    }

    /// The same with its colours, as escape sequences.
    pub(super) fn painted(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// Presses a key, by tmux's name.
    pub(super) fn key(&self, key: &str) -> Result<()> {
        self.ask(&["send-keys", key]).map(|_| ())
    }

    pub(super) fn text(&self, text: &str) -> Result<()> {
        self.ask(&["send-keys", "-l", text]).map(|_| ())
    }

    /// Types a line into the shell.
    pub(super) fn line(&self, text: &str) -> Result<()> {
        self.text(text)?;
        self.key("Enter")
    }

    pub(super) fn resize(&self, (columns, lines): Size) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &lines])
            .map(|_| ())
    }

    fn format(&self, format: &str) -> Result<String> {
        let text = self.ask(&["display-message", "-p", format])?;
        Ok(text.trim().to_owned())
    }

    /// Whether a program has the whole screen.
    pub(super) fn is_alternate(&self) -> Result<bool> {
        Ok(self.format("#{alternate_on}")? == "1")
    }

    pub(super) fn has_cursor(&self) -> Result<bool> {
        Ok(self.format("#{cursor_flag}")? == "1")
    }

    /// Whether anything was put into tmux's clipboard.
    pub(super) fn has_buffers(&self) -> Result<bool> {
        Ok(!self.ask(&["list-buffers"])?.trim().is_empty())
    }

    /// The terminal's modes. The shell's own line editor must not be in the way:
    /// another process asks.
    pub(super) fn modes(&self) -> Result<String> {
        let terminal = self.format("#{pane_tty}")?;
        // A shell that reads a line has changed some of them for itself; dash has
        // no line editor, and other shells restore them before a command runs.
        let _ = fs::remove_file(&self.answer);
        let (answer, draft) = (self.answer.display(), self.answer.with_extension("draft"));
        let draft = draft.display();
        self.line(&format!(
            "stty -g < {terminal} > {draft}; mv {draft} {answer}"
        ))?;
        super::until("stty", || Ok(self.answer.exists()))?;
        Ok(fs::read_to_string(&self.answer)?.trim().to_owned())
    }

    /// The pid of a program that the shell has started.
    pub(super) fn child(&self, name: &str) -> Result<u32> {
        let shell = self.format("#{pane_pid}")?;
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))
            .context("this kernel does not list children")?;
        let is_it = |pid: &&str| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        };
        let found: Vec<&str> = children.split_whitespace().filter(is_it).collect();
        ensure!(found.len() == 1, "{} programs called {name}", found.len());
        found[0].parse().context("a pid is no number")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.ask(&["kill-server"]);
    }
}
