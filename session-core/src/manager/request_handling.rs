//! The handling of requests by an owner.

/// The handling of requests (pause, resume, cancel) by the owner of a session.
///
/// | | a pause request | a cancel request |
/// |---|---|---|
/// | `AtNextCall` | paused once the work makes its next session call | cancelled immediately |
/// | `Immediate` | paused immediately | cancelled immediately |
/// | `Cooperative` | paused once the work makes its next session call | cancelled once the work ends; if forced, immediately |
/// | `External` | by the embedding program | by the embedding program |
///
/// In every case the work's [`cancellation`](crate::Session::cancellation) token is cancelled as soon as the request is
/// known: immediately for a request by the same manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestHandling {
    /// The default of [`start_session`](crate::SessionManager::start_session). The session is paused only when its work
    /// really has stopped: in a session call, or in [`Session::paused`](crate::Session::paused). Until then the request
    /// is pending.
    #[default]
    AtNextCall = 0,
    /// For work that never calls its session and so can be paused at any time: the session is paused on request, and
    /// the work has to watch its state.
    Immediate = 1,
    /// For work that cleans up after a cancellation and then ends its session itself.
    /// [`run`](crate::SessionManagerExt::run) sets it.
    Cooperative = 2,
    /// The embedding program handles them: it watches [`Session::requests`](crate::Session::requests), and calls
    /// [`Session::pause`](crate::Session::pause), [`Session::resume`](crate::Session::resume) and
    /// [`Session::cancel`](crate::Session::cancel).
    External = 3,
}

impl RequestHandling {
    pub(super) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Immediate,
            2 => Self::Cooperative,
            3 => Self::External,
            _ => Self::AtNextCall,
        }
    }

    /// Returns `true` if the manager answers a cancel request by ending the session.
    pub(super) const fn manager_cancels(self, force: bool) -> bool {
        match self {
            Self::AtNextCall | Self::Immediate => true,
            Self::Cooperative => force,
            Self::External => false,
        }
    }

    /// Returns `true` if the manager answers a pause request.
    pub(super) const fn manager_pauses(self) -> bool {
        matches!(self, Self::Immediate)
    }

    /// Returns `true` if a session call of the work answers a pause request.
    pub(super) const fn work_pauses(self) -> bool {
        matches!(self, Self::AtNextCall | Self::Cooperative)
    }

    /// Returns `true` if the manager enforces the deadline and answers resume requests.
    pub(super) const fn managed(self) -> bool {
        !matches!(self, Self::External)
    }
}
