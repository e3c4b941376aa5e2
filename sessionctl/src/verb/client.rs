//! The parts that the clients of a session's owner share: `step`, `each`, `ask` and `sleep`.

mod connection;
mod messages;
mod place;

pub(super) use self::connection::{Connection, encoded, gone, received, unexpected};
pub(super) use self::messages::{DECISIONS, Named, answer_line, is_off, shown};
pub(crate) use self::messages::{TROUBLE, item_name};
pub(super) use self::place::socket;
