//! `documentation`, which is not shown: the reference in Markdown, and man pages, from the definition of the commands.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use crate::args::Arguments;
use crate::exit::ExitStatus;
use crate::failure::{Cause, Failure};
use crate::output::Output;

/// Writes man pages into the directory; without one, the reference goes to standard output.
pub(crate) fn run(man_pages: Option<&Path>, output: &mut Output) -> Result<ExitStatus, Failure> {
    match man_pages {
        Some(directory) => clap_mangen::generate_to(Arguments::command(), directory)
            .map_err(|source| Cause::Write { what: "man pages", path: directory.to_owned(), source })?,
        None => output.raw(&[reference().as_bytes()])?,
    }
    Ok(ExitStatus::Success)
}

/// All commands with their arguments, and the flags that all of them have once.
fn reference() -> String {
    let mut root = Arguments::command();
    root.build();
    let mut text = String::from(
        "# Command reference\n\n<!-- Written by `cargo xtask generate`. -->\n\nMan pages: `cargo xtask dist` puts them into \
         `dist/man`. Completions: `marblerun completion SHELL`.\n",
    );
    if let Some(help) = root.get_after_help() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{help}\n");
    }
    text.push_str("\n## Flags of every command\n\n");
    for flag in root.get_arguments().filter(|arg| is_shown(arg)) {
        argument(flag, &mut text);
    }
    commands(&root, &root, &mut text);
    text
}

fn commands(root: &Command, command: &Command, text: &mut String) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        // A command may also be the group of others.
        if !command.is_subcommand_required_set() && !command.is_arg_required_else_help_set()
            || !command.has_subcommands()
            || command.is_args_conflicts_with_subcommands_set()
        {
            one(root, command, text);
        }
        commands(root, command, text);
    }
}

fn one(root: &Command, command: &Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = about.split("\n\n").map(sentence).collect::<Vec<_>>().join("\n\n");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let _ = write!(text, "\n## {name}\n\n{about}\n\n```text\n{usage}\n```\n\n");
    let is_global = |arg: &Arg| root.get_arguments().any(|global| global.get_id() == arg.get_id());
    let mut count = 0;
    for arg in command.get_arguments().filter(|arg| is_shown(arg) && !is_global(arg)) {
        argument(arg, text);
        count += 1;
    }
    if let Some(help) = command.get_after_help().map(ToString::to_string) {
        let separator = if count > 0 { "\n" } else { "" };
        let (words, example) = help.split_once("Example:\n").unwrap_or((&help, ""));
        let words = words.trim();
        text.push_str(separator);
        if !words.is_empty() {
            let _ = write!(text, "{words}\n\n");
        }
        if !example.is_empty() {
            let example = example.lines().map(str::trim).collect::<Vec<_>>().join("\n");
            let _ = write!(text, "```sh\n{example}\n```\n");
        }
    }
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

/// One line with the full stop that clap takes away.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with(['.', ':']) { text } else { text + "." }
}

fn argument(arg: &Arg, text: &mut String) {
    let takes_value = arg.is_positional() || arg.get_action().takes_values();
    let value = arg.get_value_names().filter(|_| takes_value).map(|names| names.join(" "));
    let value = value.unwrap_or_default();
    let flags = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => String::new(),
    };
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = sentence(&help);
    let _ = write!(text, "- `{}`: {help}", [flags, value].join(" ").trim());
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_value && !values.is_empty() {
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Variable: `{}`.", variable.to_string_lossy());
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_command_with_its_own_flags() {
        let text = reference();
        for expected in
            ["\n## marblerun manifest plan\n", "\n## marblerun status\n", "`--running FILE`", "```sh\nmarblerun "]
        {
            assert!(text.contains(expected), "{expected}");
        }
        // Flags that all commands have stand there once.
        assert_eq!(text.matches("`--era-config FILE`").count(), 1);
        assert!(!text.contains("documentation"), "what is hidden is not told");
    }
}
