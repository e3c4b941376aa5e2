//! What protects the records: that a line is one, that a log cannot be changed unnoticed, that every log of every
//! released format reads for ever.

mod damage;
mod fixtures;
mod form;
mod limits;
mod stranger;
mod support;
