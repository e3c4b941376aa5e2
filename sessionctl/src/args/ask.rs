//! Arguments of the verbs that wait inside a session: for an answer, or for a time.

use std::time::Duration;

use clap::Args;
use sessionkit::log::Timestamp;

use super::{duration, moment};

#[derive(Debug, Args)]
#[command(after_help = "Examples (in a script that runs as a session):\n  \
    answer=$(sessionctl ask deploy \"Deploy $v?\" --choices yes,no)\n  \
    sessionctl ask window 'Start now?' --choices yes,no --default no --after 2h\n\n\
    Waits until `sessionctl answer SESSION NAME VALUE` is called, by any process and at any time, also before the question or \
    while the session's owner is dead. Prints the answer. It is recorded: later attempts and retries get it without asking. \
    Exits with 0, and with 125 for failures. docs/steps.md is a guide.")]
pub(crate) struct Ask {
    /// Name of the question; the n-th use of a name in an attempt is a question of its own
    pub(crate) name: String,
    /// Question
    pub(crate) question: String,
    /// Accept only these answers: yes,no
    #[arg(long, value_name = "ANSWERS", value_delimiter = ',')]
    pub(crate) choices: Vec<String>,
    /// Identify the question by this text instead of by the number of its use
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
    /// Use this answer if no other one comes in time
    #[arg(long, value_name = "ANSWER", requires = "after")]
    pub(crate) default: Option<String>,
    /// Wait this long before the default is used
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "default")]
    pub(crate) after: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "sessionctl sleep [OPTIONS] DURATION [NAME]\n       sessionctl sleep [OPTIONS] --until TIME [NAME]",
    after_help = "Examples (in a script that runs as a session):\n  sessionctl sleep 2h cool-down\n  \
    sessionctl sleep --until 2026-12-24T18:00:00Z\n\n\
    The wake-up time is recorded once: after a crash, a stop or a reboot the session sleeps for the rest of the time when it is \
    resumed, and not at all if that has passed. Exits with 0, and with 125 for failures. docs/steps.md is a guide."
)]
pub(crate) struct Sleep {
    /// Time to sleep, such as 90s, 10m or 2h 30m; without it with --until
    #[arg(value_name = "DURATION", required_unless_present = "until")]
    first: Option<String>,
    /// Name of the sleep; the n-th use of a name in an attempt is a sleep of its own [default: sleep]
    #[arg(value_name = "NAME")]
    second: Option<String>,
    /// Sleep until this time (2026-12-24T18:00:00Z, in UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,
    /// Identify the sleep by this text instead of by the number of its use
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
}

/// The end of a sleep, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SleepEnd {
    After(Duration),
    Until(Timestamp),
}

impl Sleep {
    /// Returns the name and the end. With `--until`, the name is the first word.
    ///
    /// # Errors
    /// A text about a word that is no duration, or one too many.
    pub(crate) fn parse(&self) -> Result<(&str, SleepEnd), String> {
        const NAME: &str = "sleep";
        let [first, second] = [&self.first, &self.second].map(Option::as_deref);
        match (self.until, first, second) {
            (Some(until), name, None) => Ok((name.unwrap_or(NAME), SleepEnd::Until(until))),
            (Some(_), ..) => Err("a sleep has either a duration or --until".to_owned()),
            (None, Some(text), name) => {
                let after = duration(text).map_err(|error| format!("`{text}`: {error}"))?;
                Ok((name.unwrap_or(NAME), SleepEnd::After(after)))
            }
            (None, None, _) => Err("a sleep needs a duration or --until".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(words: [Option<&str>; 2], until: Option<Timestamp>) -> Sleep {
        let [first, second] = words.map(|word| word.map(str::to_owned));
        Sleep { first, second, until, key: None }
    }

    #[test]
    fn the_name_of_a_sleep_is_the_second_word_or_the_first() {
        let minute = SleepEnd::After(Duration::from_secs(60));
        assert_eq!(sleep([Some("1m"), None], None).parse(), Ok(("sleep", minute)));
        assert_eq!(sleep([Some("1m"), Some("cool")], None).parse(), Ok(("cool", minute)));
        let at = Timestamp::from_millis(5).unwrap();
        assert_eq!(sleep([None, None], Some(at)).parse(), Ok(("sleep", SleepEnd::Until(at))));
        assert_eq!(sleep([Some("cool"), None], Some(at)).parse(), Ok(("cool", SleepEnd::Until(at))));
        assert!(sleep([Some("1m"), Some("cool")], Some(at)).parse().is_err());
        assert!(
            sleep([Some("cool"), None], None).parse().unwrap_err().starts_with("`cool`: expected a duration")
        );
    }
}
