//! The handling of requests by an owner.

/// The handling of pause and resume requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestHandling {
    /// The manager handles them immediately, because no running work has to pause first.
    Immediate = 0,
    /// The work handles them in its next session call.
    AtNextCall = 1,
    /// The embedding program handles them: it watches [`Session::requests`](crate::Session::requests), and calls
    /// [`Session::pause`](crate::Session::pause) and [`Session::resume`](crate::Session::resume).
    External = 2,
}

impl RequestHandling {
    pub(super) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::AtNextCall,
            2 => Self::External,
            _ => Self::Immediate,
        }
    }
}
