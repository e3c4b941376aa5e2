//! The arguments of a command: flags and options in any order, each taken once, nothing left over.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::Outcome;

/// What was typed behind a command's name. Take each flag and option, then call [`finish`](Self::finish).
#[derive(Debug)]
pub(crate) struct Args(Vec<String>);

/// The command was called wrongly.
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

impl Args {
    pub(crate) fn new(arguments: impl IntoIterator<Item = String>) -> Self {
        Self(arguments.into_iter().collect())
    }

    /// Takes a flag such as `--check`; whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|argument| argument == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes an option with its value, `--images 1000` or `--images=1000`.
    ///
    /// # Errors
    /// [`Usage`] where the value is missing or cannot be read.
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

    /// All that nobody took, for a program that looks at it itself.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }

    /// All that is left: names, not flags.
    ///
    /// # Errors
    /// [`Usage`] that names the first flag that nobody took.
    pub(crate) fn names(self) -> Result<Vec<String>, Box<dyn Error>> {
        match self.0.iter().find(|argument| argument.starts_with('-')) {
            None => Ok(self.0),
            Some(flag) => Err(Usage::error(format!("`{flag}` is not understood here"))),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`Usage`] that names the first argument that nobody took.
    pub(crate) fn finish(self) -> Outcome {
        match self.0.first() {
            None => Ok(()),
            Some(argument) => Err(Usage::error(format!("`{argument}` is not understood here"))),
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
    fn flags_and_options_come_in_any_order() {
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
    fn what_is_left_are_names_and_no_flags() {
        let mut names = args("one --list two");
        assert!(names.flag("--list"));
        assert_eq!(names.names().unwrap(), ["one", "two"]);
        assert_eq!(args("one --lst").names().unwrap_err().to_string(), "`--lst` is not understood here");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(args("--n").option::<u64>("--n").unwrap_err().to_string(), "`--n` needs a value");
        assert_eq!(args("--n x").option::<u64>("--n").unwrap_err().to_string(), "`--n` cannot be `x`");
        let left = args("--nn 1").finish().unwrap_err();
        assert_eq!(left.to_string(), "`--nn` is not understood here");
        assert!(left.is::<Usage>());
    }
}
