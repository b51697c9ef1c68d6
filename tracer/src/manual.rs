//! Man pages and shell completions, from the command line itself. Not part of the
//! program; only the feature `dist` has it.

use std::{fs, path::Path};

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// Writes `man1/` (a page for tracer and one for each verb) and a file of
/// completions for each shell.
///
/// # Errors
/// They cannot be written.
pub fn write(directory: &Path, date: &str) -> Result<()> {
    let pages = directory.join("man1");
    fs::create_dir_all(&pages)?;
    let mut command = for_people();
    // Gives the verbs their full names, as parsing would.
    command.build();
    page(&command, &pages, date)?;
    for verb in command.get_subcommands() {
        page(verb, &pages, date)?;
    }
    for (shell, file) in [
        (Shell::Bash, "tracer.bash"),
        (Shell::Zsh, "_tracer"),
        (Shell::Fish, "tracer.fish"),
    ] {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut for_people(), "tracer", &mut bytes);
        fs::write(directory.join(file), bytes)?;
    }
    Ok(())
}

/// The command line without what is hidden: bash and zsh would offer it.
fn for_people() -> Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("tracer")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .subcommands(verbs.cloned())
}

/// `tracer.1`, `tracer-watch.1`.
fn page(command: &Command, directory: &Path, date: &str) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut bytes = Vec::new();
    Man::new(command.clone().version(env!("CARGO_PKG_VERSION")))
        .title(name)
        .date(date)
        .manual("tracer")
        .render(&mut bytes)?;
    Ok(fs::write(directory.join(format!("{name}.1")), bytes)?)
}
