//! What protects the machine and the fold: that both do what the design says, and that a log says what happened.

mod head;
mod hostile;
mod log;
mod model;
mod oracle;
mod replay;
mod stories;
mod table;
