//! Arguments of a command: flags and options in any order, each read once; anything left over is an error.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::console::Outcome;

/// The arguments after a command's name. Take each flag and option, then call [`finish`](Self::finish).
#[derive(Debug)]
pub(crate) struct Args(Vec<String>);

/// A wrong call of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage(String);

impl Usage {
    pub(crate) fn error(message: impl Into<String>) -> Box<dyn Error> {
        Box::new(Self(message.into()))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// A flag that was given, whose value is optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flag {
    Bare,
    Value(String),
}

impl Args {
    pub(crate) fn new(arguments: impl IntoIterator<Item = String>) -> Self {
        Self(arguments.into_iter().collect())
    }

    /// Removes a flag such as `--check`. Returns `true` if it was given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|argument| argument == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Removes an option with its value, `--images 1000` or `--images=1000`, and parses the value.
    ///
    /// # Errors
    /// [`Usage`] if the value is missing or cannot be parsed.
    pub(crate) fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Box<dyn Error>> {
        let joined = format!("{name}=");
        let Some(at) = self.0.iter().position(|argument| argument == name || argument.starts_with(&joined))
        else {
            return Ok(None);
        };
        let argument = self.0.remove(at);
        let value = match argument.strip_prefix(&joined) {
            Some(value) => value.to_owned(),
            None if at < self.0.len() => self.0.remove(at),
            None => return Err(Usage::error(format!("`{name}` needs a value"))),
        };
        let parsed = value.parse().map_err(|_| Usage::error(format!("`{name}` cannot be `{value}`")))?;
        Ok(Some(parsed))
    }

    /// Removes a flag that may carry a value, `--words` or `--words=NAME`; the value may also be the next argument.
    pub(crate) fn optional_value(&mut self, name: &str) -> Option<Flag> {
        let joined = format!("{name}=");
        let at = self.0.iter().position(|argument| argument == name || argument.starts_with(&joined))?;
        let argument = self.0.remove(at);
        if let Some(value) = argument.strip_prefix(&joined) {
            return Some(Flag::Value(value.to_owned()));
        }
        let follows = self.0.get(at).is_some_and(|next| !next.starts_with('-'));
        Some(if follows { Flag::Value(self.0.remove(at)) } else { Flag::Bare })
    }

    /// Returns all remaining arguments, for a program that parses them itself.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }

    /// Returns the remaining arguments, which must be names.
    ///
    /// # Errors
    /// [`Usage`] with the first unknown flag.
    pub(crate) fn names(self) -> Result<Vec<String>, Box<dyn Error>> {
        match self.0.iter().find(|argument| argument.starts_with('-')) {
            None => Ok(self.0),
            Some(flag) => Err(Usage::error(format!("`{flag}` is not an argument of this command"))),
        }
    }

    /// Checks that no argument remains.
    ///
    /// # Errors
    /// [`Usage`] with the first unknown argument.
    pub(crate) fn finish(self) -> Outcome {
        match self.0.first() {
            None => Ok(()),
            Some(argument) => Err(Usage::error(format!("`{argument}` is not an argument of this command"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_and_options_are_accepted_in_any_order() {
        for text in ["--check --images 7 --seed=9", "--seed 9 --images=7 --check"] {
            let mut args = args(text);
            assert_eq!(args.option::<u64>("--seed").unwrap(), Some(9));
            assert_eq!(args.option::<u64>("--images").unwrap(), Some(7));
            assert_eq!(args.option::<u64>("--cycles").unwrap(), None);
            assert!(args.flag("--check") && !args.flag("--check"));
            args.finish().unwrap();
        }
    }

    #[test]
    fn an_optional_value_may_be_joined_separate_or_absent() {
        let word = || Flag::Value("tells".to_owned());
        for (line, flag) in [("--words", Flag::Bare), ("--words=tells", word()), ("--words tells", word())] {
            let mut args = args(line);
            assert_eq!(args.optional_value("--words"), Some(flag), "{line}");
            args.finish().unwrap();
        }
        let mut two = args("--words --cycles");
        assert_eq!(two.optional_value("--words"), Some(Flag::Bare));
        assert_eq!(two.optional_value("--words"), None);
    }

    #[test]
    fn remaining_arguments_are_names() {
        let mut names = args("one --list two");
        assert!(names.flag("--list"));
        assert_eq!(names.names().unwrap(), ["one", "two"]);
        assert_eq!(
            args("one --lst").names().unwrap_err().to_string(),
            "`--lst` is not an argument of this command"
        );
    }

    #[test]
    fn errors_name_the_argument() {
        assert_eq!(args("--n").option::<u64>("--n").unwrap_err().to_string(), "`--n` needs a value");
        assert_eq!(args("--n x").option::<u64>("--n").unwrap_err().to_string(), "`--n` cannot be `x`");
        let left = args("--nn 1").finish().unwrap_err();
        assert_eq!(left.to_string(), "`--nn` is not an argument of this command");
        assert!(left.is::<Usage>());
    }
}
