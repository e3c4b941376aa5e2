//! The channels between an each and its owner.

use sessionkit::workflow::protocol::{ClientMessage, ServerMessage};
use tokio::sync::mpsc;

use crate::error::Result;

/// The other ends of an owner's channels.
pub(super) struct Channels {
    pub(super) messages: mpsc::Receiver<ClientMessage>,
    pub(super) items: mpsc::Receiver<ClientMessage>,
    pub(super) replies: mpsc::UnboundedSender<Result<ServerMessage>>,
}
