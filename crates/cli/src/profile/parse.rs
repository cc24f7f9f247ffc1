//! Reading the command line with a profile's values in place of flags that are left out.
//!
//! The values become defaults of clap's arguments, so that flags and variables still come first, and every command sees
//! them as if they had been given.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::{Name, Profile, Store};
use crate::args::Arguments;
use crate::failure::{Cause, Failure};

/// The address, a position of every command that talks to a Coordinator.
const ADDRESS: &str = "coordinator";
/// Names of secrets, then the address: `secret get`.
const WORDS: &str = "words";
const CERT: &str = "cert";
const KEY: &str = "key";
const TOKEN: &str = "pkcs11_config";

/// A command line.
pub(crate) struct Parsed {
    pub(crate) arguments: Arguments,
    /// The profile that is in force; [`crate::args::Global::profile`] names it as well.
    pub(crate) profile: Option<(Name, Profile)>,
}

/// Why a command line is not understood.
pub(crate) enum NotParsed {
    /// By clap; also help.
    Usage(clap::Error),
    /// Because of the profile.
    Failure(Failure),
}

impl<T: Into<Failure>> From<T> for NotParsed {
    fn from(failure: T) -> Self {
        Self::Failure(failure.into())
    }
}

/// Reads a command line, the program's name first.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Parsed, NotParsed> {
    let mut command = Arguments::command();
    let Some((name, user)) = chosen(&words)? else {
        let mut arguments = arguments(command, words)?;
        arguments.global.profile = None;
        return Ok(Parsed { arguments, profile: None });
    };
    let store = Store::of_user()?;
    let profile = store.read(&name)?;
    let certificates = store.certificates(&name).into_os_string().into_string();
    let certificates = certificates.map_err(|path| Cause::PathNotText { path: path.into() })?;
    let defaults = Defaults { profile: &profile, certificates, user };
    command = defaults.put_into(command);
    let mut arguments = arguments(command, with_address(words, &profile.address))?;
    if arguments.global.insecure {
        return Err(Cause::InsecureProfile.into());
    }
    arguments.global.profile = Some(name.to_string());
    Ok(Parsed { arguments, profile: Some((name, profile)) })
}

fn arguments(command: Command, words: Vec<OsString>) -> Result<Arguments, NotParsed> {
    let result = command.try_get_matches_from(words).and_then(|matches| Arguments::from_arg_matches(&matches));
    result.map_err(NotParsed::Usage)
}

/// Whether the profile's user is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    OfProfile,
    OfCommandLine,
}

/// Which profile is meant: the named one, or the default where no address is given.
fn chosen(words: &[OsString]) -> Result<Option<(Name, User)>, NotParsed> {
    // What is wrong apart from a missing address is reported later, in full.
    let Ok(matches) = without_address(Arguments::command()).try_get_matches_from(words) else { return Ok(None) };
    let leaf = leaf(&matches);
    let talks = has_id(leaf, ADDRESS) || has_id(leaf, WORDS);
    if !talks {
        return Ok(None);
    }
    let name = match leaf.get_one::<String>("profile").filter(|name| !name.is_empty()) {
        Some(name) => Some(name.parse().map_err(Cause::from)?),
        None if is_given(leaf, ADDRESS) || last_word(leaf).is_some_and(is_address) || is_given(leaf, "running") => None,
        None => Store::of_user().ok().map(|store| store.default()).transpose()?.flatten(),
    };
    let is_other_user = [CERT, KEY, TOKEN].iter().any(|id| is_given(leaf, id));
    let user = if is_other_user { User::OfCommandLine } else { User::OfProfile };
    Ok(name.map(|name| (name, user)))
}

fn leaf(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, below)| leaf(below))
}

fn has_id(matches: &ArgMatches, id: &str) -> bool {
    matches.try_contains_id(id).is_ok()
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    has_id(matches, id) && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// The definition in which no command needs an address.
fn without_address(command: Command) -> Command {
    everywhere(command, &|command| {
        if has_arg(&command, ADDRESS) {
            command.mut_arg(ADDRESS, |arg| arg.required(false).default_value(""))
        } else {
            command
        }
    })
}

fn has_arg(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == id)
}

fn everywhere(command: Command, change: &dyn Fn(Command) -> Command) -> Command {
    change(command).mut_subcommands(|below| everywhere(below, change))
}

/// `secret get NAME...` ends with the address; where nothing there looks like one, the profile's is meant.
fn with_address(mut words: Vec<OsString>, address: &str) -> Vec<OsString> {
    let Ok(matches) = without_address(Arguments::command()).try_get_matches_from(&words) else { return words };
    let leaf = leaf(&matches);
    if last_word(leaf).is_some_and(|word| !is_address(word)) {
        words.push(address.into());
    }
    words
}

fn last_word(leaf: &ArgMatches) -> Option<&str> {
    let mut words = leaf.try_get_many::<String>(WORDS).ok().flatten()?;
    words.next_back().map(String::as_str)
}

/// Names of secrets rarely have a colon, addresses rarely have none.
fn is_address(word: &str) -> bool {
    word.contains(':')
}

struct Defaults<'a> {
    profile: &'a Profile,
    certificates: String,
    user: User,
}

impl Defaults<'_> {
    fn put_into(&self, command: Command) -> Command {
        let Profile { address, era_config, software_roots, collateral, cert, key } = self.profile;
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let is_user = self.user == User::OfProfile;
        everywhere(command, &|mut command| {
            // Recovery parties have a key as well, but no certificate.
            let has_user = is_user && has_arg(&command, CERT) && has_arg(&command, KEY);
            for (id, values) in [
                (ADDRESS, vec![address.clone()]),
                ("coordinator_cert", vec![self.certificates.clone()]),
                ("era_config", one(era_config)),
                ("trust_software_root", software_roots.clone()),
                ("collateral", one(collateral)),
                (CERT, if has_user { one(cert) } else { Vec::new() }),
                (KEY, if has_user { one(key) } else { Vec::new() }),
            ] {
                if !values.is_empty() && has_arg(&command, id) {
                    command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
                }
            }
            command
        })
    }
}
